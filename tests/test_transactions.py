"""Webhooks are stored whatever was left open in the session or is locked in the database."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database import transactions, transactions as sessions
from cellcast_django.inbox.fast import one_statement
from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient, status_payload

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _new_session() -> Iterator[None]:
    connection.close()
    yield
    sessions.discard(connection)


@pytest.fixture
def other() -> Iterator[BaseDatabaseWrapper]:
    """Another connection to the same database."""
    other = connection.copy()
    yield other
    sessions.discard(other)


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def abort_a_transaction() -> None:
    run("BEGIN")
    with pytest.raises(Exception, match="nowhere"):
        run("SELECT * FROM nowhere")


def enter_atomic() -> None:
    transaction.atomic().__enter__()
    assert not Message.objects.exists()


def turn_autocommit_off() -> None:
    connection.set_autocommit(False)
    assert not Message.objects.exists()


LEFT = {
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
def test_what_is_answered_200_is_committed_whatever_was_left_behind(
    leave: Callable[[], None], count: int, other: BaseDatabaseWrapper
) -> None:
    leave()
    payload = [status_payload(_id=str(each)) for each in range(count)]
    response = WebhookClient().send("webhook-status", payload[0] if count == 1 else payload)
    assert response.status_code == 200
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cellcast_django_webhookevent")
        assert cursor.fetchone() == (count,)


def test_what_is_answered_200_is_committed_where_the_settings_turn_autocommit_off(
    monkeypatch: pytest.MonkeyPatch, other: BaseDatabaseWrapper
) -> None:
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    assert WebhookClient().status().status_code == 200
    monkeypatch.undo()
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cellcast_django_webhookevent")
        assert cursor.fetchone() == (1,)


def test_own_transaction_is_never_a_part_of_another_one() -> None:
    inside = transactions.own_transaction("default")
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"), inside:
        pass


# Locks


@pytest.fixture
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    seconds = 1 if connection.vendor == "mysql" else 0.1
    for module in (one_statement, transactions):
        monkeypatch.setattr(module, "LOCK_SECONDS", seconds)
    monkeypatch.setattr(transactions, "BUDGET_SECONDS", seconds)
    one_statement._statement.cache_clear()
    yield
    one_statement._statement.cache_clear()


@pytest.mark.usefixtures("_short_waits")
@pytest.mark.parametrize("count", [1, 2], ids=["one event", "an array"])
def test_row_that_somebody_holds_is_not_waited_for_long(
    other: BaseDatabaseWrapper, count: int
) -> None:
    WebhookClient().status(_id="0")
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE cellcast_django_message SET sender = 'held'")
    begun = time.monotonic()
    payload = [status_payload(_id=str(each), status="failed") for each in range(count)]
    response = WebhookClient().send("webhook-status", payload[0] if count == 1 else payload)
    assert response.status_code == 503
    assert time.monotonic() - begun < 4
    other.close()
    assert WebhookClient().status(_id="0", status="failed").status_code == 200


def wait_of_session() -> Any:
    """Return the session's own limit for lock waits."""
    ask = {
        "sqlite": "PRAGMA busy_timeout",
        "postgresql": "SHOW lock_timeout",
        "mysql": "SELECT @@innodb_lock_wait_timeout",
    }
    with connection.cursor() as cursor:
        cursor.execute(ask[connection.vendor])
        return cursor.fetchone()


def test_waits_of_the_host_project_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    before = wait_of_session()
    WebhookClient().status()
    WebhookClient().send("webhook-status", [status_payload(), status_payload(_id="2")])
    with pytest.raises(OperationalError), transactions.own_transaction("default"):
        raise OperationalError
    assert wait_of_session() == before


@pytest.mark.skipif(connection.vendor != "sqlite", reason="its time-out stands in the settings")
def test_short_time_out_of_sqlite_needs_no_statement(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"timeout": 5})
    connection.ensure_connection()
    with django_assert_num_queries(2), transactions.own_transaction("default"):  # BEGIN, COMMIT
        pass
