"""Insert rows, or write to those that are there: the first statement of our transactions.

Writing first takes the locks. Reading first ends in "database is locked" on SQLite, and in
deadlocks elsewhere.
"""

from collections.abc import Sequence
from typing import TypeVar

from django.db import connections, models

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
