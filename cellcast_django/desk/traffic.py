"""The messages of a period: counted from indexes alone, and settled days cached."""

from bisect import bisect_right
from calendar import monthrange
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import accumulate, pairwise
from math import ceil
from typing import Any, Self, TypeVar

from django.conf import settings
from django.core.cache import cache
from django.db import connections
from django.db.models import Count, F, Min
from django.db.models.functions import MD5
from django.utils import timezone

from cellcast_django.admin.display.texts import DAY, localised, today
from cellcast_django.admin.lists.filters import keys_of_tests, midnight, under_way_since
from cellcast_django.database.vendors import vendor_of
from cellcast_django.diagnostics.test_send import of_tests
from cellcast_django.models import Direction, Message, StatusChange, database_alias
from cellcast_django.statuses import FINAL, UNDELIVERED, Status

T = TypeVar("T")
Slot = tuple[datetime, datetime]  # its first moment, and the first moment after it


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days, cut into slots: the days, or the hours of a single day."""

    starts: tuple[datetime, ...]
    """The start of each slot; naive with ``USE_TZ = False``."""
    end: datetime

    @classmethod
    def of_last_days(cls, days: int) -> Self:
        """Return the last ``days`` with today; a single day is cut into hours."""
        if days > 1:
            return cls.of_days(today() - timedelta(days=days - 1), days)
        end = midnight(today() + timedelta(days=1))
        return cls(tuple(_hours(midnight(today()), end)), end)

    @classmethod
    def of_days(cls, first: date, days: int) -> Self:
        starts = tuple(midnight(first + timedelta(days=n)) for n in range(days))
        return cls(starts, midnight(first + timedelta(days=days)))

    @classmethod
    def of_month(cls, first: date) -> Self:
        return cls.of_days(first, monthrange(first.year, first.month)[1])

    @property
    def start(self) -> datetime:
        return self.starts[0]

    @property
    def first_day(self) -> date:
        return localised(self.start).date()

    @property
    def last_day(self) -> date:
        return localised(self.end - timedelta(hours=1)).date()

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


NOT_FINAL = ""  # stands for every status that is not final

SETTLED_AFTER = timedelta(days=3)
"""A slot that ended longer ago is counted once a day: few of its statuses still change."""

SLOTS_PER_QUERY = 24  # with more, PostgreSQL starts to compile the query, which takes a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The messages of a period, counted for each of its slots."""

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
    def under_way(self) -> int:
        """How many have no final status and were sent less than three days ago."""
        start = under_way_since()
        slots = zip(self.period.starts, self.sent[NOT_FINAL], strict=True)
        return sum(count for at, count in slots if at >= start)

    @property
    def unreported(self) -> int:
        """How many have no final status and were sent longer ago: none is expected any more."""
        return sum(self.sent[NOT_FINAL]) - self.under_way

    @property
    def delivery_rate(self) -> float | None:
        """The delivered share of the messages with a final status, from 0 to 1."""
        ended = self.delivered + self.undelivered
        return self.delivered / ended if ended else None


def count_messages(period: Period) -> Traffic:
    """Count the messages by the slot of ``created_at``, by direction and by status.

    Counts of slots that ended more than three days ago come from Django's default cache and may be
    a day old: with ten million messages a year, three months take more than half a second.
    """
    replies, sent, *ended = map(
        list, zip(*counted_today("messages", period.slots, _count), strict=True)
    )
    _leave_out_tests(period, replies, sent, ended)
    not_final = [count - sum(others) for count, *others in zip(sent, *ended, strict=True)]
    by_status = dict(zip(_FINAL, ended, strict=True))
    return Traffic(period=period, replies=replies, sent={**by_status, NOT_FINAL: not_final})


def _leave_out_tests(
    period: Period, replies: list[int], sent: list[int], ended: list[list[int]]
) -> None:
    """Subtract the messages of Test Sends, which are few."""
    messages = Message.objects.using(database_alias())
    tests = of_tests(messages).filter(created_at__gte=period.start, created_at__lt=period.end)
    for created_at, direction, status in tests.values_list("created_at", "direction", "status"):
        slot = bisect_right(period.starts, created_at) - 1
        if direction == Direction.INBOUND:
            replies[slot] -= 1
            continue
        sent[slot] -= 1
        if status in FINAL:
            ended[_FINAL.index(status)][slot] -= 1


def counted_today(
    name: str, wanted: Sequence[Slot], count: Callable[[list[Slot]], list[T]]
) -> list[T]:
    """Return the result of ``count`` for each slot; of settled ones what it was earlier today.

    It is kept in Django's default cache. Without that the page is slower, but works.
    """
    now = timezone.now()
    database = connections[database_alias()].settings_dict["NAME"]  # tests use another one
    key = f"{__name__}.{name}.{sha256(str(database).encode()).hexdigest()}.{now:%Y-%m-%d}"
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
    found: list[tuple[Any, ...]] = []
    for first in range(0, len(slots), SLOTS_PER_QUERY):
        batch = slots[first : first + SLOTS_PER_QUERY]
        selects = (f"SELECT {first + place}, {counts}" for place in range(len(batch)))
        values = [moment for slot in batch for _ in conditions for moment in slot]
        found += fetch(" UNION ALL ".join(selects), values)
    counted = []
    for _, replies, sent, *ended in sorted(found):
        by_status = dict(zip(in_use, ended, strict=True))
        counted.append([replies, sent, *(by_status.get(status, 0) for status in _FINAL)])
    return counted


