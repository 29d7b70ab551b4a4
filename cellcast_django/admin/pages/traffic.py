"""The messages of a period: how many, what became of them, and how long their delivery took.

How many there are is read from indexes alone, and for days that have long ended from the cache. Of
the delivery times a bounded number is read.
"""

from bisect import bisect_right
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from math import ceil
from typing import Any, Self

from django.conf import settings
from django.core.cache import cache
from django.db import connections
from django.utils import timezone

from cellcast_django.admin.lists.filters import midnight
from cellcast_django.models import Direction, Message
from cellcast_django.retention import test_messages
from cellcast_django.statuses import FINAL, Status

UNDER_WAY = ""
"""Stands for every status that is not final."""

SETTLED = timedelta(days=3)
"""A slot that ended so long ago is counted once a day: hardly a status is still to come."""

AT_ONCE = 24
"""Slots of one query: PostgreSQL compiles those of more of them first, which takes a second."""

SAMPLE = 10_000
"""Of so many delivered messages of a period the times are read."""

MAX_TESTS = 1_000
"""So many messages of Test Sends are left out of the delivery times."""

LONGEST = 86_400
"""Seconds: a delivery that took longer counts as one that took a day."""

Slot = tuple[datetime, datetime]
"""The first moment that belongs to it, and the first that does not."""


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days of the current time zone, cut into slots: its days, or a single day's hours."""

    starts: tuple[datetime, ...]
    """The start of each slot; naive with ``USE_TZ = False``."""
    end: datetime
    """Where the last slot ends."""

    @classmethod
    def of_last_days(cls, days: int) -> Self:
        """Return the last ``days``, today included; of a single day its hours."""
        today = local_date(timezone.now())
        first, end = today - timedelta(days=days - 1), midnight(today + timedelta(days=1))
        if days == 1:
            return cls(tuple(hours(midnight(today), end)), end)
        return cls(tuple(midnight(first + timedelta(days=n)) for n in range(days)), end)

    @property
    def start(self) -> datetime:
        """Where the first slot starts."""
        return self.starts[0]

    @property
    def is_hourly(self) -> bool:
        """Whether the slots are hours."""
        return (self.end - self.start) / len(self.starts) < timedelta(hours=2)

    @property
    def slots(self) -> list[Slot]:
        """Start and end of each slot."""
        return list(pairwise([*self.starts, self.end]))


def local_date(moment: datetime) -> date:
    """Return the day of a moment in the current time zone."""
    return (timezone.localtime(moment) if settings.USE_TZ else moment).date()


