"""The messages of a period: counted from indexes alone, and settled days cached."""

from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import connections
from django.utils import timezone

from cellcast_django.admin.display.texts import DAY
from cellcast_django.admin.pages.periods import Period, Slot
from cellcast_django.models import Direction, Message, database_alias
from cellcast_django.statuses import FINAL, Status

IN_TRANSIT = ""  # stands for every status that is not final

SETTLED_AFTER = timedelta(days=3)
"""A slot that ended longer ago is counted once a day: few of its statuses still change."""

SLOTS_PER_QUERY = 24  # with more, PostgreSQL starts to compile the query, which takes a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The messages of a period, counted for each of its slots."""

    period: Period
    replies: list[int]
    """Inbound messages."""
    sent: dict[str, list[int]]
    """Outbound messages by status, those without a final one as ``IN_TRANSIT``."""

    @property
    def delivery_rate(self) -> float | None:
        """The delivered share of the messages with a final status, from 0 to 1."""
        ended = sum(sum(self.sent[status]) for status in FINAL)
        return sum(self.sent[Status.DELIVERED]) / ended if ended else None


def count_messages(period: Period) -> Traffic:
    """Count the messages by the slot of ``created_at``, by direction and by status.

    Counts of slots that ended more than three days ago come from Django's default cache and may be
    a day old: with ten million messages a year, three months take more than half a second.
    """
    replies, sent, *ended = map(list, zip(*_counts(period.slots), strict=True))
    _leave_out_tests(period, replies, sent, ended)
    in_transit = [count - sum(others) for count, *others in zip(sent, *ended, strict=True)]
    by_status = dict(zip(_FINAL, ended, strict=True))
    return Traffic(period=period, replies=replies, sent={**by_status, IN_TRANSIT: in_transit})


def _leave_out_tests(
    period: Period, replies: list[int], sent: list[int], ended: list[list[int]]
) -> None:
    """Subtract the messages of Test Sends, which are few."""
    messages = Message.objects.using(database_alias())
    tests = messages.from_tests().filter(created_at__gte=period.start, created_at__lt=period.end)
    for created_at, direction, status in tests.values_list("created_at", "direction", "status"):
        slot = bisect_right(period.starts, created_at) - 1
        if direction == Direction.INBOUND:
            replies[slot] -= 1
            continue
        sent[slot] -= 1
        if status in FINAL:
            ended[_FINAL.index(status)][slot] -= 1


def _counts(slots: list[Slot]) -> list[list[int]]:
    """Return the result of ``_count`` for each slot, from the cache if it was stored today."""
    now = timezone.now()
    key = f"cellcast_django.admin.pages.traffic.{now:%Y-%m-%d}"
    cached: dict[str, list[int]] = {}
    with suppress(Exception):  # without the cache the page is slower, but works
        cached = cache.get(key, {})
    database = connections[Message.objects.db].settings_dict["NAME"]  # tests use another one
    names = {f"{database} {slot[0].isoformat()} {slot[1].isoformat()}": slot for slot in slots}
    missing = {name: slot for name, slot in names.items() if name not in cached}
    counted = dict(zip(missing, _count(list(missing.values())), strict=True))
    settled = {
        name: counted[name] for name, (_, end) in missing.items() if end < now - SETTLED_AFTER
    }
    if settled:
        with suppress(Exception):
            cache.set(key, cached | settled, timeout=DAY)
    return [(cached | counted)[name] for name in names]


TABLE = Message._meta.db_table
_IS_INBOUND = f"direction = '{Direction.INBOUND.value}'"
IS_OUTBOUND = f"direction = '{Direction.OUTBOUND.value}'"
_FINAL = sorted(FINAL)
_COUNT = f"(SELECT COUNT(*) FROM {TABLE} WHERE {{}} AND created_at >= %s AND created_at < %s)"  # noqa: S608
_FINAL_IN_USE = " UNION ALL ".join(
    f"SELECT * FROM (SELECT status FROM {TABLE}"  # noqa: S608
    f" WHERE {IS_OUTBOUND} AND status = '{status}' LIMIT 1) AS is_{status}"
    for status in _FINAL
)


def _count(slots: list[Slot]) -> list[list[int]]:
    """Count for each slot the replies, the sent messages, and those with each final status.

    Each count is a range of one index and reads no rows. Grouping by status or by an expression
    would: PostgreSQL sorts millions of rows on disk. As querysets, hundreds of these conditions
    take longer to build than to run. PostgreSQL takes as long to plan them, so a status that no
    message has is left out.
    """
    in_use = [status for (status,) in fetch(_FINAL_IN_USE, [])] if slots else []
    conditions = [_IS_INBOUND, IS_OUTBOUND, *(f"{IS_OUTBOUND} AND status = '{s}'" for s in in_use)]
    counts = ", ".join(map(_COUNT.format, conditions))
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
    connection = connections[Message.objects.db]
    adapt = connection.ops.adapt_datetimefield_value
    values = [adapt(each) if isinstance(each, datetime) else each for each in values]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
