"""Walk through rows newest first, from where the last page ended: ``OFFSET`` would count them."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet


def older_than(queryset: QuerySet[Any], field: str, time: datetime, pk: int) -> QuerySet[Any]:
    """Narrow to the rows that come after this one, where the newest come first."""
    is_older = Q(**{f"{field}__lt": time}) | Q(pk__lt=pk)
    return queryset.filter(is_older, **{f"{field}__lte": time})  # which an index can begin with


def newer_than(queryset: QuerySet[Any], field: str, time: datetime, pk: int) -> QuerySet[Any]:
    """Narrow to the rows that come before this one, where the newest come first."""
    is_newer = Q(**{f"{field}__gt": time}) | Q(pk__gt=pk)
    return queryset.filter(is_newer, **{f"{field}__gte": time})


def chunks(queryset: QuerySet[Any], order: str, size: int) -> Iterator[list[Any]]:
    """Yield all rows in lists of this size, in the order of ``"-pk"`` or of a time and the key.

    A cursor on the server would do the same on PostgreSQL alone: the client of MariaDB takes the
    whole result at once.
    """
    field = order.removeprefix("-")
    queryset = queryset.order_by(*dict.fromkeys([order, "-pk"]))
    rest = queryset
    while rows := list(rest[:size]):
        yield rows
        last = rows[-1]
        if field == "pk":
            rest = queryset.filter(pk__lt=last.pk)
        else:
            rest = older_than(queryset, field, getattr(last, field), last.pk)


def is_key(text: str) -> bool:
    """Whether what an address or a form says can be a primary key on every database."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS


_DIGITS = 18  # always in 64 bits
