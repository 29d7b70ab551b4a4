"""The fast ways are an accelerator: what they do is done without them too."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cellcast_django.inbox.fast import one_statement
from cellcast_django.inbox.fast.plain_statements import columns_of, status_values
from django.apps import apps

from cellcast_django import apps as cellcast_apps, inbox
from cellcast_django.database.vendors import DIALECTS
from cellcast_django.inbox import fast
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.statuses import PRECEDENCE, Status
from cellcast_django.testing import WebhookClient

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
    client.webhook([status_payload(_id=str(number)) for number in range(3)], "status"),
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


def run(folder: Path, site: str = SITE) -> dict[str, object]:
    """Receive some webhooks with the package in this folder, and return what has become of them."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", site],
        cwd=folder,
        capture_output=True,
        check=True,
        text=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.exhaustive
def test_app_works_without_the_accelerators_folder(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    (tmp_path / "urls.py").write_text(URLS)
    with_folder = run(tmp_path)
    assert with_folder.pop("fast ways") == sorted(DIALECTS)
    shutil.rmtree(tmp_path / PACKAGE.name / "inbox" / "fast")
    without = run(tmp_path)
    assert without.pop("fast ways") == []
    assert without == with_folder


NEW_COLUMNS = """
from django.db import models

from cellcast_django.models import Message, StatusChange, WebhookEvent

COLUMNS = {
    Message: ("'new'", models.CharField(max_length=9, db_default="new")),
    StatusChange: ("7", models.IntegerField(db_default=7)),
    WebhookEvent: ("'new'", models.CharField(max_length=9, db_default="new")),
}
for model, (_sql, field) in COLUMNS.items():
    field.contribute_to_class(model, "added")
"""

HOST = (
    SITE.partition("calls = []")[0].replace('"cellcast_django"]', '"cellcast_django", "columns"]')
    + """
from columns.models import COLUMNS
from django.db import connection
from unittest.mock import patch

for model, (sql, field) in COLUMNS.items():
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE {model._meta.db_table} ADD COLUMN added "
            f"{field.db_type(connection)} NOT NULL DEFAULT {sql}"
        )


seen = []


def handler(message, status_change, event, **kwargs):
    seen.append((message.added, status_change.added, event.added))


signals.status_changed.connect(handler)

client = WebhookClient()
responses = [client.status()]
with patch.object(inbox, "FAST_WAYS", {}):
    responses.append(client.status(_id="2"))
print(json.dumps({
    "codes": [response.status_code for response in responses],
    "rows": [list(model.objects.values_list("added", flat=True)) for model in COLUMNS],
    "seen": seen,
}))
"""
)


@pytest.mark.exhaustive
def test_new_column_may_have_its_default_in_the_database_alone(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    (tmp_path / "urls.py").write_text(URLS)
    (tmp_path / "columns").mkdir()
    (tmp_path / "columns" / "__init__.py").touch()
    (tmp_path / "columns" / "models.py").write_text(NEW_COLUMNS)
    found = run(tmp_path, HOST)
    assert found["codes"] == [200, 200]
    assert found["rows"] == [["new"] * 2, [7] * 2, ["new"] * 2]
    assert found["seen"] == [["new", 7, "new"]] * 2


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


def test_statement_stays_far_from_the_limit_whatever_is_added() -> None:
    """Four more columns of a message that reports fill in, and thirty more statuses."""
    statement = one_statement._statement(may_be_stored=True)
    a_column = [
        '"own_number", ',
        "%(m_own_number)s, ",
        "own_number = COALESCE(NULLIF(stored.own_number, ''), excluded.own_number), ",
    ]
    assert all(part in statement for part in a_column)
    assert len(statement) + 4 * len("".join(a_column)) <= 4_096
    assert not [status for status in Status.values if f"'{status}'" in statement]


@pytest.mark.usefixtures("way")
@pytest.mark.django_db
def test_thirty_more_statuses_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {f"almost-delivered-{number}": 100 + number for number in range(30)}
    for name, rank in more.items():
        monkeypatch.setitem(PRECEDENCE, name, rank)
    status_values.cache_clear()
    client = WebhookClient()
    for status in ("delivered", *more):
        assert client.status(status=status).status_code == 200
    assert Message.objects.get().status == list(more)[-1]
    status_values.cache_clear()


@pytest.mark.parametrize("status", Status.values)
def test_statement_moves_messages_only_from_lower_statuses(status: str) -> None:
    values = status_values(status)
    moved_from = {
        each
        for each in PRECEDENCE
        if (f"X{each}X" in values["named"]) == values["is_moved_by_named"]
    }
    assert moved_from == {each for each in PRECEDENCE if PRECEDENCE[each] < PRECEDENCE[status]}


def test_statements_write_every_column() -> None:
    statement = one_statement._statement(may_be_stored=True)
    for model in (Message, StatusChange, WebhookEvent):
        for field in columns_of(model):
            assert f'"{field.column}"' in statement
