"""Hostile hosts: whatever the project around it does, a webhook is stored and heard."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.stress import oracle
from tests.stress.clients import OPT_OUT, RECEIVE, STATUS, Response, post, send
from tests.stress.databases import Database, Servers
from tests.stress.hosts import Host, Server
from tests.stress.staff import Staff
from tests.stress.test_hostile_connections import LIMIT, chunked, of_size
from tests.stress.test_hostile_input import bodies_of

pytestmark = pytest.mark.stress


class Project(NamedTuple):
    """A host project: how it is made ready and served, and where its pages are."""

    name: str
    serve: str = "gunicorn"
    prefix: str = ""
    admins: tuple[str, ...] = ("/admin/",)
    own_tables: bool = False
    prepare: tuple[tuple[str, ...], ...] = ()


PROJECTS = [
    Project("atomic_requests"),
    Project("another_rest_framework"),
    Project("login_required"),
    Project("body_read_first"),
    Project(
        "second_database",
        own_tables=True,
        prepare=(("migrate", "--database=sms", "--verbosity=0"),),
    ),
    Project("two_admin_sites", admins=("/admin/", "/office/")),
    Project("no_admin", admins=()),
    Project("translated_urls", prefix="/de", admins=("/de/admin/",)),
    Project("small_keys"),
    Project("manifest_static_files", prepare=(("collectstatic", "--noinput", "--verbosity=0"),)),
    Project(
        "custom_user",
        own_tables=True,
        prepare=(("migrate", "--run-syncdb", "--verbosity=0"),),
    ),
    Project("atomic_requests", serve="uvicorn"),
    Project("second_database", serve="granian, asgi"),
]
SERVERS = ["gunicorn", "gunicorn, threads", "uvicorn", "granian, wsgi", "granian, asgi"]
REPLY = {
    "_id": "66b5b93b1e2c012dfe964000",
    "status": "received",
    "type": "receive",
    "message": "Ja, gern 👍",
    "sender": "+61400000002",
    "receiver": "+61400000999",
}


@pytest.fixture
def new_project(
    servers: Servers, new_host: Callable[..., Host], tmp_path: Path
) -> Callable[[Project], Host]:
    """Make a host project with tables: a copy of migrated ones, or its own."""

    def make(project: Project) -> Host:
        plain = new_host("sqlite")
        database = servers.new_database("sqlite")
        host = Host(tmp_path, database, project=f"tests.stress.projects.{project.name}")
        if not project.own_tables:
            for copy in (file_of(database), tmp_path / "default.sqlite3"):
                shutil.copy(file_of(plain.database), copy)
        for command in project.prepare:
            host.manage(*command)
        if project.own_tables:
            host.manage("migrate", "--verbosity=0")
            host.manage("createsuperuser", "--noinput")
        return host

    return make


def file_of(database: Database) -> str:
    """Return the path of a SQLite database."""
    return database.url.removeprefix("sqlite:///")


def serving(host: Host, name: str) -> AbstractContextManager[Server]:
    """Serve the project by the server of this name."""
    if name == "uvicorn":
        return host.uvicorn()
    if name.startswith("granian"):
        return host.granian(name.rpartition(" ")[2])
    options = ["--threads=4"] if name.endswith("threads") else []
    return host.gunicorn(*options, workers=1)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda each: f"{each.name}, {each.serve}")
def test_webhooks_are_stored_and_handled_in_difficult_projects(
    project: Project, new_project: Callable[[Project], Host]
) -> None:
    host = new_project(project)
    if project.serve == "gunicorn":
        host.manage("makemigrations", "--check", "--dry-run")
    with serving(host, project.serve) as server:
        check_every_response(server.port, project.prefix)
        for admin in project.admins:
            check_admin(server.port, admin, project.prefix, host.database)
        if project.name == "manifest_static_files":
            page = Staff(server.port).get("/admin/login/")
            assert re.search(r'href="/static/[\w/]+\.[0-9a-f]{12}\.css"', page.text)
        if project.name == "custom_user":
            check_activity_of_a_person(host, Staff(server.port))
    check_what_is_stored_and_heard(host)
    host.assert_log_is_clean()


def check_activity_of_a_person(host: Host, staff: Staff) -> None:
    """The page narrows to somebody whose key is a UUID."""
    command = "print(Person.objects.get().pk)"
    key = host.manage("shell", "--verbosity=0", "--command", command).strip()
    staff.log_in()
    events = "/admin/cellcast_django/webhookevent"
    taken = staff.post(f"{events}/export/", page=f"{events}/")
    assert taken.status == 200
    assert f'value="{key}" selected' in staff.get(f"{events}/activity/?person={key}").text


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_passes_on_every_kind_of_body(
    name: str, new_host: Callable[..., Host]
) -> None:
    host = new_host("sqlite")
    with serving(host, name) as server:
        check_every_response(server.port, "")
        for body, size in ((of_size(LIMIT), 1_000), (of_size(LIMIT), LIMIT), (of_size(900), 1)):
            response = send(server.port, post(STATUS, chunked(body, size), CHUNKED))
            assert response.status == 200, (len(body), size, response)
            pk = response.json()["events"][0]["id"]
            assert bodies_of(host)[pk].encode() == body
        too_large = chunked(of_size(LIMIT + 1))
        assert send(server.port, post(STATUS, too_large, CHUNKED)).status == 413


CHUNKED = "Transfer-Encoding: chunked"


def check_every_response(port: int, prefix: str) -> None:
    """Go through the responses that are promised."""

    def ask(
        path: str, payload: Any, *headers: str, method: str = "POST", **options: Any
    ) -> Response:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        request = post(prefix + path, body, *headers, **options)
        response = send(port, request.replace(b"POST", method.encode(), 1))
        assert b"\r\ncontent-type: application/json" in response.head.lower(), response
        return response

    def outcome(response: Response) -> str:
        [event] = response.json()["events"]
        return str(event["outcome"])

    for path in (RECEIVE, STATUS, OPT_OUT):
        probe = ask(path, b"", method="GET", authorization=None)
        assert (probe.status, probe.json()) == (200, {})
        refused = ask(path, b"{}" * 1_000, authorization=None)
        assert refused.status == 401
        assert b"\r\nwww-authenticate: basic " in refused.head.lower()
        for method in ("PUT", "DELETE", "OPTIONS"):
            assert ask(path, b"{}", method=method).status == 405

    report = {"_id": "report 1", "type": "send", "status": "delivered", "receiver": "+61400000001"}
    assert outcome(ask(STATUS, report)) == "stored"
    assert outcome(ask(f"{STATUS}/", report)) == "duplicate"
    text = json.dumps(REPLY).encode()
    assert outcome(ask(RECEIVE, chunked(text, 7), CHUNKED)) == "stored"
    assert outcome(ask(RECEIVE, text, content_type="text/xml; charset=zip")) == "duplicate"
    accept = [f"Content-Length: {len(text)}", "Accept: text/html;q=9, application/json; version=1"]
    assert outcome(ask(RECEIVE, text, *accept)) == "duplicate"
    refused_by_database = {"_id": "refuse-first@1+refuse-second@1 2", "status": "failed"}
    assert outcome(ask(STATUS, refused_by_database)) == "stored"
    form = b"type=optout&contact=404000000"
    encoded = "application/x-www-form-urlencoded"
    assert outcome(ask(OPT_OUT, form, content_type=encoded)) == "stored"
    rubbish = ask(STATUS, b"\xff\x00 rubbish")
    assert (rubbish.status, outcome(rubbish)) == (400, "invalid")
    assert rubbish.json()["detail"]
    assert ask(STATUS, of_size(LIMIT)).status == 200
    assert ask(STATUS, of_size(LIMIT + 1)).status == 413


def check_admin(port: int, admin: str, prefix: str, database: Database) -> None:
    """Read the pages of what has come; a forged request with their cookies is no webhook."""
    staff = Staff(port, admin)
    staff.log_in()
    for model in ("message", "webhookevent"):
        assert staff.get(f"{admin}cellcast_django/{model}/").status == 200
    pages = [
        staff.event(pk) for [pk] in database.query("SELECT id FROM cellcast_django_webhookevent")
    ]
    assert {page.status for page in pages} == {200}
    assert sum("\\xff\\x00 rubbish" in page.text for page in pages) == 1
    body = b'{"_id": "report 1", "type": "send", "status": "delivered"}'
    headers = [staff.cookie_header, f"Content-Length: {len(body)}"]
    forged = post(prefix + STATUS, body, *headers, authorization=None)
    assert send(port, forged).status == 401
    with_password = post(prefix + STATUS, body, *headers, "Origin: https://elsewhere.example")
    assert send(port, with_password).status == 200


def check_what_is_stored_and_heard(host: Host) -> None:
    """The database holds what was said, and each handler has heard it."""
    oracle.check_rules(host)
    assert sorted(
        (identity[:2], status) for identity, status in oracle.stored_statuses(host.database)
    ) == [
        (("inbound", REPLY["_id"]), "received"),
        (("outbound", "1"), "delivered"),
        (("outbound", "refuse-first@1+refuse-second@1 2"), "failed"),
        (("outbound", "report 1"), "delivered"),
    ]
    [[body]] = host.database.query(
        "SELECT body FROM cellcast_django_message WHERE direction = 'inbound'"
    )
    assert body == REPLY["message"]
    calls = [call for call in host.calls() if call.phase == "begin"]
    facts = oracle.stored_facts(host.database)
    assert len(facts) == 5
    assert sorted((call.handler, call.fact) for call in calls) == sorted(
        (handler, fact) for handler in oracle.HANDLERS for fact in facts
    )
    failing = host.database.query(
        "SELECT handler, error FROM cellcast_django_handlercall WHERE state <> 'done' ORDER BY id"
    )
    assert [handler for handler, _ in failing] == list(oracle.HANDLERS)
    assert all("there_is_no_such_table" in error for _, error in failing)
