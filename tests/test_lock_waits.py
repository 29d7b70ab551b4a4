"""Waiting for SQLite's one lock: first at our own pace, then as the settings say."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.backends.sqlite3.base import DatabaseWrapper

from cellcast_django.database import lock_waits
from tests.clock import Clock

pytestmark = [
    pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's own lock"),
    pytest.mark.django_db,
]

TIMEOUT_MS = 50


@pytest.fixture
def database(tmp_path: Path) -> Iterator[DatabaseWrapper]:
    """Connect to a file with one empty table."""
    options = {"timeout": TIMEOUT_MS / 1000}
    settings = {**connection.settings_dict, "NAME": tmp_path / "db.sqlite3", "OPTIONS": options}
    database = DatabaseWrapper(settings, alias="file")
    with database.cursor() as cursor:
        cursor.execute("CREATE TABLE webhook (id integer)")
    yield database
    database.close()


@pytest.fixture
def other(database: DatabaseWrapper) -> Iterator[sqlite3.Connection]:
    """Let another connection hold the lock."""
    other = sqlite3.connect(database.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def insert(database: DatabaseWrapper) -> None:
    lock_waits.execute(database, "INSERT INTO webhook VALUES (%(id)s)", {"id": 1}).close()


def ask(database: DatabaseWrapper, question: str) -> Any:
    with database.cursor() as cursor:
        return cursor.execute(question).fetchone()[0]


def test_free_lock_is_had_at_once(database: DatabaseWrapper, clock: Clock) -> None:
    insert(database)
    assert ask(database, "SELECT count(*) FROM webhook") == 1
    assert clock.slept == []


@pytest.mark.parametrize("steps", [3, lock_waits.RETRIES])
def test_lock_that_is_soon_free_is_waited_for_in_small_steps(
    database: DatabaseWrapper, other: sqlite3.Connection, clock: Clock, steps: int
) -> None:
    def commit_in_time() -> None:
        if len(clock.slept) == steps:
            other.execute("COMMIT")

    clock.while_asleep = commit_in_time
    insert(database)
    assert ask(database, "SELECT count(*) FROM webhook") == 1
    assert clock.slept == [lock_waits.RETRY_SECONDS] * steps


@pytest.mark.usefixtures("other")
def test_lock_that_stays_taken_is_waited_for_as_the_settings_say(
    database: DatabaseWrapper, clock: Clock
) -> None:
    with pytest.raises(OperationalError, match="locked"):
        insert(database)
    assert clock.slept == [lock_waits.RETRY_SECONDS] * lock_waits.RETRIES


@pytest.mark.usefixtures("clock")
def test_time_out_of_the_settings_stays(
    database: DatabaseWrapper, other: sqlite3.Connection
) -> None:
    with pytest.raises(OperationalError):
        insert(database)
    assert ask(database, "PRAGMA busy_timeout") == TIMEOUT_MS
    other.execute("COMMIT")
    insert(database)
    assert ask(database, "PRAGMA busy_timeout") == TIMEOUT_MS


def test_other_errors_are_raised_at_once(database: DatabaseWrapper, clock: Clock) -> None:
    with pytest.raises(OperationalError, match="no such table"):
        lock_waits.execute(database, "INSERT INTO nowhere VALUES (1)", {})
    assert clock.slept == []
    assert ask(database, "PRAGMA busy_timeout") == TIMEOUT_MS
