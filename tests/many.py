"""Tables that are fuller than what a page, a report or a batch takes at a time."""

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

from cellcast_django.models import Message, WebhookEvent

Row = TypeVar("Row", Message, WebhookEvent)


def add_copies(
    row: Row, count: int, vary: Callable[[int], dict[str, Any]] = lambda number: {}
) -> list[Row]:
    """Add copies of a row; ``vary`` returns what is different in each of them."""
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    del values["id"]
    model = type(row)
    copies = []
    for number in range(count):
        own = {"key": uuid4().hex} if model is Message else {}
        copies.append(model(**(values | own | vary(number))))
    return list(model._default_manager.bulk_create(copies))
