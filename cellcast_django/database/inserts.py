"""Inserts whose SQL is composed once: composing it is much of what ``bulk_create`` costs.

Values still go through their fields, and statements through the connection's own cursor.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from django.db import connections, models
from django.db.backends.utils import CursorWrapper


def insert(using: str, objects: Sequence[models.Model]) -> None:
    """Insert the objects and give each its id; none may have one yet."""
    features = connections[using].features
    is_returning = features.can_return_columns_from_insert
    ending = " RETURNING id" if is_returning else ""
    # MySQL does not return the ids of several rows.
    size = None if features.can_return_rows_from_bulk_insert else 1
    for batch in _batches(using, objects, size):
        with _executed(using, batch, ending) as cursor:
            ids = cursor.fetchall() if is_returning else [(cursor.lastrowid,)]
        for each, (pk,) in zip(batch, ids, strict=True):
            each.pk = pk
            each._state.adding = False
            each._state.db = using


def insert_or_lock(using: str, objects: Sequence[models.Model], *, unique: str) -> None:
    """Insert the objects whose ``unique`` field is new; lock the rows of the others, in order.

    Those rows stay as they are. No object gets an id.
    """
    for batch in _batches(using, objects):
        _executed(using, batch, _upsert(using, type(batch[0]), unique)).close()


def _batches(
    using: str, objects: Sequence[models.Model], size: int | None = None
) -> Iterator[Sequence[models.Model]]:
    """Yield the objects of each statement."""
    if not objects:
        return
    size = size or connections[using].ops.bulk_batch_size(columns_of(type(objects[0])), objects)
    for start in range(0, len(objects), size):
        yield objects[start : start + size]


def _executed(using: str, objects: Sequence[models.Model], ending: str) -> CursorWrapper:
    """Execute one statement and return its cursor.

    Not a generator: error reports hide the variables of what a function calls, but the frame of a
    generator that has raised does not know its caller.
    """
    connection, model = connections[using], type(objects[0])
    fields = columns_of(model)
    row = f"({', '.join(['%s'] * len(fields))})"
    values = [
        field.get_db_prep_save(getattr(each, field.attname), connection)
        for each in objects
        for field in fields
    ]
    cursor = connection.cursor()
    cursor.execute(
        f"{_insert_into(using, model)} {', '.join([row] * len(objects))}{ending}", values
    )
    return cursor


@cache
def columns_of(model: type[models.Model]) -> list[Any]:
    """Return the model's fields except the id, which the database gives."""
    return [field for field in model._meta.concrete_fields if not field.primary_key]


@cache
def _insert_into(using: str, model: type[models.Model]) -> str:
    quote = connections[using].ops.quote_name
    names = ", ".join(quote(field.column) for field in columns_of(model))
    return f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES"


@cache
def _upsert(using: str, model: type[models.Model], unique: str) -> str:
    connection = connections[using]
    table, name = map(connection.ops.quote_name, (model._meta.db_table, unique))
    has_target = connection.features.supports_update_conflicts_with_target
    on_conflict = f"ON CONFLICT ({name}) DO UPDATE SET" if has_target else "ON DUPLICATE KEY UPDATE"
    return f" {on_conflict} {name} = {table}.{name}"