def fetch(sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a query on messages, with times as the database takes them."""
    connection = connections[database_alias()]
    adapt = connection.ops.adapt_datetimefield_value
    values = [adapt(each) if isinstance(each, datetime) else each for each in values]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


Reasons = list[tuple[str, str, int]]
"""A digest of each reason, the reason, and how often it was given."""


def count_reasons(period: Period) -> Reasons:
    """Count what was not delivered by the reason of the status that stands, most frequent first.

    Reasons are compared exactly, by their digests, as MariaDB compares text without case and
    accents. Messages without a reason are not among them.
    """
    now = timezone.now()
    ended = [end for _, end in period.slots if end < now - SETTLED_AFTER]
    settled = max(ended, default=period.start)
    parts = [(period.start, settled), (settled, period.end)]
    wanted = [(start, end) for start, end in parts if start < end]
    counts: Counter[tuple[str, str]] = Counter()
    for found in counted_today(
        "reasons", wanted, lambda slots: [_reasons(*each) for each in slots]
    ):
        for digest, text, count in found:
            counts[digest, text] += count
    counted = [(digest, text, count) for (digest, text), count in counts.items()]
    return sorted(counted, key=lambda each: (-each[2], each[0]))


def _reasons(start: datetime, end: datetime) -> Reasons:
    """Count the reasons of messages that were created between two times."""
    alias = database_alias()
    tests = keys_of_tests(Message.objects.using(alias))
    given = StatusChange.objects.using(alias).filter(
        message__direction=Direction.OUTBOUND,
        message__status__in=UNDELIVERED,
        message__created_at__gte=start,
        message__created_at__lt=end,
        status=F("message__status"),
    )
    by_digest = (
        given.exclude(reason="")
        .exclude(message__in=tests)
        .order_by()
        .values(digest=MD5("reason"))
        .annotate(text=Min("reason"), count=Count("pk"))
    )
    return list(by_digest.values_list("digest", "text", "count"))


SAMPLE_SIZE = 10_000  # delivered messages of a period whose times are read

MAX_DELIVERY_SECONDS = DAY  # a delivery that took longer counts as one of this length


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """How many messages took how long to be delivered."""

    counts: dict[int, int]
    """The number of messages by whole seconds, from 0 to ``MAX_DELIVERY_SECONDS``."""
    is_sample: bool = False
    """Whether this is only a sample: the newest messages of each slot."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def percentile(self, percent: int) -> int | None:
        """Return the seconds within which this percentage arrived; ``None`` without messages."""
        wanted = ceil(self.total * percent / 100)
        seconds = sorted(self.counts)
        arrived = accumulate(self.counts[each] for each in seconds)
        return next(
            (each for each, count in zip(seconds, arrived, strict=True) if count >= wanted), None
        )


def count_delivery_times(traffic: Traffic) -> DeliveryTimes:
    """Count the delivered messages by the seconds from ``submitted_at`` to ``delivered``.

    Of more than ``SAMPLE_SIZE`` messages, the newest of each slot are read, in proportion. No
    status follows ``delivered``, so ``status_changed_at`` is when it was recorded. Messages whose
    id does not contain the time of their submission are left out.
    """
    delivered = traffic.sent[Status.DELIVERED]
    share = min(1, SAMPLE_SIZE / max(1, sum(delivered)))
    wanted = [
        (start, end, ceil(count * share))
        for (start, end), count in zip(traffic.period.slots, delivered, strict=True)
        if count
    ]
    counts: Counter[int] = Counter()
    tests = keys_of_tests(Message.objects.using(database_alias()))
    for seconds, count in _seconds_of_newest(wanted, tests):
        counts[min(max(seconds, 0), MAX_DELIVERY_SECONDS)] += count
    return DeliveryTimes(dict(counts), is_sample=share < 1)


def _seconds_of_newest(
    wanted: list[tuple[datetime, datetime, int]], tests: list[int]
) -> list[tuple[int, ...]]:
    """Return pairs of seconds and count, from the newest messages of each slot."""
    if not wanted:
        return []
    if not (seconds_of := vendor_of(connections[database_alias()]).unix_seconds):
        return _portable_seconds_of_newest(wanted, tests)
    seconds = seconds_of.format
    took = f"{seconds('status_changed_at')} - {seconds('submitted_at')}"
    but = f" AND id NOT IN ({', '.join(map(str, tests))})" if tests else ""
    newest = (
        f"SELECT * FROM (SELECT submitted_at, status_changed_at FROM {TABLE}"  # noqa: S608
        f" WHERE {IS_OUTBOUND} AND status = '{Status.DELIVERED.value}'"
        f" AND created_at >= %s AND created_at < %s{but}"
        " ORDER BY created_at DESC LIMIT %s) AS newest"
    )
    sql = (
        f"SELECT {took}, COUNT(*) FROM ({' UNION ALL '.join([newest] * len(wanted))}) AS delivered"  # noqa: S608
        " WHERE submitted_at IS NOT NULL AND status_changed_at IS NOT NULL GROUP BY 1"
    )
    return fetch(sql, [value for each in wanted for value in each])


def _portable_seconds_of_newest(
    wanted: list[tuple[datetime, datetime, int]], tests: list[int]
) -> list[tuple[int, ...]]:
    """Return the same on a database whose words for it are not known here."""
    took: Counter[int] = Counter()
    delivered = Message.objects.using(database_alias()).delivered().exclude(pk__in=tests)
    for start, end, count in wanted:
        slot = delivered.filter(created_at__gte=start, created_at__lt=end)
        times = slot.order_by("-created_at").values_list("submitted_at", "status_changed_at")
        for submitted_at, changed_at in times[:count]:
            if submitted_at and changed_at:
                took[int((changed_at - submitted_at).total_seconds())] += 1
    return list(took.items())
