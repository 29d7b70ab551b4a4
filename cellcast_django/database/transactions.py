"""Our own transactions: separate from the host project's, and never waiting long for a lock.

They begin by writing: reading first ends in "database is locked" on SQLite, in deadlocks elsewhere.
"""

import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from django.apps import apps
from django.db import (
    Error,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connections,
    models,
    router,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database.vendors import VENDORS

IDLE, ACTIVE, CLOSED = 0, 1, 4  # as psycopg numbers the states of a transaction

LOST_SECONDS = 3
"""Tries to reach a lost database begin for so long: with two more to connect, the last one ends
before a web server kills its worker."""
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds before each retry, and then the last of them again; each at random up to half longer, so
that those who collided do not collide again."""

RETRIED_ERRORS = (
    OperationalError,  # a deadlock, a server that is down
    InterfaceError,  # a closed connection
    InternalError,  # a session that is read-only, aborted or ended (PostgreSQL's 25…)
    NotSupportedError,  # a statement prepared before a migration (0A000)
    ProgrammingError,  # the host project may have left a session that looks into another schema
)

# Codes of PostgreSQL, and numbers of MariaDB.
REFUSED_CODES = frozenset({"40001", "40P01", 1213, 1020})
"""Serialization failures, deadlocks, changed records."""
GONE_CODES = frozenset({"25006", "53300", "57P01", "57P02", "57P03", 1040, 1053, 1290, 1836, 1927})
"""Read-only after a failover, too many connections, shutting down, starting, killed."""
MISSING_CODES = frozenset({"42P01", "42703", 1146, 1054})
"""No such table or column, for which SQLite has only ``MISSING_WORDS``."""
MISSING_WORDS = re.compile("no such (table|column)|has no column named")
OLD_TABLES = "The tables are not those of this version: run migrate."

T = TypeVar("T")
V = TypeVar("V", bound=Any)


def database_alias() -> str:
    """Return the alias of the database that the app writes to."""
    return router.db_for_write(apps.get_model("cellcast_django", "Message"))


def is_idle(connection: BaseDatabaseWrapper) -> bool:
    """Whether no transaction is open. One of which MariaDB does not tell, our ``BEGIN`` commits."""
    return _transaction_status(connection) == IDLE


def has_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open. A session closed by the driver has none."""
    return _transaction_status(connection) not in {IDLE, CLOSED}


def _transaction_status(connection: BaseDatabaseWrapper) -> int:
    session = connection.connection
    if connection.in_atomic_block or (session is not None and not connection.autocommit):
        return ACTIVE
    try:
        if getattr(session, "in_transaction", False):  # only SQLite's knows it
            return ACTIVE
    except sqlite3.ProgrammingError:
        return CLOSED
    return int(getattr(getattr(session, "info", None), "transaction_status", IDLE))  # psycopg's


def is_in_test(connection: BaseDatabaseWrapper) -> bool:
    """Whether the innermost transaction is a ``TestCase``'s, which must not be ended."""
    blocks = connection.atomic_blocks
    # As Django's own durable=True asks.
    return bool(blocks) and blocks[-1]._from_testcase  # type: ignore[attr-defined]


def ensure_autocommit(connection: BaseDatabaseWrapper) -> None:
    """Make sure that the next write commits by itself; roll back whatever was left open."""
    if not is_idle(connection):
        if is_in_test(connection):
            return
        discard(connection)
    if not connection.get_autocommit():  # turned off in the settings
        connection.set_autocommit(True)


def discard(connection: BaseDatabaseWrapper) -> None:
    """End the session, and with it any transaction; one in memory is only rolled back."""
    # As Django's connect() does, for code that inspects the connection before the next statement.
    connection.in_atomic_block = connection.closed_in_transaction = False
    connection.needs_rollback = False
    connection.atomic_blocks, connection.savepoint_ids = [], []
    if (session := connection.connection) is not None:
        with suppress(Error), connection.wrap_database_errors:
            end = session.rollback if VENDORS[connection.vendor].is_embedded else session.close
            end()
    with suppress(Error):
        connection.close()


def with_retries(write: Callable[[str], T], *, using: str, for_seconds: float | None = None) -> T:
    """Call ``write``, which is ours, with the alias of the database, and again if that aborts it.

    ``write`` must be one transaction or one statement. It commits also where the settings turn
    autocommit off, or somebody has left a plain ``BEGIN``; and each retry has a new session. Inside
    a transaction there is none. With ``for_seconds``, for what cannot be deferred, the tries go on
    as long as that, whatever the error. With 0, for what is tried again later anyway, only a lost
    session or a deadlock is worth another one now.
    """
    connection = connections[using]
    # Django's health check would be a round trip for each webhook; a lost session fails a try.
    connection.health_check_done = True  # type: ignore[attr-defined]
    if connection.in_atomic_block:
        return _try_ours(write, connection)
    last_begin = time.monotonic() + (for_seconds or LOST_SECONDS)
    retries = 0
    while True:
        try:
            return _try_ours(write, connection)
        except RETRIED_ERRORS as error:
            discard(connection)
            is_in_time = time.monotonic() < last_begin
            if for_seconds:
                may_help = is_in_time
            elif is_lost(connection, error):  # on SQLite, its one lock: that has been waited for
                may_help = is_in_time and not VENDORS[connection.vendor].is_embedded
            else:  # a lock not had in time, a deadlock, however long the database took to say so
                may_help = retries == 0 and (for_seconds is None or is_refused(error))
            if not may_help:
                raise
        _pause_after(retries)
        retries += 1


def _try_ours(write: Callable[[str], T], connection: BaseDatabaseWrapper) -> T:
    try:
        if not connection.in_atomic_block:
            ensure_autocommit(connection)
        return write(connection.alias)
    except OSError as error:  # psycopg's, where file handles are out, often as it connects
        raise OperationalError(*error.args) from error


def again_if_refused(write: Callable[[], T], *, using: str) -> T:
    """Run a write of a person or of the host, and once more if it lost a conflict with another.

    However long the database took to refuse it; but not inside a transaction of theirs.
    """
    connection = connections[using]
    try:
        return write()
    except OperationalError as error:
        is_outside = not connection.in_atomic_block and connection.autocommit
        if not is_outside or not is_refused(error):
            raise
    _pause_after(0)
    return write()


def _pause_after(retries: int) -> None:
    pause = PAUSES[min(retries, len(PAUSES) - 1)]
    time.sleep(pause * random.uniform(1, 1.5))  # noqa: S311


def _code_of(error: Exception) -> str | int | None:
    """Return the database's code of its error; ``None`` if the driver made it."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = next(iter(getattr(cause, "args", ())), None)
    return code or (number if isinstance(number, int) else None)


def is_refused(error: Exception) -> bool:
    """Whether the database gave up this transaction for another one: it may succeed next time."""
    return _code_of(error) in REFUSED_CODES


def hint_of(error: Exception) -> str:
    """Return what to do about a missing table or column; ``""`` for any other error."""
    if not isinstance(error, Error):
        return ""
    is_missing = _code_of(error) in MISSING_CODES or MISSING_WORDS.search(str(error))
    return OLD_TABLES if is_missing else ""


def is_lost(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Whether the connection or the server is lost; on SQLite, whether its one lock is taken."""
    if VENDORS[connection.vendor].is_embedded:
        return "locked" in str(error)
    if not isinstance(error, OperationalError | InterfaceError | InternalError):
        return False
    code = _code_of(error)
    if code is None or code in GONE_CODES:
        return True
    if isinstance(code, int):
        return not 1000 <= code < 2000  # the numbers of MariaDB's server; others are its client's
    return code.startswith("08")  # PostgreSQL's "connection exceptions"


def outside_atomic_requests(view: V) -> V:
    """Exempt a view from ``ATOMIC_REQUESTS`` on every database: what it stores commits at once."""
    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    return view


@contextmanager
def own_transaction(using: str) -> Iterator[CursorWrapper]:
    """Run the block in a durable transaction; what it does with the cursor waits only briefly.

    On PostgreSQL the limit is the transaction's, and its level is READ COMMITTED, whatever the host
    project's is: it has to see what it has waited for. On MariaDB single statements have a limit
    (``rows.insert_or_lock``), and SQLite has its one lock. Nothing is set in a test's transaction,
    which goes on afterwards.
    """
    connection = connections[using]
    begin_with = "" if connection.in_atomic_block else VENDORS[connection.vendor].begin_with
    with transaction.atomic(using=using, durable=True), connection.cursor() as cursor:
        if begin_with:  # sets its limit and its level, before anything is read
            # By the driver's own: a package that watches statements may put a query before each.
            with connection.wrap_database_errors:
                cursor.cursor.execute(begin_with)
        yield cursor


def lock_for_insert(rows: models.QuerySet[Any]) -> None:
    """Lock these rows, and any that others are about to insert, until the transaction ends.

    For rows that no unique key would make collide. Must come first in the transaction: when it
    returns, all who had begun to insert such a row have committed, and nobody else can begin. Some
    databases lock the whole table, and webhooks wait; an unknown one locks existing rows only.
    Nothing is locked inside a test's transaction, which nobody races.
    """
    connection = connections[rows.db]
    if connection.savepoint_ids:  # our own transactions are in no other but a test's
        return
    table = connection.ops.quote_name(rows.model._meta.db_table)
    with connection.cursor() as cursor:
        for statement in VENDORS[connection.vendor].lock_for_insert:
            cursor.execute(statement.format(table=table))
    list(rows.select_for_update().values_list("pk"))
