"""The messages of a period: how many, what became of them, and how long their delivery took.

Every question is answered by an index on the time, and costs what the period holds. The database
counts; what comes back is a number for each slot and status, or for each second of delivery time.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from math import ceil
from typing import Any, Self

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, F, Func, IntegerField, QuerySet, Value
from django.db.models.functions import Greatest, Least
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from cellcast_django.models import Direction, Message
from cellcast_django.statuses import FINAL, Status

UNDER_WAY = ""
"""Stands for every status that is not final."""

LONGEST = 86_400
"""Seconds: a delivery that took longer counts as one that took a day."""


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

    def holds(self, messages: QuerySet[Message]) -> QuerySet[Message]:
        """Narrow to the messages that were first heard of in the period."""
        return messages.filter(created_at__gte=self.start, created_at__lt=self.end)


def local_date(moment: datetime) -> date:
    """Return the day of a moment in the current time zone."""
    return (timezone.localtime(moment) if settings.USE_TZ else moment).date()


def midnight(day: date) -> datetime:
    """Return the start of a day in the current time zone."""
    start = datetime.combine(day, time.min)
    return timezone.make_aware(start) if settings.USE_TZ else start


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

    The limits of the slots are compared with, not computed by the database: they follow the clocks
    of the time zone also where the database does not know it. Each slot is a query of its own, all
    sent as one: grouped by an expression, PostgreSQL expects a group for each message, and sorts
    millions of them on disk.
    """
    ends = [*period.starts[1:], period.end]
    first, *others = (
        _counts_between(start, end).annotate(slot=Value(slot))
        for slot, (start, end) in enumerate(zip(period.starts, ends, strict=True))
    )
    replies = [0] * len(period.starts)
    sent = {status: [0] * len(period.starts) for status in (*FINAL, UNDER_WAY)}
    for direction, status, number, slot in first.union(*others, all=True):
        if direction == Direction.INBOUND:
            replies[slot] += number
        else:
            sent[status if status in FINAL else UNDER_WAY][slot] += number
    return Traffic(period=period, replies=replies, sent=sent)


def _counts_between(start: datetime, end: datetime) -> QuerySet[Any, Any]:
    messages = Message.objects.filter(created_at__gte=start, created_at__lt=end)
    return messages.order_by().values_list("direction", "status").annotate(Count("pk"))


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """How many messages took how long to be delivered."""

    numbers: dict[int, int]
    """The number of messages by whole seconds, from 0 to ``LONGEST``."""

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


def count_delivery_times(period: Period) -> DeliveryTimes:
    """Count the delivered messages by the seconds from ``submitted_at`` to ``delivered``.

    No status comes after ``delivered``, so ``status_changed_at`` is when it was recorded. Messages
    whose id does not tell when they were submitted are left out.
    """
    seconds = UnixSeconds(F("status_changed_at")) - UnixSeconds(F("submitted_at"))
    rows: Any = (
        period.holds(Message.objects.delivered())
        .filter(submitted_at__isnull=False, status_changed_at__isnull=False)
        .annotate(seconds=Least(Greatest(seconds, Value(0)), Value(LONGEST)))
        .order_by()
        .values_list("seconds")
        .annotate(Count("pk"))
    )
    return DeliveryTimes(dict(rows))


class UnixSeconds(Func):
    """The whole seconds of a moment since an epoch, without a call of Python for each row."""

    output_field = IntegerField()
    TEMPLATES = {
        "mysql": "TIMESTAMPDIFF(SECOND, '1970-01-01', %(expressions)s)",
        "postgresql": "FLOOR(DATE_PART('epoch', %(expressions)s))::bigint",
        "sqlite": "CAST(STRFTIME('%%%%s', %(expressions)s) AS INTEGER)",
    }

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        """Return the expression as this database has it."""
        template = self.TEMPLATES[connection.vendor]
        return super().as_sql(compiler, connection, template=template, **context)
