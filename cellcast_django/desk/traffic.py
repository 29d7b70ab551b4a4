"""The messages of a period: counted from indexes alone, and settled days cached."""

from bisect import bisect_right
from calendar import monthrange
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import pairwise
from math import ceil
from typing import Any, Self, TypeVar

from django.core.cache import cache
from django.db import connections
from django.db.models import Count, F, Min, QuerySet
from django.db.models.functions import MD5
from django.utils import timezone

from cellcast_django.admin.display.texts import DAY, today
from cellcast_django.admin.lists.filters import keys_of_tests, midnight, on_the_way_since
from cellcast_django.diagnostics.test_send import of_tests
from cellcast_django.models import Direction, Message, StatusChange, database_alias
from cellcast_django.statuses import FINAL, UNDELIVERED, Status

T = TypeVar("T")
Slot = tuple[datetime, datetime]  # the first moment of a day, and the first one after it


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days in the current time zone."""

    first: date
    last: date

    @classmethod
    def of_last_days(cls, days: int) -> Self:
        """Return the last ``days`` with today."""
        return cls(today() - timedelta(days=days - 1), today())

    @classmethod
    def of_month(cls, first: date) -> Self:
        return cls(first, first.replace(day=monthrange(first.year, first.month)[1]))

    @property
    def days(self) -> list[date]:
        count = (self.last - self.first).days + 1
        return [self.first + timedelta(days=n) for n in range(count)]

    @property
    def start(self) -> datetime:
        return midnight(self.first)

    @property
    def end(self) -> datetime:
        return midnight(self.last + timedelta(days=1))

    @property
    def slots(self) -> list[Slot]:
        return list(pairwise([*map(midnight, self.days), self.end]))


NOT_FINAL = ""  # stands for every status that is not final

SETTLED_AFTER = timedelta(days=3)
"""A day that ended longer ago is counted once a day: few of its statuses still change."""

SLOTS_PER_QUERY = 24  # with more, PostgreSQL starts to compile the query, which takes a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The messages of a period, counted for each of its days."""

    period: Period
    replies: list[int]
    sent: dict[str, list[int]]
    """Outbound messages by status, those without a final one as ``NOT_FINAL``."""

    @property
    def total_sent(self) -> int:
        return sum(map(sum, self.sent.values()))

    @property
    def delivered(self) -> int:
        return sum(self.sent[Status.DELIVERED])

    @property
    def undelivered(self) -> int:
        return sum(sum(self.sent[status]) for status in UNDELIVERED)

    @property
    def on_the_way(self) -> int:
        """How many have no final status and were sent less than three days ago."""
        start = on_the_way_since()
        slots = zip(self.period.slots, self.sent[NOT_FINAL], strict=True)
        return sum(count for (at, _end), count in slots if at >= start)

    @property
    def unreported(self) -> int:
        """How many have no final status and were sent longer ago: none is expected any more."""
        return sum(self.sent[NOT_FINAL]) - self.on_the_way

    @property
    def delivery_rate(self) -> float | None:
        """The delivered share of the messages with a final status, from 0 to 1."""
        ended = self.delivered + self.undelivered
        return self.delivered / ended if ended else None


def count_messages(period: Period, own_number: str = "") -> Traffic:
    """Count the messages by the day of ``created_at``, by direction and by status.

    Counts of days that ended more than three days ago come from Django's default cache and may be
    a day old: with ten million messages a year, three months take more than half a second.
    """
    count = partial(_count_of_number, own_number) if own_number else _count
    slots = counted_today(f"messages {own_number}", period.slots, count)
    replies, sent, *ended = map(list, zip(*slots, strict=True))
    _leave_out_tests(period, own_number, replies, sent, ended)
    not_final = [count - sum(others) for count, *others in zip(sent, *ended, strict=True)]
    by_status = dict(zip(_FINAL, ended, strict=True))
    return Traffic(period=period, replies=replies, sent={**by_status, NOT_FINAL: not_final})


