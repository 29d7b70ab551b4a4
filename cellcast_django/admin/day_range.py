"""The days that pages are narrowed to, in the current time zone."""

from collections.abc import Mapping
from datetime import date, timedelta

from django.utils import timezone

from cellcast_django.days import day_of

ON_THE_WAY_DAYS = 3  # with today; a later report is unlikely
RANGE = ("from", "to")
"""The names of the first and the last day in a query string."""


def first_day_on_the_way() -> date:
    """Return the first day whose messages without a final status count as on the way."""
    return timezone.localdate() - timedelta(days=ON_THE_WAY_DAYS - 1)


def range_of(query: Mapping[str, str]) -> tuple[date | None, date | None]:
    """Return the first and the last day that a query string names, in this order."""
    first, last = (day_of(query.get(name, "")) for name in RANGE)
    return (last, first) if first and last and first > last else (first, last)
