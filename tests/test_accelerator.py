"""The fast ways are an accelerator: what they do is done without them too."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps

from cellcast_django import apps as cellcast_apps, inbox
from cellcast_django.inbox import fast
from cellcast_django.inbox.fast import one_statement
from cellcast_django.inbox.fast.plain_statements import DIALECTS, columns_of, status_values
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.statuses import PRECEDENCE, Status

PACKAGE = Path(one_statement.__file__).parents[2]

URLS = """
from django.urls import include, path

urlpatterns = [path("sms/", include("cellcast_django.urls"))]
"""

SITE = """
import json
import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    ALLOWED_HOSTS=["*"],
    CELLCAST_WEBHOOK_SECRETS=["cellcast:a-long-enough-password"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "cellcast_django"],
    ROOT_URLCONF="urls",
    USE_TZ=True,
)
django.setup()
call_command("migrate", verbosity=0)

from cellcast_django import inbox, signals
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.testing import WebhookClient, status_payload

calls = []


def handler(event, **kwargs):
    calls.append(event.pk)


for signal in (signals.message_received, signals.status_changed, signals.opt_out_received):
    signal.connect(handler)
client = WebhookClient()
responses = [
    client.status(),
    client.status(),
    client.reply(),
    client.reply(message="STOP"),
    client.reply(message="STOP"),
    client.opt_out(),
    client.opt_out(),
    client.send("webhook-status", [status_payload(_id=str(number)) for number in range(3)]),
]
print(json.dumps({
    "fast ways": sorted(inbox.FAST_WAYS),
    "responses": [response.json() for response in responses],
    "messages": sorted(Message.objects.values_list("direction", "status", "contact", "body")),
    "done": WebhookEvent.objects.done().count(),
    "opt-outs": OptOut.objects.active().count(),
    "calls": calls,
}))
"""


def run(folder: Path) -> dict[str, object]:
    """Receive some webhooks with the package in this folder, and return what has become of them."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SITE],
        cwd=folder,
        capture_output=True,
        check=True,
        text=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.no_cover
def test_app_works_without_the_accelerators_folder(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    (tmp_path / "urls.py").write_text(URLS)
    with_folder = run(tmp_path)
    assert with_folder.pop("fast ways") == ["mysql", "postgresql", "sqlite"]
    shutil.rmtree(tmp_path / PACKAGE.name / "inbox" / "fast")
    without = run(tmp_path)
    assert without.pop("fast ways") == []
    assert without == with_folder


@pytest.mark.parametrize("is_there", [True, False])
def test_accelerator_registers_itself_if_present(
    monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    monkeypatch.setattr(inbox, "FAST_WAYS", {})
    monkeypatch.setattr(inbox, "fast", fast)  # the import below replaces it
    monkeypatch.delitem(sys.modules, fast.__name__)
    if not is_there:
        monkeypatch.setattr(cellcast_apps, "find_spec", lambda name: None)

    apps.get_app_config("cellcast_django").ready()

    assert bool(inbox.FAST_WAYS) == is_there


def test_psycopg_caches_the_parsed_statement() -> None:
    """It does so with at most 4,096 characters and 50 values."""
    statement = one_statement._statement(may_be_stored=True)
    assert len(statement) <= 4_096
    assert len(set(re.findall(r"%\((\w+)\)s", statement))) <= 50


def test_statement_length_does_not_depend_on_the_statuses() -> None:
    statement = one_statement._statement(may_be_stored=True)
    assert not [status for status in Status.values if f"'{status}'" in statement]


@pytest.mark.parametrize("status", Status.values)
def test_statement_moves_messages_only_from_lower_statuses(status: str) -> None:
    values = status_values(status)
    moved_from = {
        each
        for each in PRECEDENCE
        if (f"X{each}X" in values["listed"]) == values["is_moved_by_listed"]
    }
    assert moved_from == {each for each in PRECEDENCE if PRECEDENCE[each] < PRECEDENCE[status]}


def test_statements_write_every_column() -> None:
    statement = one_statement._statement(may_be_stored=True)
    for model in (Message, StatusChange, WebhookEvent):
        for field in columns_of(model):
            assert f'"{field.column}"' in statement


def test_every_accelerated_database_has_a_dialect() -> None:
    assert set(inbox.FAST_WAYS) == set(DIALECTS)
