"""What differs between databases, and what is done on one that is not named here.

By Django's ``vendor``, for which MariaDB and MySQL are one.
"""

from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A database, by default one of which nothing is known: all works, but slower."""

    lock_for_insert: tuple[str, ...] = ()
    """Keep others from inserting into a ``{table}``; see ``lock_for_insert``."""
    is_in_memory: bool = False
    """A database may end with its session, which is rolled back rather than closed."""
    knows_begin: bool = True
    """The session can tell that a plain ``BEGIN`` was executed."""


VENDORS = {
    "postgresql": Vendor(
        # Waits for the present writers, and makes later ones wait.
        lock_for_insert=("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",),
    ),
    "mysql": Vendor(
        # At this level InnoDB also locks the gaps between the rows read for update.
        lock_for_insert=("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
        knows_begin=False,
    ),
    "sqlite": Vendor(
        # Any write takes the one lock, even if it changes nothing.
        lock_for_insert=("DELETE FROM {table} WHERE 1 = 0",),
        is_in_memory=True,
    ),
}

UNKNOWN = Vendor()


def vendor_of(connection: BaseDatabaseWrapper) -> Vendor:
    """Return what is known of the connection's database."""
    return VENDORS.get(connection.vendor, UNKNOWN)
