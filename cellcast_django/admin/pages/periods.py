"""Whole days of the current time zone, up to today, cut into the slots of a chart."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import Self

from django.conf import settings

from cellcast_django.admin.display.texts import today
from cellcast_django.admin.lists.filters import midnight

Slot = tuple[datetime, datetime]  # its first moment, and the first moment after it


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days, cut into slots: the days, or the hours of a single day."""

    starts: tuple[datetime, ...]
    """The start of each slot; naive with ``USE_TZ = False``."""
    end: datetime
    """Where the last slot ends."""

    @classmethod
    def of_last_days(cls, days: int) -> Self:
        """Return the last ``days`` with today; a single day is cut into hours."""
        last = today()
        first, end = last - timedelta(days=days - 1), midnight(last + timedelta(days=1))
        if days == 1:
            return cls(tuple(_hours(midnight(last), end)), end)
        return cls(tuple(midnight(first + timedelta(days=n)) for n in range(days)), end)

    @property
    def start(self) -> datetime:
        return self.starts[0]

    @property
    def is_hourly(self) -> bool:
        return (self.end - self.start) / len(self.starts) < timedelta(hours=2)

    @property
    def slots(self) -> list[Slot]:
        return list(pairwise([*self.starts, self.end]))


def _hours(start: datetime, end: datetime) -> list[datetime]:
    """Return the start of each hour of a day: 23 or 25 of them when the clocks change."""
    if settings.USE_TZ:
        start = start.astimezone(UTC)
    return [start + timedelta(hours=n) for n in range(ceil((end - start) / timedelta(hours=1)))]
