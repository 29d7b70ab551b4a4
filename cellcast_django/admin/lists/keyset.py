"""Page through rows newest first: each page starts where the last ended, unlike ``OFFSET``."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet


def older_than(queryset: QuerySet[Any], field: str, time: datetime, pk: int) -> QuerySet[Any]:
    """Narrow to the rows that follow this one when the newest come first."""
    is_older = Q(**{f"{field}__lt": time}) | Q(pk__lt=pk)
    return queryset.filter(is_older, **{f"{field}__lte": time})  # lets an index find the start


def newer_than(queryset: QuerySet[Any], field: str, time: datetime, pk: int) -> QuerySet[Any]:
    """Narrow to the rows that precede this one when the newest come first."""
    is_newer = Q(**{f"{field}__gt": time}) | Q(pk__gt=pk)
    return queryset.filter(is_newer, **{f"{field}__gte": time})


def chunks(queryset: QuerySet[Any], order: str, size: int) -> Iterator[list[Any]]:
    """Yield all rows in lists of this size, ordered by ``"-pk"`` or by a time and the key.

    A server-side cursor would do on PostgreSQL, but MariaDB's client reads the whole result.
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
    """Whether a text from a URL or form can be a primary key on every database."""
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


_MAX_DIGITS = 18  # always fits in 64 bits