def hours(start: datetime, end: datetime) -> list[datetime]:
    """Return the starts of the hours: 23 or 25 where the clocks change."""
    if settings.USE_TZ:
        start = start.astimezone(UTC)
    return [start + timedelta(hours=n) for n in range(ceil((end - start) / timedelta(hours=1)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The messages of a period, counted for each of its slots."""

    period: Period
    replies: list[int]
    """Inbound messages."""
    sent: dict[str, list[int]]
    """Outbound messages by their status, all that is not final as ``UNDER_WAY``."""

    @property
    def delivery_rate(self) -> float | None:
        """Of the sent messages that have a final status the part that arrived, from 0 to 1."""
        ended = sum(sum(self.sent[status]) for status in FINAL)
        return sum(self.sent[Status.DELIVERED]) / ended if ended else None


def count_messages(period: Period) -> Traffic:
    """Count the messages by the slot of ``created_at``, by direction and by status.

    Slots that ended more than three days ago are kept in Django's default cache, so that their
    numbers may be up to a day old: three months of ten million a year take more than half a second.
    """
    replies, sent, *ended = map(list, zip(*_numbers(period.slots), strict=True))
    _leave_out_tests(period, replies, sent, ended)
    under_way = [number - sum(others) for number, *others in zip(sent, *ended, strict=True)]
    by_status = dict(zip(_FINAL, ended, strict=True))
    return Traffic(period=period, replies=replies, sent={**by_status, UNDER_WAY: under_way})


def _leave_out_tests(
    period: Period, replies: list[int], sent: list[int], ended: list[list[int]]
) -> None:
    """Take the messages of Test Sends out of the numbers: they are few."""
    tests = test_messages().filter(created_at__gte=period.start, created_at__lt=period.end)
    for created_at, direction, status in tests.values_list("created_at", "direction", "status"):
        slot = bisect_right(period.starts, created_at) - 1
        if direction == Direction.INBOUND:
            replies[slot] -= 1
            continue
        sent[slot] -= 1
        if status in FINAL:
            ended[_FINAL.index(status)][slot] -= 1


def _numbers(slots: list[Slot]) -> list[list[int]]:
    """Return for each slot what ``_count`` says, or said earlier today."""
    now = timezone.now()
    key = f"cellcast_django.admin.pages.traffic.{now:%Y-%m-%d}"
    kept: dict[str, list[int]] = {}
    with suppress(Exception):  # a cache that is down makes the page slower, and no more than that
        kept = cache.get(key, {})
    database = connections[Message.objects.db].settings_dict["NAME"]  # that of tests is another one
    names = {f"{database} {slot[0].isoformat()} {slot[1].isoformat()}": slot for slot in slots}
    missing = {name: slot for name, slot in names.items() if name not in kept}
    counted = dict(zip(missing, _count(list(missing.values())), strict=True))
    settled = {name: counted[name] for name, (_, end) in missing.items() if end < now - SETTLED}
    if settled:
        with suppress(Exception):
            cache.set(key, kept | settled, timeout=24 * 60 * 60)
    return [(kept | counted)[name] for name in names]


_TABLE = Message._meta.db_table
_IS_INBOUND = f"direction = '{Direction.INBOUND.value}'"
_IS_OUTBOUND = f"direction = '{Direction.OUTBOUND.value}'"
_FINAL = sorted(FINAL)
_COUNT = f"(SELECT COUNT(*) FROM {_TABLE} WHERE {{}} AND created_at >= %s AND created_at < %s)"  # noqa: S608
_FINAL_IN_USE = " UNION ALL ".join(
    f"SELECT * FROM (SELECT status FROM {_TABLE}"  # noqa: S608
    f" WHERE {_IS_OUTBOUND} AND status = '{status}' LIMIT 1) AS is_{status}"
    for status in _FINAL
)


def _count(slots: list[Slot]) -> list[list[int]]:
    """Count for each slot the replies, all that was sent, and that with each final status.

    Each number is a range of one index, whose rows are not looked at; what is under way is the
    rest. Grouped by a status or by an expression, databases read the rows, and PostgreSQL sorts
    millions of them on disk. As querysets, hundreds of these conditions take longer to build than
    to answer; and as PostgreSQL takes as long to plan them, a status that no message has is not
    asked for.
    """
    in_use = [status for (status,) in _fetch(_FINAL_IN_USE, [])] if slots else []
    asked = [_IS_INBOUND, _IS_OUTBOUND, *(f"{_IS_OUTBOUND} AND status = '{s}'" for s in in_use)]
    counts = ", ".join(map(_COUNT.format, asked))
    found: list[tuple[Any, ...]] = []
    for first in range(0, len(slots), AT_ONCE):
        some = slots[first : first + AT_ONCE]
        selects = (f"SELECT {first + number}, {counts}" for number in range(len(some)))
        values = [moment for slot in some for _ in asked for moment in slot]
        found += _fetch(" UNION ALL ".join(selects), values)
    counted = []
    for _, replies, sent, *ended in sorted(found):
        by_status = dict(zip(in_use, ended, strict=True))
        counted.append([replies, sent, *(by_status.get(status, 0) for status in _FINAL)])
    return counted


def _fetch(sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
    connection = connections[Message.objects.db]
    adapt = connection.ops.adapt_datetimefield_value
    values = [adapt(each) if isinstance(each, datetime) else each for each in values]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """How many messages took how long to be delivered."""

    numbers: dict[int, int]
    """The number of messages by whole seconds, from 0 to ``LONGEST``."""
    is_sample: bool = False
    """Whether these are some of the period's messages: the newest of each slot."""

    @property
    def total(self) -> int:
        """How many messages there are."""
        return sum(self.numbers.values())

    def percentile(self, percent: int) -> int | None:
        """Return the seconds in which so many in a hundred had arrived; ``None`` without any."""
        wanted = ceil(self.total * percent / 100)
        seconds = sorted(self.numbers)
        arrived = accumulate(self.numbers[each] for each in seconds)
        return next(
            (s for s, number in zip(seconds, arrived, strict=True) if number >= wanted), None
        )

    def histogram(self, limits: list[int]) -> list[int]:
        """Count what took less than each of the ascending limits, and at last what took longer."""
        counted: Counter[int] = Counter()
        for seconds, number in self.numbers.items():
            counted[sum(limit <= seconds for limit in limits)] += number
        return [counted[position] for position in range(len(limits) + 1)]


def count_delivery_times(traffic: Traffic) -> DeliveryTimes:
    """Count the delivered messages by the seconds from ``submitted_at`` to ``delivered``.

    Where there are more than ``SAMPLE``, each slot gives its part of so many, the newest it has. No
    status comes after ``delivered``, so ``status_changed_at`` is when it was recorded. Messages
    whose id does not tell when they were submitted are left out.
    """
    delivered = traffic.sent[Status.DELIVERED]
    part = min(1, SAMPLE / max(1, sum(delivered)))
    wanted = [
        (start, end, ceil(number * part))
        for (start, end), number in zip(traffic.period.slots, delivered, strict=True)
        if number
    ]
    numbers: Counter[int] = Counter()
    tests = list(test_messages().values_list("pk", flat=True)[:MAX_TESTS])
    for seconds, number in _seconds_of_newest(wanted, tests):
        numbers[min(max(seconds, 0), LONGEST)] += number
    return DeliveryTimes(dict(numbers), is_sample=part < 1)


_NEWEST = f"""
    SELECT * FROM (
        SELECT submitted_at, status_changed_at FROM {_TABLE}
        WHERE {_IS_OUTBOUND} AND status = '{Status.DELIVERED.value}'
            AND created_at >= %s AND created_at < %s{{but}}
        ORDER BY created_at DESC LIMIT %s
    ) AS newest
"""  # noqa: S608
_UNIX_SECONDS = {
    "mysql": "TIMESTAMPDIFF(SECOND, '1970-01-01', {})",
    "postgresql": "FLOOR(DATE_PART('epoch', {}))::bigint",
    "sqlite": "CAST(STRFTIME('%%s', {}) AS INTEGER)",
}


def _seconds_of_newest(
    wanted: list[tuple[datetime, datetime, int]], tests: list[int]
) -> list[tuple[int, ...]]:
    """Return how long the newest messages of each slot took, and how many took as long."""
    if not wanted:
        return []
    seconds = _UNIX_SECONDS[connections[Message.objects.db].vendor].format
    took = f"{seconds('status_changed_at')} - {seconds('submitted_at')}"
    but = f" AND id NOT IN ({', '.join(map(str, tests))})" if tests else ""
    newest = " UNION ALL ".join([_NEWEST.format(but=but)] * len(wanted))
    sql = (
        f"SELECT {took}, COUNT(*) FROM ({newest}) AS delivered"  # noqa: S608
        " WHERE submitted_at IS NOT NULL AND status_changed_at IS NOT NULL GROUP BY 1"
    )
    return _fetch(sql, [value for each in wanted for value in each])
