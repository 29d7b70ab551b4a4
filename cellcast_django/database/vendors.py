"""What differs between databases, and what is done on one that is not named here.

By Django's ``vendor``, for which MariaDB and MySQL are one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database import mariadb, postgresql, prepared_statements
from cellcast_django.database.sessions import Limits


def _limit_sqlite(
    connection: BaseDatabaseWrapper, _lock_seconds: float, budget_seconds: float
) -> Limits:
    """Wait for the one lock no longer than a webhook may take; nothing to do if it never does."""

    def set_timeout(seconds: float) -> None:
        connection.cursor().execute(f"PRAGMA busy_timeout = {seconds * 1_000:.0f}")

    timeout = connection.settings_dict["OPTIONS"].get("timeout", budget_seconds)
    if timeout <= budget_seconds:
        return Limits()
    set_timeout(budget_seconds)
    return Limits(partial(set_timeout, timeout))


def _execute(
    connection: BaseDatabaseWrapper, statement: str, values: dict[str, Any]
) -> CursorWrapper:
    cursor = connection.cursor()
    cursor.execute(statement, values)
    return cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A database, by default one of which nothing is known: all works, but slower."""

    limit: Callable[[BaseDatabaseWrapper, float, float], Limits] = lambda *_: Limits()
    """Limits lock waits, by so many seconds for a lock and in all, and lets transactions read what
    is committed."""
    execute: Callable[[BaseDatabaseWrapper, str, dict[str, Any]], CursorWrapper] = _execute
    """Executes a statement with ``%(name)s`` placeholders, and returns the cursor."""
    state_of: Callable[[BaseDatabaseWrapper], Any] = lambda _: None
    """The state that decides where a session writes; ``None`` if there is none, or it is lost."""
    lock_for_insert: tuple[str, ...] = ()
    """Keep others from inserting into a ``{table}``; see ``lock_for_insert``."""
    is_in_memory: bool = False
    """A database may end with its session, which is rolled back rather than closed."""
    unix_seconds: str = ""
    """The whole seconds from 1970 to the time ``{}``, in SQL; empty if Python has to count them."""
    lock_limit: tuple[str, str] | None = None
    """The recommended option that limits lock waits, and its value."""
    encoding: tuple[str, str] | None = None
    """The query for a database's encoding, and the one that holds every character."""


VENDORS = {
    "postgresql": Vendor(
        limit=postgresql.limit,
        execute=prepared_statements.execute,
        state_of=postgresql.state_of,
        # Waits for the present writers, and makes later ones wait.
        lock_for_insert=("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",),
        unix_seconds="FLOOR(DATE_PART('epoch', {}))::bigint",
        lock_limit=("options", "-c lock_timeout=2s"),
        encoding=("SHOW server_encoding", "UTF8"),
    ),
    "mysql": Vendor(
        limit=mariadb.limit,
        # At this level InnoDB also locks the gaps between the rows read for update.
        lock_for_insert=("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
        unix_seconds="TIMESTAMPDIFF(SECOND, '1970-01-01', {})",
        lock_limit=(
            "init_command",
            "SET innodb_lock_wait_timeout = 2, lock_wait_timeout = 2",
        ),
        encoding=("SELECT @@character_set_client", "utf8mb4"),
    ),
    "sqlite": Vendor(
        limit=_limit_sqlite,
        # Any write takes the one lock, even if it changes nothing.
        lock_for_insert=("DELETE FROM {table} WHERE 1 = 0",),
        is_in_memory=True,
        unix_seconds="CAST(STRFTIME('%%s', {}) AS INTEGER)",
    ),
}

UNKNOWN = Vendor()


def vendor_of(connection: BaseDatabaseWrapper) -> Vendor:
    """Return what is known of the connection's database."""
    return VENDORS.get(connection.vendor, UNKNOWN)