def _leave_out_tests(
    period: Period, own_number: str, replies: list[int], sent: list[int], ended: list[list[int]]
) -> None:
    """Subtract the messages of Test Sends, which are few."""
    tests = of_period(of_tests(_messages()), period.start, period.end, own_number)
    starts = [start for start, _end in period.slots]
    for created_at, direction, status in tests.values_list("created_at", "direction", "status"):
        slot = bisect_right(starts, created_at) - 1
        if direction == Direction.INBOUND:
            replies[slot] -= 1
            continue
        sent[slot] -= 1
        if status in FINAL:
            ended[_FINAL.index(status)][slot] -= 1


def _messages() -> Any:
    return Message.objects.fresh()


def of_period(
    messages: QuerySet[Any], start: datetime, end: datetime, own_number: str
) -> QuerySet[Any]:
    """Narrow to the messages between two times, and to one of your numbers if there is one."""
    found = messages.filter(created_at__gte=start, created_at__lt=end)
    return found.filter(own_number=own_number) if own_number else found


def counted_today(
    name: str, wanted: Sequence[Slot], count: Callable[[list[Slot]], list[T]]
) -> list[T]:
    """Return the result of ``count`` for each slot; of settled ones what it was earlier today.

    It is kept in Django's default cache. Without that the page is slower, but works.
    """
    now = timezone.now()
    database = connections[database_alias()].settings_dict["NAME"]  # tests use another one
    key = f"{__name__}.{sha256(f'{name} {database}'.encode()).hexdigest()}.{now:%Y-%m-%d}"
    cached: dict[Slot, T] = {}
    with suppress(Exception):
        cached = cache.get(key, {})
    missing = [slot for slot in wanted if slot not in cached]
    counted = dict(zip(missing, count(missing), strict=True))
    settled = {slot: each for slot, each in counted.items() if slot[1] < now - SETTLED_AFTER}
    if settled:
        with suppress(Exception):
            cache.set(key, cached | settled, timeout=DAY)
    return [(cached | counted)[slot] for slot in wanted]


TABLE = Message._meta.db_table
IS_INBOUND = f"direction = '{Direction.INBOUND.value}'"
IS_OUTBOUND = f"direction = '{Direction.OUTBOUND.value}'"
_FINAL = sorted(FINAL)


def _final_in_use() -> list[str]:
    """Return the final statuses that a message has: one look into the index for each."""
    selects = (
        f"SELECT * FROM (SELECT status FROM {TABLE}"  # noqa: S608
        f" WHERE {IS_OUTBOUND} AND status = '{status}' LIMIT 1) AS is_{status}"
        for status in _FINAL
    )
    return [status for (status,) in fetch(" UNION ALL ".join(selects), [])]


def _count(slots: list[Slot]) -> list[list[int]]:
    """Count for each slot the replies, the sent messages, and those with each final status.

    Each count is a range of one index and reads no rows. Grouping by status or by an expression
    would: PostgreSQL sorts millions of rows on disk. As querysets, hundreds of these conditions
    take longer to build than to run. PostgreSQL takes as long to plan them, so a status that no
    message has is left out.
    """
    in_use = _final_in_use() if slots else []
    conditions = [IS_INBOUND, IS_OUTBOUND, *(f"{IS_OUTBOUND} AND status = '{s}'" for s in in_use)]
    counts = ", ".join(
        f"(SELECT COUNT(*) FROM {TABLE} WHERE {each} AND created_at >= %s AND created_at < %s)"  # noqa: S608
        for each in conditions
    )
    counted = []
    for _, replies, sent, *ended in _of_slots(slots, counts, [], len(conditions)):
        by_status = dict(zip(in_use, ended, strict=True))
        counted.append([replies, sent, *(by_status.get(status, 0) for status in _FINAL)])
    return counted


def _count_of_number(own_number: str, slots: list[Slot]) -> list[list[int]]:
    """Count the same of one of your numbers: its rows of these days are read, from its index."""
    select = (
        f"direction, status, COUNT(*) FROM {TABLE}"
        " WHERE own_number = %s AND created_at >= %s AND created_at < %s GROUP BY 2, 3"
    )
    counts: Counter[tuple[int, str]] = Counter()
    for place, direction, status, count in _of_slots(slots, select, [own_number]):
        counts[place, direction] += count
        if direction == Direction.OUTBOUND:
            counts[place, status] += count
    words = [Direction.INBOUND.value, Direction.OUTBOUND.value, *_FINAL]
    return [[counts[place, word] for word in words] for place in range(len(slots))]


