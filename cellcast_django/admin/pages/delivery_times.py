"""How long the messages of a period took to be delivered, from a sample of bounded size."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from math import ceil

from django.db import connections

from cellcast_django.admin.display.texts import DAY
from cellcast_django.admin.pages.traffic import IS_OUTBOUND, TABLE, Traffic, fetch
from cellcast_django.models import Message, database_alias
from cellcast_django.statuses import Status

SAMPLE_SIZE = 10_000  # delivered messages of a period whose times are read

MAX_TESTS = 1_000  # messages of Test Sends that are left out

MAX_SECONDS = DAY  # a delivery that took longer counts as one of this length


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """How many messages took how long to be delivered."""

    counts: dict[int, int]
    """The number of messages by whole seconds, from 0 to ``MAX_SECONDS``."""
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

    def histogram(self, limits: list[int]) -> list[int]:
        """Count what took less than each of the ascending limits, then what took longer."""
        bars: Counter[int] = Counter()
        for seconds, count in self.counts.items():
            bars[sum(limit <= seconds for limit in limits)] += count
        return [bars[place] for place in range(len(limits) + 1)]


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
    messages = Message.objects.using(database_alias())
    tests = list(messages.from_tests().values_list("pk", flat=True)[:MAX_TESTS])
    for seconds, count in _seconds_of_newest(wanted, tests):
        counts[min(max(seconds, 0), MAX_SECONDS)] += count
    return DeliveryTimes(dict(counts), is_sample=share < 1)


_NEWEST = f"""
    SELECT * FROM (
        SELECT submitted_at, status_changed_at FROM {TABLE}
        WHERE {IS_OUTBOUND} AND status = '{Status.DELIVERED.value}'
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
    """Return pairs of seconds and count, from the newest messages of each slot."""
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
    return fetch(sql, [value for each in wanted for value in each])
