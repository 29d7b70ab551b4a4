"""Days and ranges of days, in the current time zone."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date

ON_THE_WAY_DAYS = 3  # with today; a later report is unlikely
RANGE = ("from", "to")
"""The names of the first and the last day in a query string."""


def midnight(day: date) -> datetime:
    """Return the start of a day."""
    return timezone.make_aware(datetime.combine(day, time.min))


def first_day_on_the_way() -> date:
    """Return the first day whose messages without a final status count as on the way."""
    return timezone.localdate() - timedelta(days=ON_THE_WAY_DAYS - 1)


def range_of(query: Mapping[str, str]) -> tuple[date | None, date | None]:
    """Return the first and the last day that a query string names, in this order."""
    first, last = (_day_of(query.get(name, "")) for name in RANGE)
    return (last, first) if first and last and first > last else (first, last)


def between(rows: Any, field: str, first: date | None, last: date | None) -> Any:
    """Narrow to the rows with a time on these days, both included; either may be missing."""
    if first:
        rows = rows.filter(**{f"{field}__gte": midnight(first)})
    if last:
        rows = rows.filter(**{f"{field}__lt": midnight(last + timedelta(days=1))})
    return rows


def _day_of(word: str) -> date | None:
    """Return the day named in the query string, such as ``2026-11-26``, of this century."""
    with suppress(ValueError):
        day = parse_date(word)
        return day if day and 2000 <= day.year < 2100 else None
    return None
