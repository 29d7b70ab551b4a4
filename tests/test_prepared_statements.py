"""Statements for PostgreSQL: prepared on a connection that lasts, unless a pooler shares it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DatabaseError, ProgrammingError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from cellcast_django.database import prepared_statements
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.signals import status_changed
from cellcast_django.testing import WebhookClient
from tests.handlers import Listen

psycopg = pytest.importorskip("psycopg")
pytestmark = [
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL prepares"),
    pytest.mark.django_db(transaction=True),
]

TABLES = [model._meta.db_table for model in (Message, StatusChange, WebhookEvent)]


@pytest.fixture(autouse=True)
def _new_connection() -> Iterator[None]:
    connection.close()
    yield
    connection.close()


def send(number: int) -> None:
    """Send this many delivery reports, each on its own message, and check that they are stored."""
    before = Message.objects.count()
    for n in range(number):
        assert WebhookClient().status(_id=f"{before + n}").status_code == 200
    assert Message.objects.count() == before + number


def send_stops(number: int) -> None:
    """Send this many replies that opt out, each of its own contact, and check that all do."""
    before = OptOut.objects.count()
    for n in range(before, before + number):
        assert WebhookClient().reply(sender=f"+614000000{n:02}", message="STOP").status_code == 200
    assert OptOut.objects.active().count() == before + number


def statements_prepared() -> list[str]:
    """Return the first words of each statement prepared for this connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time")
        return [statement.split()[0] for (statement,) in cursor.fetchall()]


def test_short_lived_connection_prepares_nothing() -> None:
    send(prepared_statements.PREPARE_AFTER - 1)
    assert statements_prepared() == []


def test_long_lived_connection_prepares_each_statement_once(
    listen: Listen,
) -> None:
    listen(status_changed)
    send(prepared_statements.PREPARE_AFTER + 3)
    assert sorted(statements_prepared()) == ["UPDATE", "WITH"]


def test_another_threads_connection_is_refused() -> None:
    send(prepared_statements.PREPARE_AFTER)
    mine = connections["default"]
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(prepared_statements.execute, mine, "SELECT 1", {})
        with pytest.raises(DatabaseError, match="thread"):
            call.result()


def test_new_connection_prepares_again() -> None:
    send(prepared_statements.PREPARE_AFTER)
    connection.close()
    assert statements_prepared() == []
    send(prepared_statements.PREPARE_AFTER)
    assert statements_prepared() == ["WITH"]


def test_host_projects_statements_are_not_prepared() -> None:
    send(prepared_statements.PREPARE_AFTER)
    for _ in range(10):
        psycopg.Cursor(connection.connection).execute("SELECT 1 + %s", (1,))
    assert statements_prepared() == ["WITH"]


def test_stop_prepares_its_statements_in_its_own_transaction() -> None:
    send_stops(prepared_statements.PREPARE_AFTER + 3)
    assert sorted(statements_prepared()) == ["INSERT", "INSERT", "UPDATE", "WITH"]


def test_stop_is_stored_after_a_pooler_loses_its_statements() -> None:
    send_stops(prepared_statements.PREPARE_AFTER)
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")  # psycopg does not see it
    send_stops(1)
    assert statements_prepared() == []


def test_nothing_is_prepared_inside_a_transaction() -> None:
    send(prepared_statements.PREPARE_AFTER)
    connection.close()
    with transaction.atomic():
        for _ in range(10):
            prepared_statements.execute(connection, "SELECT 1", {})
    assert statements_prepared() == []


def test_nothing_is_prepared_if_settings_mention_a_pooler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    send(10)
    assert statements_prepared() == []


def test_nothing_is_prepared_if_another_process_greeted_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("psycopg.ConnectionInfo.backend_pid", 1)
    send(10)
    assert statements_prepared() == []


def test_statement_lost_by_the_session_is_sent_unprepared() -> None:
    send(prepared_statements.PREPARE_AFTER)
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")  # psycopg does not see it
    send(10)
    assert statements_prepared() == []


def test_statement_name_taken_by_another_process_is_sent_unprepared() -> None:
    send(1)
    with connection.cursor() as cursor:
        cursor.execute("PREPARE _pg3_0 AS SELECT 'of another process'")
    send(10)
    assert statements_prepared() == ["PREPARE"]


