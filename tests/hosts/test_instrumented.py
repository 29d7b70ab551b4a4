"""Sites whose packages watch the database or requests: all webhooks stored, handlers called once.

Each site is set up as its package's README says, and keeps its connections, as ours recommends. The
webhooks come over HTTP, into the process that the package has instrumented.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.fresh_project import FreshProject
from tests.pages import ROOT
from tests.stress.databases import start_service

pytestmark = pytest.mark.hosts

WEBHOOKS = 12
"""Of each kind: on a kept connection PostgreSQL's statement is prepared from the fifth on."""

PACKAGES = (
    "django-cachalot",
    "django-debug-toolbar",
    "django-pghistory",
    "django-prometheus",
    "django-silk",
    "gunicorn",
    "opentelemetry-instrumentation-django",
    "opentelemetry-instrumentation-psycopg",
    "opentelemetry-sdk",
    "psycopg[binary]",
    "sentry-sdk",
)

COMMON = """\
INSTALLED_APPS += ["cellcast_django", "cellcast_django.desk", "shop"]
ALLOWED_HOSTS = ["127.0.0.1"]
CELLCAST_WEBHOOK_SECRETS = ["cellcast:a-password-for-tests"]
DEBUG = False
"""

DATABASES = {
    "postgresql": """\
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "{name}",
    "USER": "postgres",
    "HOST": "127.0.0.1",
    "PORT": {port},
    "CONN_MAX_AGE": 60,
    "CONN_HEALTH_CHECKS": True,
    "OPTIONS": {{"options": "-c lock_timeout=2s"}},
}}}}
""",
    "sqlite": """\
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": BASE_DIR / "{name}.sqlite3",
    "CONN_MAX_AGE": 60,
    "OPTIONS": {{
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }},
}}}}
""",
}


class Site(NamedTuple):
    """One package: its settings, its URLs, and what it says that it has seen."""

    settings: str
    urls: str = ""
    start: str = ""
    """Runs before Django is set up."""
    seen: str = "None"
    """An expression: how many of the webhooks the package has recorded with their statements."""
    database: str = "postgresql"


SITES = {
    # It puts a query before each statement; after one the level cannot be set any more.
    "pghistory": Site(
        'INSTALLED_APPS += ["pgtrigger", "pghistory"]\n'
        'MIDDLEWARE += ["pghistory.middleware.HistoryMiddleware"]\n'
        'OPTIONS = DATABASES["default"]["OPTIONS"]\n'
        'OPTIONS["options"] += " -c default_transaction_isolation=serializable"\n'
    ),
    "cachalot": Site('INSTALLED_APPS += ["cachalot"]\n'),
    "silk": Site(
        'INSTALLED_APPS += ["silk"]\n'
        'MIDDLEWARE = ["silk.middleware.SilkyMiddleware", *MIDDLEWARE]\n',
        urls='path("silk/", include("silk.urls", namespace="silk"))',
        seen='__import__("silk.models").models.Request.objects.filter(method="POST").count()',
    ),
    "debug-toolbar": Site(
        "DEBUG = True\n"
        'INSTALLED_APPS += ["debug_toolbar"]\n'
        'MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware", *MIDDLEWARE]\n'
        'INTERNAL_IPS = ["127.0.0.1"]\n'
        'DEBUG_TOOLBAR_CONFIG = {"RESULTS_CACHE_SIZE": 100}\n',
        urls='path("__debug__/", include("debug_toolbar.urls"))',
        seen="with_statement(toolbar_requests())",
    ),
    "prometheus": Site(
        'INSTALLED_APPS += ["django_prometheus"]\n'
        'MIDDLEWARE = ["django_prometheus.middleware.PrometheusBeforeMiddleware", *MIDDLEWARE,\n'
        '    "django_prometheus.middleware.PrometheusAfterMiddleware"]\n'
        'ENGINE = DATABASES["default"]["ENGINE"]\n'
        'DATABASES["default"]["ENGINE"] = ENGINE.replace("django.db", "django_prometheus.db")\n',
        urls='path("", include("django_prometheus.urls"))',
        seen="min(counted_by_prometheus(), 48)",
    ),
    "sentry": Site(
        "",
        start="start_sentry()",
        seen="with_statement(sentry_transactions())",
        database="sqlite",
    ),
    "opentelemetry": Site("", start="start_opentelemetry()", seen="with_statement(otel_traces())"),
}

