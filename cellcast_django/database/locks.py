"""How our transactions begin: they insert rows, or lock them, or keep others from inserting any.

Writing first takes the locks. Reading first ends in "database is locked" on SQLite, and in
deadlocks elsewhere.
"""

from collections.abc import Sequence
from typing import TypeVar

from django.db import connections, models

from cellcast_django.database.vendors import vendor_of

M = TypeVar("M", bound=models.Model)


def insert_and_lock(rows: models.QuerySet[M], objects: Sequence[M], *, unique: str) -> None:
    """Insert the objects whose ``unique`` field is new; lock the rows of the others as they are."""
    upsert(rows, objects, unique=unique, overwrite=[unique])


def upsert(
    rows: models.QuerySet[M], objects: Sequence[M], *, unique: str, overwrite: Sequence[str]
) -> None:
    """Insert the objects, in their order; overwrite these fields of rows that are there."""
    has_target = connections[rows.db].features.supports_update_conflicts_with_target
    rows.bulk_create(
        objects,
        update_conflicts=True,
        update_fields=overwrite,
        unique_fields=[unique] if has_target else None,
    )


def lock_for_insert(rows: models.QuerySet[M]) -> None:
    """Lock these rows, and any that others are about to insert, until the transaction ends.

    For rows that no unique key would make collide. Must come first in the transaction: when it
    returns, all who had begun to insert such a row have committed, and nobody else can begin. An
    index must lead to the rows. On some databases it locks the whole table, and webhooks wait: keep
    the transaction short, with a limit on its own lock waits. A database of which nothing is known
    locks existing rows only. Inside a test's transaction, which nobody races, nothing is locked.
    """
    connection = connections[rows.db]
    if connection.savepoint_ids:
        return
    table = connection.ops.quote_name(rows.model._meta.db_table)
    with connection.cursor() as cursor:
        for statement in vendor_of(connection).lock_for_insert:
            cursor.execute(statement.format(table=table))
    list(rows.select_for_update().values_list("pk"))
