"""What differs between databases: one row for each, by Django's ``vendor``."""

from collections import defaultdict
from dataclasses import dataclass

LOCK_SECONDS = 0.25
"""A webhook waits this long for a lock, twice, and is deferred then: other requests need its
process. SQLite waits for its one lock as long as the host project's ``timeout`` says."""


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
    begin_with: str = ""
    """Stands first in a transaction of ours, which waits for no lock longer, at READ COMMITTED."""
    limit: str = ""
    """Stands before a statement that may wait for a lock, where no transaction can be limited."""
    insert_limit: str = ""
    """Prefix of inserts of new rows: only a lock on the whole table, or on the gap that they go
    into, can block those."""
    lock_for_insert: tuple[str, ...] = ()
    """Keep others from inserting into a ``{table}``; see ``lock_for_insert``."""
    is_embedded: bool = False
    """There is no server. An in-memory database would end with its session."""


VENDORS = defaultdict(Vendor)  # the host project may have another database beside the app's own
VENDORS["postgresql"] = Vendor(
    # One round trip. The level has to be set before anything is read.
    begin_with=f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; "
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    # Waits for the present writers, and makes later ones wait.
    lock_for_insert=("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",),
)
VENDORS["mysql"] = Vendor(  # MariaDB, that is: MySQL lacks its collations
    quote="`{}`",
    unless_there=" ON DUPLICATE KEY UPDATE {0} = VALUES({0})",
    exact_collation="utf8mb4_nopad_bin",
    unicode_collation="utf8mb4_unicode_ci",
    # It counts work, too: so an array, which may take its time on a slow disk, has the other limit,
    # which knows whole seconds alone.
    limit=f"SET STATEMENT max_statement_time = {LOCK_SECONDS} FOR ",
    insert_limit="SET STATEMENT lock_wait_timeout = 1, innodb_lock_wait_timeout = 1 FOR ",
    # At this level InnoDB also locks the gaps between the rows read for update.
    lock_for_insert=("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
)
VENDORS["sqlite"] = Vendor(
    unless_there=" ON CONFLICT ({}) DO NOTHING",  # it has RETURNING from 3.35
    # Any write takes the one lock, even if it changes nothing.
    lock_for_insert=("DELETE FROM {table} WHERE 1 = 0",),
    is_embedded=True,
)