HANDLERS = """\
from django.db import connection

from cellcast_django.models import Message
from cellcast_django.signals import message_received, opt_out_received, status_changed

calls = []
stale = []


def note(name, message=None):
    calls.append(name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM cellcast_django_message")
        [stored] = cursor.fetchone()
    if Message.objects.count() != stored:
        stale.append(name)
    if message is not None and Message.objects.get(pk=message.pk).status != message.status:
        stale.append(name)


def received(message, **_): note("message_received", message)
def changed(message, **_): note("status_changed", message)
def opted_out(contact, **_): note("opt_out_received")


message_received.connect(received)
status_changed.connect(changed)
opt_out_received.connect(opted_out)
"""

APPS = """\
from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        from shop import handlers
"""

URLS = """\
from django.contrib import admin
from django.http import JsonResponse
from django.urls import include, path

from cellcast_django.models import Message, OptOut, WebhookEvent


def rows(request):
    '''What the ORM says in the process, and on the connection, that has stored the webhooks.'''
    return JsonResponse({{
        "messages": Message.objects.count(),
        "delivered": Message.objects.delivered().count(),
        "opt-outs": OptOut.objects.active().count(),
        "done": WebhookEvent.objects.done().count(),
    }})


urlpatterns = [path("sms/", include("cellcast_django.urls")), path("rows", rows),
    path("admin/", admin.site.urls), {more}]
"""

DRIVE = """\
import base64, gzip, json, os, sys, threading
from collections import Counter
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from wsgiref.simple_server import WSGIRequestHandler, make_server

settings, webhooks, start, seen = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ["DJANGO_SETTINGS_MODULE"] = settings
EVENT = "cellcast_django_webhookevent"
envelopes = []


class Tracker(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        envelopes.append(body.decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments): pass


def serve(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def start_sentry():
    import sentry_sdk
    port = serve(HTTPServer(("127.0.0.1", 0), Tracker))
    sentry_sdk.init(dsn=f"http://key@127.0.0.1:{port}/1", traces_sample_rate=1.0)


def start_opentelemetry():
    global exporter
    from opentelemetry import trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument()
    PsycopgInstrumentor().instrument(enable_commenter=True)


exec(start)
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
from cellcast_django import testing
from shop import handlers


def with_statement(texts):
    '''How many of these records of a request name the table that every webhook writes.'''
    return sum(EVENT in text for text in texts)


def sentry_transactions():
    import sentry_sdk
    sentry_sdk.flush()
    return [each for each in envelopes if '"type":"transaction"' in each and "/rows" not in each]


def otel_traces():
    spans = {}
    for span in exporter.get_finished_spans():
        text = str(span.attributes.get("db.statement") or span.attributes.get("db.query.text"))
        spans[span.context.trace_id] = spans.get(span.context.trace_id, "") + text
    return [text for text in spans.values() if "INSERT" in text]


def toolbar_requests():
    from debug_toolbar.store import get_store
    store = get_store()
    texts = [json.dumps(store.panel(key, "SQLPanel")) for key in store.request_ids()]
    return [text for text in texts if "INSERT" in text]


def counted_by_prometheus():
    from django_prometheus.db import execute_total
    samples = [sample for metric in execute_total.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments): pass


# One thread answers all requests, on one connection to the database.
port = serve(make_server("127.0.0.1", 0, application, handler_class=Quiet))
cookie = ""
header = "Basic " + base64.b64encode(b"cellcast:a-password-for-tests").decode()


def send(path, payload=None):
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    body = None if payload is None else json.dumps(payload)
    headers = {"Authorization": header, "Content-Type": "application/json", "Cookie": cookie}
    connection.request("GET" if body is None else "POST", path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


statuses = Counter()
for number in range(webhooks):
    payloads = [
        ("status", testing.status_payload(_id=f"report {number}")),
        ("receiver", testing.reply_payload(_id=f"reply {number}", sender=f"+614915700{number:02}")),
        ("receiver", testing.reply_payload(
            _id=f"stop {number}", sender=f"+614915701{number:02}", message="STOP")),
        ("status", [
            testing.status_payload(_id=f"array {number}"),
            testing.reply_payload(_id=f"array {number}", sender=f"+614915702{number:02}"),
        ]),
    ]
    for url, payload in payloads:
        status, _ = send(f"/sms/webhook-{url}", payload)
        statuses[status] += 1
print(json.dumps({
    "statuses": statuses,
    "rows": json.loads(send("/rows")[1]),
    "calls": Counter(handlers.calls),
    "stale": handlers.stale,
    "seen": eval(seen),
}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> FreshProject:
    folder = tmp_path_factory.mktemp("instrumented")
    project = FreshProject(folder, "django>=6.1,<6.2", str(ROOT), *PACKAGES)
    project.write("shop/handlers.py", HANDLERS)
    project.write("shop/apps.py", APPS)
    project.write("drive.py", DRIVE)
    return project


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The port of a PostgreSQL server."""
    process, url = start_service("postgresql", "TEST_DATABASE_URL")
    yield url.rpartition("/")[0].rpartition(":")[2]
    process.communicate(timeout=60)


