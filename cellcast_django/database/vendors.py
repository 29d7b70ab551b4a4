"""What differs between databases: one row for each, by Django's ``vendor``."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database import mariadb, postgresql
from cellcast_django.database.sessions import Limits


def _limit_sqlite(connection: BaseDatabaseWrapper, _lock: float, budget: float) -> Limits:
    """Wait for the one lock no longer than a webhook may take; nothing to do if it never does."""

    def set_timeout(seconds: float) -> None:
        connection.cursor().execute(f"PRAGMA busy_timeout = {seconds * 1_000:.0f}")

    timeout = connection.settings_dict["OPTIONS"].get("timeout", budget)
    if timeout <= budget:
        return Limits()
    set_timeout(budget)
    return Limits(partial(set_timeout, timeout))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vendor:
    """A database, by default one that inserts as PostgreSQL does."""

    quote: str = '"{}"'
    unless_there: str = " ON CONFLICT ({}) DO NOTHING RETURNING id"
    """The end of an insert that leaves the row alone whose unique column ``{}`` has the value."""
    exact_collation: str | None = None
    """Compares by case, accent and trailing space, where the default does not."""
    unicode_collation: str | None = None
    """Has every character, where the default may not."""
    limit: Callable[[BaseDatabaseWrapper, float, float], Limits] = lambda *_: Limits()
    """Limits lock waits, by so many seconds for a lock and in all."""
    lock_for_insert: tuple[str, ...] = ()
    """Keep others from inserting into a ``{table}``; see ``lock_for_insert``."""
    is_embedded: bool = False
    """There is no server. An in-memory database would end with its session."""


VENDORS = {
    "postgresql": Vendor(
        limit=postgresql.limit,
        # Waits for the present writers, and makes later ones wait.
        lock_for_insert=("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",),
    ),
    "mysql": Vendor(  # MariaDB, that is: MySQL lacks its collations
        quote="`{}`",
        unless_there=" ON DUPLICATE KEY UPDATE {0} = VALUES({0})",
        exact_collation="utf8mb4_nopad_bin",
        unicode_collation="utf8mb4_unicode_ci",
        limit=mariadb.limit,
        # At this level InnoDB also locks the gaps between the rows read for update.
        lock_for_insert=("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
    ),
    "sqlite": Vendor(
        unless_there=" ON CONFLICT ({}) DO NOTHING",  # it has RETURNING from 3.35
        limit=_limit_sqlite,
        # Any write takes the one lock, even if it changes nothing.
        lock_for_insert=("DELETE FROM {table} WHERE 1 = 0",),
        is_embedded=True,
    ),
}

ANY_OTHER = Vendor()  # the host project may have one beside the app's own


def vendor_of(connection: BaseDatabaseWrapper) -> Vendor:
    """Return what is known of the connection's database."""
    return VENDORS.get(connection.vendor, ANY_OTHER)