def _of_slots(
    slots: list[Slot], select: str, values: list[Any], ranges: int = 1
) -> list[tuple[Any, ...]]:
    """Return what a statement selects for each slot, after the slot's place, in their order.

    Each of its ``ranges`` takes the two times of the slot, after ``values``.
    """
    found: list[tuple[Any, ...]] = []
    for first in range(0, len(slots), SLOTS_PER_QUERY):
        batch = slots[first : first + SLOTS_PER_QUERY]
        selects = (f"SELECT {first + place}, {select}" for place in range(len(batch)))
        times = [each for slot in batch for each in [*values, *slot * ranges]]
        found += fetch(" UNION ALL ".join(selects), times)
    return sorted(found)


def fetch(sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a query on messages, with times as the database takes them."""
    connection = connections[database_alias()]
    adapt = connection.ops.adapt_datetimefield_value
    values = [adapt(each) if isinstance(each, datetime) else each for each in values]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


Reasons = Counter[tuple[str, str]]
"""How often each reason was given, by its digest and its text."""


def count_reasons(period: Period, own_number: str = "") -> Reasons:
    """Count what was not delivered by the reason of the status that stands.

    Reasons are compared exactly, by their digests, as MariaDB compares text without case and
    accents. Messages without a reason are not among them.
    """
    now = timezone.now()
    ended = [end for _, end in period.slots if end < now - SETTLED_AFTER]
    settled = max(ended, default=period.start)
    parts = [(period.start, settled), (settled, period.end)]
    wanted = [(start, end) for start, end in parts if start < end]

    def count(slots: list[Slot]) -> list[Reasons]:
        return [_reasons(*slot, own_number) for slot in slots]

    return sum(counted_today(f"reasons {own_number}", wanted, count), Reasons())


def _reasons(start: datetime, end: datetime, own_number: str) -> Reasons:
    """Count the reasons of messages that were created between two times."""
    is_of_number = {"message__own_number": own_number} if own_number else {}
    given = StatusChange.objects.fresh().filter(
        message__direction=Direction.OUTBOUND,
        message__status__in=UNDELIVERED,
        message__created_at__gte=start,
        message__created_at__lt=end,
        status=F("message__status"),
        **is_of_number,
    )
    by_digest = (
        given.exclude(reason="")
        .exclude(message__in=keys_of_tests(_messages()))
        .order_by()
        .values(digest=MD5("reason"))
        .annotate(text=Min("reason"), count=Count("pk"))
    )
    rows = by_digest.values_list("digest", "text", "count")
    return Reasons({(digest, text): count for digest, text, count in rows})


SAMPLE_SIZE = 2_000  # the newest delivered messages of a period, whose times are read

MAX_DELIVERY_SECONDS = DAY  # a delivery that took longer counts as one of this length


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """How long messages took to be delivered."""

    seconds: Sequence[int]
    """In ascending order, from 0 to ``MAX_DELIVERY_SECONDS``."""
    is_sample: bool = False
    """Whether there are more messages than these."""

    def percentile(self, percent: int) -> int | None:
        """Return the seconds within which this percentage arrived; ``None`` without messages."""
        if not self.seconds:
            return None
        return self.seconds[ceil(len(self.seconds) * percent / 100) - 1]


def measure_delivery_times(period: Period, own_number: str = "") -> DeliveryTimes:
    """Measure the newest deliveries, from ``submitted_at`` to ``delivered``.

    No status follows ``delivered``, so ``status_changed_at`` is when it was recorded. Messages
    whose id does not contain the time of their submission are left out.
    """
    delivered = _messages().delivered().exclude(pk__in=keys_of_tests(_messages()))
    timed = of_period(delivered, period.start, period.end, own_number).filter(
        submitted_at__isnull=False, status_changed_at__isnull=False
    )
    times = timed.order_by("-created_at").values_list("submitted_at", "status_changed_at")
    found = list(times[: SAMPLE_SIZE + 1])
    seconds = (int((end - start).total_seconds()) for start, end in found[:SAMPLE_SIZE])
    bounded = sorted(min(max(each, 0), MAX_DELIVERY_SECONDS) for each in seconds)
    return DeliveryTimes(bounded, is_sample=len(found) > SAMPLE_SIZE)
