"""The session behind a connection: what was left open in it, and how it ends."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper

from cellcast_django.database import transactions as sessions

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _new_session() -> Iterator[None]:
    if not sessions.is_in_test(connection):
        connection.close()
    yield
    if not sessions.is_in_test(connection):
        sessions.discard(connection)


def begin() -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")


def enter_atomic() -> None:
    transaction.atomic().__enter__()


def turn_autocommit_off() -> None:
    connection.set_autocommit(False)


# MariaDB's driver does not see a plain BEGIN; there, our own BEGIN commits it.
LEFT_OPEN = pytest.mark.parametrize(
    "leave_open",
    [enter_atomic, turn_autocommit_off, *([begin] if connection.vendor != "mysql" else [])],
)


@LEFT_OPEN
def test_discarded_session_is_replaced_by_an_idle_one(leave_open: Callable[[], None]) -> None:
    assert sessions.is_idle(connection)
    leave_open()
    assert not sessions.is_idle(connection)
    sessions.discard(connection)
    assert sessions.is_idle(connection)
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        assert not sessions.is_in_test(connection)
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert sessions.is_idle(connection)


def test_lost_session_can_be_discarded() -> None:
    connection.ensure_connection()
    connection.connection.close()
    sessions.discard(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_pooled_session_with_an_open_transaction_is_not_idle() -> None:
    enter_atomic()
    connection.close()
    connection.connection = None  # as close() leaves it where the session is a pool's
    assert not sessions.is_idle(connection)
    assert sessions.has_transaction(connection)
    sessions.discard(connection)
    assert sessions.is_idle(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_discarding_keeps_an_in_memory_databases_rows() -> None:
    settings: dict[str, Any] = {**connection.settings_dict, "OPTIONS": {}}
    database = DatabaseWrapper(settings | {"NAME": ":memory:"}, alias="memory")
    with database.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (id integer)")
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO kept VALUES (1)")
    sessions.discard(database)
    assert sessions.is_idle(database)
    with database.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    database.connection.close()


@pytest.mark.django_db(transaction=False)
def test_test_cases_transaction_is_recognised() -> None:
    assert sessions.is_in_test(connection)
