"""Durations as people write them, and ranges of days in the current time zone."""

import re
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration_of(text: str, units: str = "mhdw") -> timedelta:
    """Return a duration such as ``90d``, ``36h`` or ``15m``. Raises ``ValueError``."""
    match = re.fullmatch(rf"0*([1-9][0-9]{{,3}})([{units}])", text.strip())
    if match is None:
        names = ", ".join(f"{unit} ({UNITS[unit]})" for unit in units)
        raise ValueError(
            f'"{text}" is not a duration: write a whole number from 1 to 9999 and a unit, one of '
            f"{names}."
        )
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def day_of(word: str) -> date | None:
    """Return the day that is written, such as ``2026-11-26``, if it is one of this century."""
    with suppress(ValueError):
        day = parse_date(word)
        return day if day and 2000 <= day.year < 2100 else None  # another is a slip of the pen
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