@pytest.mark.parametrize("sent", [prepared_statements.PREPARE_AFTER - 1, 10])
def test_lost_connection_loses_no_webhook(sent: int) -> None:
    send(sent)
    backend = connection.connection.info.backend_pid
    with connection.copy().cursor() as other:
        other.execute("SELECT pg_terminate_backend(%s)", [backend])
        other.db.close()
    assert WebhookClient().status(_id="after").json()["events"][0]["outcome"] == "stored"
    assert Message.objects.filter(cellcast_id="after").exists()


@pytest.fixture
def _wider_column() -> Iterator[None]:
    """Restore the column that a test widens."""
    yield
    length = Message._meta.get_field("status").max_length
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLES[0]} ALTER COLUMN status TYPE varchar({length})")


@pytest.mark.usefixtures("_wider_column")
def test_widening_a_column_loses_no_webhook() -> None:
    send(prepared_statements.PREPARE_AFTER)
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLES[0]} ALTER COLUMN status TYPE varchar(200)")
    other.close()
    send(1)


def test_query_log_shows_the_whole_statement() -> None:
    send(prepared_statements.PREPARE_AFTER)
    with CaptureQueriesContext(connection) as queries:
        prepared_statements.execute(connection, "SELECT %(number)s", {"number": 7})
    assert [query["sql"] for query in queries] == ["SELECT 7"]


def test_other_errors_are_raised() -> None:
    send(prepared_statements.PREPARE_AFTER)
    executed = []

    def note(execute: Any, sql: str, *others: Any) -> Any:
        executed.append(sql)
        return execute(sql, *others)

    with connection.execute_wrapper(note), pytest.raises(ProgrammingError):
        prepared_statements.execute(connection, "rubbish", {})
    assert executed == ["rubbish"]


# Backends with cursors of their own


TENANTS = ("alpha", "beta")


class Tenants(type(connections["default"])):  # type: ignore[misc]
    """A backend that selects the tenant's schema whenever a cursor is made."""

    schema = "public"

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)
        cursor.execute(f"SET search_path = {self.schema}")
        return cursor


@pytest.fixture
def tenants(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A schema for each of two tenants beside the public one, all with the tables."""
    with connection.cursor() as cursor:
        for schema in TENANTS:
            cursor.execute(f"CREATE SCHEMA {schema}")
            for table in TABLES:
                like = f"(LIKE public.{table} INCLUDING ALL)"
                cursor.execute(f"CREATE TABLE {schema}.{table} {like}")
    monkeypatch.setattr(connections["default"], "__class__", Tenants)
    yield
    monkeypatch.undo()
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA alpha, beta CASCADE")


def rows_of(schema: str) -> list[int]:
    with connection.cursor() as cursor:
        return [
            cursor.execute(f"SELECT count(*) FROM {schema}.{table}").fetchone()[0]  # noqa: S608
            for table in TABLES
        ]


@pytest.mark.usefixtures("tenants")
def test_webhooks_are_stored_in_the_backends_current_schema(
    monkeypatch: pytest.MonkeyPatch, listen: Listen
) -> None:
    listen(status_changed)
    for number in range(20):
        monkeypatch.setattr(Tenants, "schema", TENANTS[number % 2])
        assert WebhookClient().status(_id=f"{number}").status_code == 200
    assert rows_of("alpha") == rows_of("beta") == [10, 10, 10]
    assert rows_of("public") == [0, 0, 0]
    assert statements_prepared() == []


def test_wrapped_cursor_prepares_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cursors = []
    original = connection.cursor

    def cursor() -> Any:
        cursors.append(original())
        return cursors[-1]

    monkeypatch.setattr(connection, "cursor", cursor)
    send(10)
    assert len(cursors) >= 10
    monkeypatch.undo()
    assert statements_prepared() == []


def test_session_with_another_cursor_class_prepares_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenTelemetry gives the session a class of cursors that records what they execute."""
    connection.ensure_connection()
    session = connection.connection
    recording = type("Recording", (session.cursor_factory,), {"__module__": __name__})
    monkeypatch.setattr(session, "cursor_factory", recording)
    send(10)
    assert statements_prepared() == []
