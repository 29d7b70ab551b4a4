"""Ranges of days, in the current time zone."""

from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date


def day_of(word: str) -> date | None:
    """Return the day that is written, such as ``2026-11-26``, if it is one of this century."""
    with suppress(ValueError):
        day = parse_date(word)
        return day if day and 2000 <= day.year < 2100 else None
    return None


def midnight(day: date) -> datetime:
    """Return the start of a day in the current time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def between(rows: Any, field: str, first: date | None, last: date | None) -> Any:
    """Narrow to the rows with a time on these days, both included; either may be missing."""
    if first:
        rows = rows.filter(**{f"{field}__gte": midnight(first)})
    if last:
        rows = rows.filter(**{f"{field}__lt": midnight(last + timedelta(days=1))})
    return rows