def drive(project: FreshProject, name: str, port: str) -> dict[str, Any]:
    """Set the site up, send the webhooks, and return what came of them."""
    site, module = SITES[name], name.replace("-", "_")
    own_database = f"site_{module}"
    if site.database == "postgresql":
        create = (
            "import psycopg, sys; psycopg.connect(sys.argv[1], autocommit=True)"
            f".execute('CREATE DATABASE {own_database}')"
        )
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        project.run("python", "-c", create, url)
    settings = [
        "from shop.settings import *",
        DATABASES[site.database].format(name=own_database, port=port),
        COMMON,
        f'ROOT_URLCONF = "shop.urls_{module}"',
        site.settings,
    ]
    project.write(f"shop/{module}.py", "\n".join(settings))
    project.write(f"shop/urls_{module}.py", URLS.format(more=site.urls))
    project.manage("migrate", "--settings", f"shop.{module}")
    arguments = (f"shop.{module}", str(WEBHOOKS), site.start, site.seen)
    return dict(json.loads(project.run("python", "drive.py", *arguments).splitlines()[-1]))


@pytest.mark.parametrize("name", SITES)
def test_webhooks_are_stored_and_handlers_called_once(
    project: FreshProject, server: str, name: str
) -> None:
    result = drive(project, name, server)
    assert result["statuses"] == {"200": 4 * WEBHOOKS}
    assert result["rows"] == {
        "messages": 5 * WEBHOOKS,
        "delivered": 2 * WEBHOOKS,
        "opt-outs": WEBHOOKS,
        "done": 5 * WEBHOOKS,
    }
    assert result["calls"] == {
        "message_received": 3 * WEBHOOKS,
        "status_changed": 2 * WEBHOOKS,
        "opt_out_received": WEBHOOKS,
    }
    assert not result["stale"], "a handler asked the ORM and was told an older status"
    assert result["seen"] in (None, 4 * WEBHOOKS)
    if name == "sentry":
        assert leaks(project) == {}


READ_PAGES = """\
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.opt_outs import opt_out

NUMBER = "61491570156"
send("/sms/webhook-receiver", testing.reply_payload(sender=f"+{NUMBER}", message="A SECRET text"))
send("/sms/webhook-status", testing.status_payload(
    _id="failed", receiver=f"+{NUMBER}", status="failed", reason="A SECRET reason"))
opt_out("+61491570157", note="A SECRET note")
staff = Client()
staff.force_login(User.objects.create_superuser("staff"))
cookie = f"sessionid={staff.cookies['sessionid'].value}"
pages = [reverse("admin:app_list", args=["cellcast_django"])]
for model in (Message, StatusChange, WebhookEvent, OptOut):
    name = f"admin:cellcast_django_{model._meta.model_name}"
    pages += [reverse(f"{name}_changelist")]
    pages += [reverse(f"{name}_change", args=[row.pk]) for row in model.objects.all()]
reply = Message.objects.inbound().get(body__contains="SECRET")
pages += [
    reverse("admin:cellcast_django_message_conversation", args=[reply.pk]),
    reverse("admin:cellcast_django_message_to_answer"),
    reverse("admin:cellcast_django_overview"),
    reverse("admin:cellcast_django_setup"),
    *(reverse("admin:cellcast_django_optout_end", args=[row.pk]) for row in OptOut.objects.all()),
]
leaks = {}
for page in pages:
    envelopes.clear()
    status, _ = send(page)
    assert status == 200, (page, status)
    assert sentry_transactions(), page
    text = "".join(envelopes)
    if "SECRET" in text or NUMBER in text or NUMBER[2:] in text or "61491570157" in text:
        leaks[page] = [each for each in ("SECRET", NUMBER, "61491570157") if each in text]
print(json.dumps(leaks))
"""


def leaks(project: FreshProject) -> Any:
    """Open the pages, and return what the error tracker gets of numbers and texts.

    With tracing, Sentry keeps the context of each template, and turns strings in it to text.
    """
    project.write("read_pages.py", DRIVE.partition("statuses = Counter()")[0] + READ_PAGES)
    arguments = ("shop.sentry", "0", SITES["sentry"].start, "None")
    return json.loads(project.run("python", "read_pages.py", *arguments).splitlines()[-1])
