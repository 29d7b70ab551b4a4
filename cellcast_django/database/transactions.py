"""Our own transactions: separate from the host project's, and never waiting long for a lock.

They begin by writing: reading first ends in "database is locked" on SQLite, in deadlocks elsewhere.
"""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain, repeat
from typing import Any, TypeVar

from django.db import (
    Error,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connections,
    models,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.sessions import Limits
from cellcast_django.database.vendors import vendor_of

IDLE, ACTIVE, CLOSED = 0, 1, 4  # as psycopg numbers the states of a transaction

BUDGET_SECONDS = 5
"""All tries to store one webhook end within this time, before a web server kills its worker."""
LOCK_SECONDS = 2
"""One try waits this long for a lock; the last try begins that long before the budget ends."""
HURRIED_LOCK_SECONDS = 0.1
HURRIED_FOR_SECONDS = 10
"""After a wait in vain a webhook waits only so long for a lock (MariaDB: not at all), for so long:
what it cannot store it defers, and other requests need this process."""
HOST_SECONDS = 0.3
"""Retries of what people and the host's code write begin for so long: two, as a rule."""
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
LOCKED_CODES = frozenset({"55P03", 1205})
REFUSED_CODES = frozenset({"40001", "40P01", 1213, 1020})
"""Serialization failures, deadlocks, changed records."""
GONE_CODES = frozenset({"25006", "53300", "57P01", "57P02", "57P03", 1040, 1053, 1290, 1836, 1927})
"""Read-only after a failover, too many connections, shutting down, starting, killed."""
MARIADB_CLIENT_ERRORS = 2000
"""From here on they are about the connection."""

T = TypeVar("T")
V = TypeVar("V", bound=Any)


def is_idle(connection: BaseDatabaseWrapper) -> bool:
    """Whether no transaction is open: our own ``BEGIN`` commits what MariaDB does not tell."""
    return _transaction_status(connection) == IDLE


def has_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open. A session closed by the driver has none."""
    return _transaction_status(connection) not in {IDLE, CLOSED}


def _transaction_status(connection: BaseDatabaseWrapper) -> int:
    session = connection.connection
    if connection.in_atomic_block or (session is not None and not connection.autocommit):
        return ACTIVE
    status = getattr(getattr(session, "info", None), "transaction_status", IDLE)
    try:
        return ACTIVE if getattr(session, "in_transaction", False) else int(status)
    except sqlite3.ProgrammingError:
        return CLOSED


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
    """End the session, and with it any transaction; an embedded one is only rolled back."""
    # As Django's connect() does, for code that inspects the connection before the next statement.
    connection.in_atomic_block = connection.closed_in_transaction = False
    connection.needs_rollback = False
    connection.atomic_blocks, connection.savepoint_ids = [], []
    if (session := connection.connection) is not None:
        with suppress(Error), connection.wrap_database_errors:
            end = session.rollback if vendor_of(connection).is_embedded else session.close
            end()
    with suppress(Error):
        connection.close()


class _Hurry:
    """Until when this process waits only briefly for locks: all that it remembers."""

    until = 0.0


def forget_waits() -> None:
    """Wait for locks as if none had been waited for in vain: for tests."""
    _Hurry.until = 0


def with_retries(
    write: Callable[[str], T],
    *,
    using: str,
    for_seconds: float | None = None,
    is_ours: bool = True,
) -> T:
    """Call ``write`` with the alias of the database, and again when the database aborts it.

    ``write`` must be one transaction or one statement. What is ours commits also where the settings
    turn autocommit off, or somebody has left a plain ``BEGIN``, and each retry has a new session;
    what is not is tried again only if it was refused for another transaction, and not inside one.
    A lock is waited for once. Anything else is tried a second time; and a lost connection, or a
    server that starts, as long as the try ends within ``BUDGET_SECONDS``. With ``for_seconds``
    nobody waits, and retries begin until then.
    """
    connection = connections[using]
    is_outside = not connection.in_atomic_block and (is_ours or connection.autocommit)
    if is_ours:
        # Django's health check would be a round trip for each webhook; a lost session fails a try.
        connection.health_check_done = True  # type: ignore[attr-defined]
    pauses = _pauses(for_seconds or (BUDGET_SECONDS - LOCK_SECONDS if is_ours else HOST_SECONDS))
    is_first = True
    while True:
        try:
            return _try_ours(write, connection) if is_ours else write(using)
        except RETRIED_ERRORS as error:
            if not is_outside or not (is_ours or is_refused(error)):
                raise
            if is_ours:
                discard(connection)
                if not for_seconds and not _helps(connection, error, is_first=is_first):
                    raise
            if not next(pauses):
                raise
        is_first = False


def _try_ours(write: Callable[[str], T], connection: BaseDatabaseWrapper) -> T:
    try:
        if not connection.in_atomic_block:
            ensure_autocommit(connection)
        return write(connection.alias)
    except OSError as error:  # psycopg's, where file handles are out, often as it connects
        raise OperationalError(*error.args) from error


def again_if_refused(write: Callable[[], T], *, using: str) -> T:
    """Call what people or the host's code write, and again if it was refused for another one."""
    return with_retries(lambda _using: write(), using=using, is_ours=False)


def _pauses(seconds: float) -> Iterator[bool]:
    """Pause before each retry, and tell whether it begins within so many seconds from now."""
    return map(partial(_pause, time.monotonic() + seconds), chain(PAUSES, repeat(PAUSES[-1])))


def _pause(last_begin: float, pause: float) -> bool:
    pause *= random.uniform(1, 1.5)  # noqa: S311
    is_in_time = time.monotonic() + pause <= last_begin
    if is_in_time:
        time.sleep(pause)
    return is_in_time


def _helps(connection: BaseDatabaseWrapper, error: Exception, *, is_first: bool) -> bool:
    """Whether another try may help."""
    if _code_of(error) in LOCKED_CODES:
        _Hurry.until = time.monotonic() + HURRIED_FOR_SECONDS
        return False
    return is_first or is_lost(connection, error)


def _code_of(error: Exception) -> str | int | None:
    """Return the database's code of its error; ``None`` if the driver made it."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    number = next(iter(getattr(cause, "args", ())), None)
    return code or (number if isinstance(number, int) else None)


def is_refused(error: Exception) -> bool:
    """Whether the database gave up this transaction for another one: it may succeed next time."""
    return _code_of(error) in REFUSED_CODES


def is_lost(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Whether the connection or the server is lost; on SQLite, whether its one lock is taken."""
    if vendor_of(connection).is_embedded:
        return "locked" in str(error)
    if not isinstance(error, OperationalError | InterfaceError | InternalError):
        return False
    code = _code_of(error)
    if isinstance(code, int):
        return code in GONE_CODES or not 1000 <= code < MARIADB_CLIENT_ERRORS
    return code is None or code in GONE_CODES or code.startswith("08")


def outside_atomic_requests(view: V) -> V:
    """Exempt a view from ``ATOMIC_REQUESTS`` on every database: what it stores commits at once."""
    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    return view


@contextmanager
def own_transaction(
    using: str, *, is_one_statement: bool = False, may_hurry: bool = False
) -> Iterator[None]:
    """Run the block in a durable transaction, or one statement as its own where the limits hold.

    It waits at most ``LOCK_SECONDS`` for a row or a table, or not even that if it ``may_hurry`` and
    somebody has just waited in vain; and ``BUDGET_SECONDS`` for SQLite's one lock. It reads what is
    committed, whatever the host project's isolation level is: so it sees what it has waited for.
    The session's limits and level are as before afterwards.
    """
    connection, limits = connections[using], Limits()
    if not connection.in_atomic_block:
        is_hurried = may_hurry and time.monotonic() < _Hurry.until
        seconds = HURRIED_LOCK_SECONDS if is_hurried else LOCK_SECONDS
        limits = vendor_of(connection).limit(connection, seconds, BUDGET_SECONDS)
    is_alone = is_one_statement and not limits.needs_transaction
    try:
        with nullcontext() if is_alone else transaction.atomic(using=using, durable=True):
            if limits.first:
                connection.cursor().execute(limits.first)
            yield
    finally:
        if limits.restore is not None:
            with suppress(Exception):  # the session may be lost, and with it what to restore
                limits.restore()


own_statement = partial(own_transaction, is_one_statement=True)


def lock_for_insert(rows: models.QuerySet[Any]) -> None:
    """Lock these rows, and any that others are about to insert, until the transaction ends.

    For rows that no unique key would make collide. Must come first in the transaction: when it
    returns, all who had begun to insert such a row have committed, and nobody else can begin. Some
    databases lock the whole table, and webhooks wait; an unknown one locks existing rows only.
    Nothing is locked inside a test's transaction, which nobody races.
    """
    connection = connections[rows.db]
    if connection.savepoint_ids:
        return
    table = connection.ops.quote_name(rows.model._meta.db_table)
    with connection.cursor() as cursor:
        for statement in vendor_of(connection).lock_for_insert:
            cursor.execute(statement.format(table=table))
    list(rows.select_for_update().values_list("pk"))
