"""A database that is older than the code: whoever looks for the reason is told to migrate."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, ProgrammingError, connection, models
from django.test import Client
from django.urls import reverse

from cellcast_django import receiving
from cellcast_django.database.transactions import OLD_TABLES, hint_of
from cellcast_django.models import Claim, HandlerCall, Message, WebhookEvent
from cellcast_django.signals import status_changed
from cellcast_django.testing import WebhookClient
from tests.database_faults import refusing
from tests.handlers import Calls, connected
from tests.pages import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

OVERVIEW = "admin:cellcast_django_overview"


@contextmanager
def older(model: type[models.Model], column: str = "") -> Iterator[None]:
    """Let the table be without the column, or not be there."""
    table = model._meta.db_table
    before, after = (f"COLUMN {column} TO", "older") if column else ("TO", f"older_{table}")
    back = f"COLUMN older TO {column}" if column else f"TO {table}"
    connection.cursor().execute(f"ALTER TABLE {table} RENAME {before} {after}")
    try:
        yield
    finally:  # with a new cursor, since a failed write ends the session
        connection.cursor().execute(f"ALTER TABLE {table if column else after} RENAME {back}")


@pytest.mark.parametrize(
    ("model", "column", "code", "still"),
    [(Message, "reference", 200, 1), (Message, "", 200, 1), (WebhookEvent, "received_as", 503, 0)],
)
def test_log_command_and_overview_say_why_a_webhook_is_not_stored(
    client: WebhookClient,
    reader: Client,
    caplog: pytest.LogCaptureFixture,
    model: type[models.Model],
    column: str,
    code: int,
    still: int,
) -> None:
    with older(model, column):
        assert client.status().status_code == code
        assert OLD_TABLES in caplog.records[0].getMessage()
        with pytest.raises(CommandError, match=OLD_TABLES):
            call_command("cellcast_status", stdout=StringIO())
        assert reader.get(reverse(OVERVIEW), follow=True).content.decode().count(OLD_TABLES) == 1
        caplog.clear()
        receiving.read_due()
        assert [OLD_TABLES in each.getMessage() for each in caplog.records] == [True] * still
    call_command("cellcast_status", stdout=StringIO())
    assert OLD_TABLES not in reader.get(reverse(OVERVIEW)).content.decode()


def test_missing_table_of_the_host_projects_is_not_ours(client: WebhookClient) -> None:
    with connected(status_changed, handler=Calls(error=OperationalError("no such table: shop"))):
        client.status()
    assert HandlerCall.objects.get().error == "OperationalError: no such table: shop"


def test_overview_hides_no_other_error(reader: Client) -> None:
    with refusing("1 = 0"), pytest.raises(DatabaseError):
        reader.get(reverse(OVERVIEW))


def test_troubleshooting_has_the_line_of_the_log() -> None:
    assert OLD_TABLES in (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")


def test_command_says_so_where_no_webhook_has_met_it() -> None:
    with older(Claim), pytest.raises(CommandError, match=OLD_TABLES):
        call_command("cellcast_status", "--json", stdout=StringIO())


def caused_by(error: Exception, *arguments: Any, **attributes: Any) -> Exception:
    error.__cause__ = type("DriversError", (Exception,), attributes)(*arguments)
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (caused_by(ProgrammingError(), sqlstate="42P01"), True),
        (caused_by(ProgrammingError(), pgcode="42703"), True),
        (caused_by(ProgrammingError(), 1146, "Table 'a.b' doesn't exist"), True),
        (caused_by(OperationalError(), 1054, "Unknown column 'a' in 'INSERT INTO'"), True),
        (OperationalError("no such table: a"), True),
        (OperationalError("database is locked"), False),
        (caused_by(OperationalError(), 1205, "Lock wait timeout exceeded"), False),
        (ValueError("no such table"), False),
    ],
)
def test_old_tables_are_known_by_what_each_database_says(error: Exception, expected: bool) -> None:
    assert hint_of(error) == (OLD_TABLES if expected else "")
