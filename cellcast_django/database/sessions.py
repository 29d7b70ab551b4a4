"""The database session behind a Django connection: whether it is idle, and how to end it.

Django knows only the transactions it began itself. Of a plain ``BEGIN`` in the host project's code
only the session knows; the driver can tell without a statement.
"""

import re
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from django.db import Error
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
    return bool(blocks) and blocks[-1]._from_testcase  # type: ignore[attr-defined]  # noqa: SLF001


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
