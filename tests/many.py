"""Tables that are fuller than what a page, a report or a batch takes at a time."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from django.db import connection
from django.db.models import Model

from cellcast_django.models import Message


def add_copies(
    row: Model, count: int, vary: Callable[[int], dict[str, Any]] = lambda number: {}
) -> list[int]:
    """Add copies of a row, saved or not, and return their primary keys.

    ``vary`` returns what is different in each of them. What they share is prepared once for all,
    and no instance is made: that takes a tenth of the time of ``bulk_create``.
    """
    model = type(row)
    fields = {
        field.attname: field for field in model._meta.concrete_fields if not field.primary_key
    }
    shared = {
        name: field.get_db_prep_save(getattr(row, name), connection)
        for name, field in fields.items()
    }

    def values(number: int) -> list[Any]:
        own: dict[str, Any] = {"key": uuid4().hex} if model is Message else {}
        own |= vary(number)
        prepared = {
            name: fields[name].get_db_prep_save(value, connection) for name, value in own.items()
        }
        return list((shared | prepared).values())

    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields.values())
    places = ", ".join(["%s"] * len(fields))
    insert = f"INSERT INTO {model._meta.db_table} ({columns}) VALUES ({places})"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.executemany(insert, [values(number) for number in range(count)])
    newest = model._default_manager.order_by("-pk").values_list("pk", flat=True)
    return list(newest[:count])[::-1]
