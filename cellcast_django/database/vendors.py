"""What differs between databases: one row for each, by Django's ``vendor``.

A fourth database is one more row. The host project may have others beside the app's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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


class Dialect(NamedTuple):
    """How the inbox's own statements are written."""

    quote: str
    on_conflict: str
    """What an insert does if the unique column ``{}`` has its value already."""
    offered: str
    """The value of a row that could not be inserted."""
    fill_in: str
    """The value ``{old}``, or ``{new}`` if the old one is ``{empty}``."""
    is_one_of: str
    """Whether ``{}`` is one of the statuses in ``%(named)s``, which are parted by an ``X``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A database, by default one of which nothing is known: all works, but slower."""

    dialect: Dialect | None = None
    """``None`` leaves all writing to the ORM."""
    exact_collation: str | None = None
    """Compares by case, accent and trailing space, where the default does not."""
    unicode_collation: str | None = None
    """Has every character, where the default may not."""

    limit: Callable[[BaseDatabaseWrapper, float, float], Limits] = lambda *_: Limits()
    """Limits lock waits, by so many seconds for a lock and in all, and lets transactions read what
    is committed."""
    execute: Callable[[BaseDatabaseWrapper, str, dict[str, Any]], CursorWrapper] = _execute
    """Executes a statement with ``%(name)s`` placeholders, and returns the cursor."""
    lock_for_insert: tuple[str, ...] = ()
    """Keep others from inserting into a ``{table}``; see ``lock_for_insert``."""
    is_embedded: bool = False
    """There is no server. An in-memory database would end with its session."""
    lock_limit: tuple[str, str] | None = None
    """The recommended option that limits lock waits, and its value."""


POSTGRESQL = Dialect(
    quote='"{}"',
    on_conflict="ON CONFLICT ({}) DO UPDATE SET",
    offered="excluded.{}",
    fill_in="COALESCE(NULLIF({old}, {empty}), {new})",
    is_one_of="strpos(%(named)s::text, 'X' || {} || 'X') > 0",
)

VENDORS = {
    "postgresql": Vendor(
        dialect=POSTGRESQL,
        limit=postgresql.limit,
        execute=prepared_statements.execute,
        # Waits for the present writers, and makes later ones wait.
        lock_for_insert=("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",),
        lock_limit=("options", "-c lock_timeout=2s"),
    ),
    "mysql": Vendor(  # MariaDB, that is: MySQL lacks its collations
        dialect=Dialect(
            quote="`{}`",
            on_conflict="ON DUPLICATE KEY UPDATE",
            offered="VALUES({})",
            # By their lengths: it finds a blank equal to an empty text.
            fill_in="IF(LENGTH({old}) > LENGTH({empty}), {old}, {new})",
            is_one_of="instr(%(named)s, concat('X', {}, 'X')) > 0",
        ),
        exact_collation="utf8mb4_nopad_bin",
        unicode_collation="utf8mb4_unicode_ci",
        limit=mariadb.limit,
        # At this level InnoDB also locks the gaps between the rows read for update.
        lock_for_insert=("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
        lock_limit=(
            "init_command",
            "SET innodb_lock_wait_timeout = 2, lock_wait_timeout = 2",
        ),
    ),
    "sqlite": Vendor(
        dialect=POSTGRESQL._replace(is_one_of="instr(%(named)s, 'X' || {} || 'X') > 0"),
        limit=_limit_sqlite,
        # Any write takes the one lock, even if it changes nothing.
        lock_for_insert=("DELETE FROM {table} WHERE 1 = 0",),
        is_embedded=True,
    ),
}

ANY_OTHER = Vendor()

DIALECTS = {name: each.dialect for name, each in VENDORS.items() if each.dialect is not None}


def vendor_of(connection: BaseDatabaseWrapper) -> Vendor:
    """Return what is known of the connection's database."""
    return VENDORS.get(connection.vendor, ANY_OTHER)
