"""Our own transactions: separate from the host project's, and never waiting long for a lock."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

from django.db import (
    Error,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

PSYCOPG_IDLE = 0
PSYCOPG_ACTIVE = 1
PSYCOPG_CLOSED = 4


def is_idle(connection: BaseDatabaseWrapper) -> bool:
    """Whether no transaction is open, according to Django and to the session itself.

    A closed connection is idle. MariaDB and MySQL are not asked: our own ``BEGIN`` commits whatever
    was left open there.
    """
    if connection.in_atomic_block:
        return False
    session = connection.connection
    if session is None:
        return True
    if not connection.autocommit:
        return False
    return _status(session) == PSYCOPG_IDLE


def has_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open. A session closed by the driver has none."""
    if connection.in_atomic_block or connection.connection is None:
        return connection.in_atomic_block
    status = _status(connection.connection)
    return not connection.autocommit or status not in {PSYCOPG_IDLE, PSYCOPG_CLOSED}


class Watch:
    """Watches for a plain ``BEGIN`` on connections whose session cannot tell: MySQL's."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.has_begun = False

    def __enter__(self) -> Self:
        self._wrapping = self.connection.execute_wrapper(self._listen)
        self._wrapping.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._wrapping.__exit__(None, None, None)

    def _listen(self, execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if not self.connection.in_atomic_block and (found := _TRANSACTION.match(sql)):
            self.has_begun = found[1].lower() in {"begin", "start"}
        return execute(sql, *rest)


_TRANSACTION = re.compile(r"\s*(begin|start|commit|rollback)\b(?!\s+to\b)", re.IGNORECASE)


def _status(session: Any) -> int:
    """Return the state of the session's transaction, as psycopg numbers it."""
    status = getattr(getattr(session, "info", None), "transaction_status", PSYCOPG_IDLE)
    try:
        return PSYCOPG_ACTIVE if getattr(session, "in_transaction", False) else int(status)
    except sqlite3.ProgrammingError:
        return PSYCOPG_CLOSED


def is_in_test(connection: BaseDatabaseWrapper) -> bool:
    """Whether the innermost transaction is a ``TestCase``'s, which must not be ended."""
    blocks = connection.atomic_blocks
    # As Django's own durable=True asks.
    return bool(blocks) and blocks[-1]._from_testcase  # type: ignore[attr-defined]


def ensure_autocommit(connection: BaseDatabaseWrapper) -> None:
    """Make sure that the next write commits by itself, whatever was left open.

    A transaction that the host project did not end is rolled back, and its session discarded.
    Raises ``django.db.Error`` if no session is available.
    """
    if is_in_test(connection):
        return
    if not is_idle(connection):
        discard(connection)
    if not connection.get_autocommit():  # turned off in the settings
        connection.set_autocommit(True)


def discard(connection: BaseDatabaseWrapper) -> None:
    """End the session, and with it any transaction; the next statement opens a new one.

    It does not go back to a pool either. On SQLite, where an in-memory database would be lost with
    its session, the transaction is rolled back instead.
    """
    # As Django's connect() does, for code that inspects the connection before the next statement.
    connection.in_atomic_block = connection.closed_in_transaction = False
    connection.needs_rollback = False
    connection.atomic_blocks, connection.savepoint_ids = [], []
    if (session := connection.connection) is not None:
        with suppress(Error), connection.wrap_database_errors:
            end = session.rollback if connection.vendor == "sqlite" else session.close
            end()
    with suppress(Error):
        connection.close()


BUDGET_SECONDS = 5
"""All tries to store one webhook end within this time, before a web server kills its worker."""

LOCK_SECONDS = 2
"""How long one try waits for a locked row, and how long new tries are begun. A busy row must not
occupy the threads that other messages need."""

RETRY_PAUSES = (0.05, 0.2, 0.8)
"""Seconds before each retry."""

RETRIED_ERRORS = (
    OperationalError,  # a deadlock, a lock timeout, a server that is down
    InterfaceError,  # a closed connection
    # A session that cannot be used: read-only after a failover (PostgreSQL's 25006), aborted by
    # somebody else (25P02), or ended (25P03).
    InternalError,
    # A statement prepared before a migration (0A000).
    NotSupportedError,
)

T = TypeVar("T")


def with_retries(write: Callable[[str], T], *, using: str, for_seconds: float = LOCK_SECONDS) -> T:
    """Call ``write`` with the alias of the database, and again when the database aborts it.

    ``write`` must be one transaction or one statement. Each retry has a new session, and none
    begins after ``for_seconds``. Raises the database's last error.
    """
    connection = connections[using]
    started, pauses = time.monotonic(), iter(RETRY_PAUSES)
    while True:
        try:
            return write(using)
        except RETRIED_ERRORS:
            if connection.in_atomic_block:  # a test's transaction, which cannot continue
                raise
            discard(connection)
            pause = next(pauses, None)
            if pause is None or time.monotonic() + pause > started + for_seconds:
                raise
            time.sleep(pause)


V = TypeVar("V", bound=Any)


def outside_atomic_requests(view: V) -> V:
    """Exempt a view from ``ATOMIC_REQUESTS`` on every database: what it stores commits at once."""
    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    return view


@contextmanager
def own_transaction(using: str, *, limits_itself: bool = False) -> Iterator[None]:
    """Run the block in a transaction that is not inside another one.

    It waits at most ``LOCK_SECONDS`` for a row, and ``BUDGET_SECONDS`` for SQLite's one lock. On
    PostgreSQL that takes a statement, unless the block's first one ``limits_itself``.
    """
    connection = connections[using]
    before, inside, after = _limits(connection)
    _execute(connection, before)
    try:
        with transaction.atomic(using=using, durable=True):
            if not limits_itself:
                _execute(connection, inside)
            yield
    finally:
        with suppress(Error):
            _execute(connection, after)


def _limits(connection: BaseDatabaseWrapper) -> tuple[str, str, str]:
    """Return the statements that limit lock waits: before the transaction, inside it and after it.

    PostgreSQL resets a local setting by itself. If SQLite's timeout is short already, as
    recommended, there is nothing to do.
    """
    timeout = connection.settings_dict["OPTIONS"].get("timeout", BUDGET_SECONDS)
    wait = "@@innodb_lock_wait_timeout"
    set_timeout = "PRAGMA busy_timeout = {:.0f}".format
    limits = {
        "postgresql": ("", f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", ""),
        "mysql": (
            f"SET @cellcast = {wait}, {wait[2:]} = LEAST({wait}, {LOCK_SECONDS})",
            "",
            f"SET {wait[2:]} = @cellcast",
        ),
        "sqlite": (set_timeout(BUDGET_SECONDS * 1_000), "", set_timeout(timeout * 1_000)),
    }
    if connection.vendor == "sqlite" and timeout <= BUDGET_SECONDS:
        return "", "", ""
    return limits.get(connection.vendor, ("", "", ""))


def _execute(connection: BaseDatabaseWrapper, statement: str) -> None:
    if statement:
        with connection.cursor() as cursor:
            cursor.execute(statement)
