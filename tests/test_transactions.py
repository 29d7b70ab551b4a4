"""Webhooks are stored whatever was left open in the session or is locked in the database."""

import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
from django.db import Error, OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.models import Model
from django.utils import timezone

from cellcast_django.database import rows, transactions
from cellcast_django.database.vendors import VENDORS, Vendor
from cellcast_django.factories import MessageFactory
from cellcast_django.handlers import run_due
from cellcast_django.models import (
    Claim,
    CommandRun,
    Message,
    OptOut,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.receiving import read_due
from cellcast_django.signals import status_changed
from cellcast_django.testing import WebhookClient, status_payload
from tests.handlers import Calls, connected, make_due, outcomes

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _new_session() -> Iterator[None]:
    if transactions.is_in_test(connection):
        yield
        return
    connection.close()
    yield
    transactions.discard(connection)


@pytest.fixture
def other() -> Iterator[BaseDatabaseWrapper]:
    """Another connection to the same database."""
    other = connection.copy()
    yield other
    transactions.discard(other)


def test_autocommit_is_on_where_the_settings_turn_it_off(other: BaseDatabaseWrapper) -> None:
    other.settings_dict["AUTOCOMMIT"] = False
    transactions.ensure_autocommit(other)
    assert other.get_autocommit()


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def abort_a_transaction() -> None:
    run("BEGIN")
    with pytest.raises(Exception, match="nowhere"):
        run("SELECT * FROM nowhere")


def enter_atomic() -> None:
    for _ in range(2):
        transaction.atomic().__enter__()
    assert not Message.objects.exists()


def turn_autocommit_off() -> None:
    connection.set_autocommit(False)
    assert not Message.objects.exists()


LEFT: dict[str, Callable[[], None]] = {
    "BEGIN": lambda: run("BEGIN"),
    "an aborted transaction": abort_a_transaction,
    "an atomic block": enter_atomic,
    "autocommit off": turn_autocommit_off,
}
if connection.vendor == "postgresql":
    LEFT["a read-only session"] = lambda: run("SET default_transaction_read_only = on")
if connection.vendor == "sqlite":
    LEFT["a read-only session"] = lambda: run("PRAGMA query_only = on")


@pytest.mark.parametrize("count", [1, 2], ids=["one event", "an array"])
@pytest.mark.parametrize("leave", LEFT.values(), ids=LEFT)
def test_accepted_webhook_is_committed_despite_leftovers(
    leave: Callable[[], None], count: int, other: BaseDatabaseWrapper
) -> None:
    leave()
    payload = [status_payload(_id=str(each)) for each in range(count)]
    response = WebhookClient().webhook(payload[0] if count == 1 else payload, "status")
    assert response.status_code == 200
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cellcast_django_webhookevent")
        assert cursor.fetchone() == (count,)


@pytest.mark.parametrize(
    "left", ["autocommit off", *(["BEGIN"] if connection.vendor != "mysql" else [])]
)
def test_run_of_handlers_is_committed_despite_leftovers(
    left: str, other: BaseDatabaseWrapper
) -> None:
    """Autocommit may be off in the settings; another task may have left a transaction open.

    MySQL's sessions cannot tell the latter.
    """
    handler = Calls(error=ValueError("no"))
    with connected(status_changed, handler=handler):
        WebhookClient().status()
        make_due(WebhookEvent.objects.get())
        handler.error = None
        run("BEGIN") if left == "BEGIN" else connection.set_autocommit(False)
        run_due()
    with other.cursor() as cursor:
        cursor.execute("SELECT state FROM cellcast_django_handlercall")
        assert cursor.fetchone() == ("done",)


def test_record_of_a_command_is_committed_without_autocommit(other: BaseDatabaseWrapper) -> None:
    connection.set_autocommit(False)
    CommandRun.record(CommandRun.Command.RUN_HANDLERS, {})
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cellcast_django_commandrun")
        assert cursor.fetchone() == (1,)


def test_durable_transaction_cannot_be_nested() -> None:
    inside = transactions.own_transaction("default")
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"), inside:
        pass


# The session behind a connection


# MariaDB's driver does not see a plain BEGIN; there, our own BEGIN commits it.
LEFT_OPEN = pytest.mark.parametrize(
    "leave_open",
    [enter_atomic, turn_autocommit_off, *([LEFT["BEGIN"]] if connection.vendor != "mysql" else [])],
)


@LEFT_OPEN
def test_discarded_session_is_replaced_by_an_idle_one(leave_open: Callable[[], None]) -> None:
    assert transactions.is_idle(connection)
    leave_open()
    assert not transactions.is_idle(connection)
    transactions.discard(connection)
    assert transactions.is_idle(connection)
    assert connection.savepoint_ids == []
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        assert not transactions.is_in_test(connection)
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert transactions.is_idle(connection)


def test_lost_session_can_be_discarded() -> None:
    connection.ensure_connection()
    connection.connection.close()
    assert not transactions.has_transaction(connection)
    transactions.discard(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_session_closed_in_a_transaction_can_be_discarded() -> None:
    enter_atomic()
    connection.set_rollback(True)
    connection.close()
    transactions.discard(connection)
    assert not connection.needs_rollback
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_pooled_session_with_an_open_transaction_is_not_idle() -> None:
    enter_atomic()
    connection.close()
    connection.connection = None  # as close() leaves it where the session is a pool's
    assert not transactions.is_idle(connection)
    assert transactions.has_transaction(connection)
    transactions.discard(connection)
    assert transactions.is_idle(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_discarding_keeps_an_in_memory_databases_rows() -> None:
    settings: dict[str, Any] = {**connection.settings_dict, "OPTIONS": {}}
    database = DatabaseWrapper(settings | {"NAME": ":memory:"}, alias="memory")
    with database.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (id integer)")
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO kept VALUES (1)")
    transactions.discard(database)
    assert transactions.is_idle(database)
    with database.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    database.connection.close()


# Locks


TABLES: list[type[Model]] = [Message, StatusChange, OptOut, WebhookEvent]
if connection.vendor == "sqlite":
    TABLES = [WebhookEvent]  # it has one lock for all
OTHER_WEBHOOKS: dict[str, Callable[[], Any]] = {
    "a report": lambda: WebhookClient().status(_id="0", status="failed"),
    "a reply": lambda: WebhookClient().reply(),
    "a stop": lambda: WebhookClient().reply(message="STOP"),
    "an array": lambda: WebhookClient().webhook(
        [status_payload(_id="0", status="failed"), status_payload(_id="1")], "status"
    ),
}


@pytest.fixture
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits as long as the host's settings say; elsewhere they say nothing here."""
    options = {"timeout": 0.04} if connection.vendor == "sqlite" else {}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)


@pytest.mark.usefixtures("_short_waits")
@pytest.mark.parametrize("send", OTHER_WEBHOOKS.values(), ids=OTHER_WEBHOOKS)
def test_webhook_waits_briefly_for_a_locked_row(
    other: BaseDatabaseWrapper, send: Callable[[], Any]
) -> None:
    for each in OTHER_WEBHOOKS.values():
        each()
    Message.objects.update(status="sent")
    StatusChange.objects.all().delete()
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE cellcast_django_message SET sender = 'held'")
    begun = time.monotonic()
    assert kept(send())
    assert time.monotonic() - begun < 10
    other.close()
    assert stored_at_last(send)


@pytest.mark.usefixtures("_short_waits")
def test_late_webhook_waits_briefly_for_the_reply_that_was_recovered(
    other: BaseDatabaseWrapper,
) -> None:
    """Somebody answers it, say, in a transaction of the host's that goes on."""
    recovered = MessageFactory.create(inbound=True, cellcast_id="", body="Yes")
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE cellcast_django_message SET sender = 'held'")

    def send() -> Any:
        return WebhookClient().reply(sender=recovered.contact, message="Yes")

    begun = time.monotonic()
    assert kept(send())
    assert time.monotonic() - begun < 10
    other.close()
    assert stored_at_last(send)
    assert Message.objects.get().cellcast_id


HAS_ONE_LOCK = connection.vendor == "sqlite"


def kept(response: Any) -> bool:
    """Whether a webhook was deferred; SQLite, where nothing else can be written, refuses it."""
    if HAS_ONE_LOCK:
        return bool(response.status_code == 503)
    return set(outcomes(response)) == {"deferred"}


def stored_at_last(send: Callable[[], Any]) -> bool:
    """Whether what was deferred can be read, and the webhook be stored."""
    count = WebhookEvent.objects.deferred().count()
    is_read = read_due() == count and not WebhookEvent.objects.deferred().exists()
    return is_read and send().status_code == 200


def lock_table(other: BaseDatabaseWrapper, table: str) -> None:
    """Lock a whole table, as a migration or the making of an index does."""
    statements = {
        "sqlite": ["BEGIN IMMEDIATE"],
        "postgresql": ["BEGIN", f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"],
        "mysql": [f"LOCK TABLES {table} WRITE"],
    }
    with other.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)


@pytest.mark.usefixtures("_short_waits")
@pytest.mark.parametrize(("model", "name"), list(zip(cycle(TABLES), OTHER_WEBHOOKS, strict=False)))
def test_webhook_waits_briefly_for_a_locked_table(
    other: BaseDatabaseWrapper, model: type[Model], name: str
) -> None:
    """No limit inside a statement counts: tables are locked when it is planned."""
    send = OTHER_WEBHOOKS[name]
    for _ in range(2):
        assert WebhookClient().status(_id="0").status_code == 200
    before = waits_of_session()
    lock_table(other, model._meta.db_table)
    begun = time.monotonic()
    response = send()
    assert time.monotonic() - begun < 10
    if model is WebhookEvent:
        assert response.status_code == 503
    # An event refers to its message's table; MariaDB also locks what refers to a locked one.
    elif connection.vendor == "postgresql" and model is not Message:
        assert response.status_code == 200
    other.close()
    assert stored_at_last(send)
    assert waits_of_session() == before


@pytest.mark.skipif(connection.vendor != "mysql", reason="InnoDB alone locks gaps")
@pytest.mark.usefixtures("_short_waits")
@pytest.mark.parametrize(
    ("statement", "name", "is_kept"),
    [
        ("DELETE FROM cellcast_django_statuschange WHERE reason LIKE 'x%'", "a report", True),
        ("DELETE FROM cellcast_django_optoutchange WHERE note LIKE 'x%'", "a stop", True),
        ("UPDATE cellcast_django_webhookevent SET kind = '' WHERE body = 'x'", "a reply", False),
    ],
)
def test_webhook_waits_briefly_for_a_gap_that_is_locked(
    other: BaseDatabaseWrapper, statement: str, name: str, is_kept: bool
) -> None:
    """At its default level, by a statement that no index serves; InnoDB would wait 50 seconds."""
    send = OTHER_WEBHOOKS[name]
    before = waits_of_session()
    with other.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("BEGIN")
        cursor.execute(statement)
    begun = time.monotonic()
    response = send()
    assert time.monotonic() - begun < 10
    assert kept(response) if is_kept else response.status_code == 503
    other.close()
    assert stored_at_last(send)
    assert waits_of_session() == before


@pytest.mark.usefixtures("_short_waits")
def test_lock_for_insert_keeps_others_from_inserting(other: BaseDatabaseWrapper) -> None:
    wait_briefly = {
        "sqlite": "SELECT 1",
        "postgresql": "SET lock_timeout = '50ms'",
        "mysql": "SET innodb_lock_wait_timeout = 1",
    }
    with transaction.atomic(), other.cursor() as cursor:
        transactions.lock_for_insert(Claim.objects.filter(key="new"))
        cursor.execute(wait_briefly[connection.vendor])
        with pytest.raises(OperationalError):
            rows.insert(cursor, Claim, {"key": "new", "until": timezone.now()})


def waits_of_session() -> Any:
    """Return the session's own limits for lock waits, and its isolation level."""
    ask = {
        "sqlite": "PRAGMA busy_timeout",
        "postgresql": (
            "SELECT current_setting('lock_timeout'), "
            "current_setting('default_transaction_isolation')"
        ),
        "mysql": "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@tx_isolation",
    }
    with connection.cursor() as cursor:
        cursor.execute(ask[connection.vendor])
        return cursor.fetchone()


def test_own_transaction_begins_by_limiting_itself_but_not_a_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = "UPDATE cellcast_django_message SET reference = 'limited'"
    monkeypatch.setitem(VENDORS, connection.vendor, Vendor(begin_with=begin))
    made = MessageFactory.create()
    with transactions.own_transaction("default"):
        assert Message.objects.get().reference == "limited"
    made.save()
    with transaction.atomic():
        connection.atomic_blocks[-1]._from_testcase = True  # type: ignore[attr-defined]
        with transactions.own_transaction("default"):
            assert Message.objects.get().reference == ""


def test_lost_session_is_noticed_as_a_transaction_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VENDORS, connection.vendor, Vendor(begin_with="no statement"))
    with pytest.raises(Error), transactions.own_transaction("default"):
        raise AssertionError


# Isolation


@pytest.mark.skipif(connection.vendor != "postgresql", reason="elsewhere the level is the host's")
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_own_transaction_reads_committed_rows(
    monkeypatch: pytest.MonkeyPatch, other: BaseDatabaseWrapper, level: str
) -> None:
    """The reply of another contact comes while the transaction is open, and is seen."""
    give_level(monkeypatch, level)
    before = waits_of_session()
    with transactions.own_transaction("default"):
        assert not Message.objects.exists()
        with other.cursor() as cursor:
            cursor.execute(
                "INSERT INTO cellcast_django_optout (contact, source, since, note) "
                "VALUES ('somebody', 'list', CURRENT_TIMESTAMP, '')"
            )
        assert OptOut.objects.exists()
    assert waits_of_session() == before
    if level == "repeatable read":
        with transaction.atomic():
            assert OptOut.objects.exists()
            with other.cursor() as cursor:
                cursor.execute("DELETE FROM cellcast_django_optout")
            assert OptOut.objects.exists(), "the host's own transactions keep the level"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one level")
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_webhooks_are_stored_at_every_isolation_level(
    monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    give_level(monkeypatch, level)
    for send in OTHER_WEBHOOKS.values():
        assert "deferred" not in outcomes(send())


@pytest.mark.skipif(connection.vendor != "postgresql", reason="elsewhere the level is the host's")
def test_webhooks_are_stored_where_a_package_asks_before_each_statement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As django-pghistory does; once something was read, the level cannot be set any more."""

    def ask_first(execute: Callable[..., Any], sql: str, params: Any, *rest: Any) -> Any:
        execute("SELECT set_config('pghistory.context_id', 'x', true)", None, *rest)
        return execute(sql, params, *rest)

    give_level(monkeypatch, "serializable")
    with connection.execute_wrapper(ask_first):
        for send in OTHER_WEBHOOKS.values():
            assert "deferred" not in outcomes(send())


def give_level(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    """Let the host's settings and its sessions have this level."""
    connection.close()
    if connection.vendor == "mysql":
        options = connection.settings_dict["OPTIONS"] | {"isolation_level": level}
    else:
        value = level.replace(" ", "\\ ")
        options = {"options": f"-c default_transaction_isolation={value}"}
        options = connection.settings_dict["OPTIONS"] | options
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)


# A state of the host's own


@pytest.mark.skipif(connection.vendor != "postgresql", reason="roles and schemas of PostgreSQL")
def test_session_with_state_of_its_own_can_be_replaced() -> None:
    def choose(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = another, public")

    connection.close()
    connection_created.connect(choose)
    try:
        for left in ("BEGIN", "SET search_path = pg_catalog"):
            run(left)
            assert WebhookClient().status().status_code == 200
    finally:
        connection_created.disconnect(choose)
        connection.close()
