"""The messages of a month: how many of which status, for which reasons, and how fast."""

import re
from calendar import monthrange
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import Any, Self

from django.db.models import Count, F, Min, Value
from django.db.models.functions import MD5
from django.utils import timezone
from django.utils.formats import date_format

from cellcast_django.admin.display.texts import duration
from cellcast_django.admin.lists.filters import on_the_way_since
from cellcast_django.days import midnight
from cellcast_django.diagnostics.test_send import of_tests
from cellcast_django.models import Direction, Message
from cellcast_django.statuses import FINAL, UNDELIVERED, Status

MONTH = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, in the current time zone."""

    first: date

    @classmethod
    def of(cls, key: str = "") -> Self:
        """Return the month that a query string names; this one if there is none, or to come."""
        first = timezone.localdate().replace(day=1)
        if MONTH.fullmatch(key):
            first = min(first, date.fromisoformat(f"{key}-01"))
        return cls(first)

    @property
    def key(self) -> str:
        return f"{self.first:%Y-%m}"

    @property
    def last(self) -> date:
        return self.first.replace(day=monthrange(self.first.year, self.first.month)[1])

    @property
    def label(self) -> str:
        return date_format(self.first, "F Y")

    @property
    def is_unfinished(self) -> bool:
        """Whether it goes on after today."""
        return self.last > timezone.localdate()

    @property
    def before(self) -> Self:
        return type(self)((self.first - timedelta(days=1)).replace(day=1))

    @property
    def after(self) -> Self | None:
        """The next month, if it has begun."""
        first = self.last + timedelta(days=1)
        return type(self)(first) if first <= timezone.localdate() else None

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range(self.last.day)]

    @property
    def start(self) -> datetime:
        return midnight(self.first)

    @property
    def end(self) -> datetime:
        return midnight(self.last + timedelta(days=1))

    @property
    def slots(self) -> list[tuple[datetime, datetime]]:
        """The first moment of each day, and the first one after it."""
        return list(pairwise([*map(midnight, self.days), self.end]))


NOT_FINAL = ""  # stands for every status that is not final


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The messages of a month, counted for each of its days."""

    month: Month
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
        slots = zip(self.month.slots, self.sent[NOT_FINAL], strict=True)
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


MAX_TESTS = 1_000  # messages of Test Sends that are left out


def messages_of(month: Month, own_number: str) -> Any:
    """Return the messages that count: of one of your numbers if it is given, without Test Sends."""
    found = Message.objects.fresh().filter(created_at__gte=month.start, created_at__lt=month.end)
    if own_number:
        found = found.filter(own_number=own_number)
    tests = of_tests(found).values_list("pk", flat=True)
    return found.exclude(pk__in=list(tests[:MAX_TESTS]))


def count_messages(month: Month, own_number: str = "") -> Traffic:
    """Count the messages by the day of ``created_at``, by direction and by status."""
    messages = messages_of(month, own_number)
    # First those with a final status: what comes in between is then counted as without.
    ended = _by_day(messages.outbound(), month, "status", sorted(FINAL))
    both = _by_day(messages, month, "direction", Direction.values)
    days = zip(both[Direction.OUTBOUND], *ended.values(), strict=True)
    not_final = [count - sum(others) for count, *others in days]
    sent = {**ended, NOT_FINAL: not_final}
    return Traffic(month=month, replies=both[Direction.INBOUND], sent=sent)


def _by_day(
    messages: Any, month: Month, column: str, values: Sequence[str]
) -> dict[str, list[int]]:
    """Count how often a column has each of these values on each day, in one statement.

    Each count is a range of one index and reads no rows. Grouping by the day would read them all,
    and calculate the day of each.
    """
    counted = {value: [0] * len(month.days) for value in values}
    first, *others = (
        messages.filter(**{f"{column}__in": values}, created_at__gte=start, created_at__lt=end)
        .annotate(place=Value(place))
        .values_list("place", column)
        .annotate(count=Count("*"))
        .order_by()
        for place, (start, end) in enumerate(month.slots)
    )
    for place, value, count in first.union(*others, all=True):
        counted[value][place] = count
    return counted


Reasons = Counter[tuple[str, str]]
"""How often each reason was given, by its digest and its text."""


def count_reasons(month: Month, own_number: str = "") -> Reasons:
    """Count what was not delivered by the reason of the status that stands.

    Reasons are compared exactly, by their digests, as MariaDB compares text without case and
    accents. Messages without a reason are not among them.
    """
    given = (
        messages_of(month, own_number)
        .undelivered()
        .filter(status_history__status=F("status"), status_history__reason__gt="")
    )
    by_digest = given.order_by().values(digest=MD5("status_history__reason"))
    counted = by_digest.annotate(text=Min("status_history__reason"), count=Count("pk"))
    rows = counted.values_list("digest", "text", "count")
    return Reasons({(digest, text): count for digest, text, count in rows})


SAMPLE_SIZE = 2_000  # the newest delivered messages of a month, whose times are read


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """How long messages took to be delivered."""

    seconds: Sequence[int]
    """In ascending order; 0 if the server's clock was behind Cellcast's."""
    is_sample: bool = False
    """Whether there are more messages than these."""

    @property
    def half(self) -> str:
        """Within this time half of them had arrived."""
        return self._within(50)

    @property
    def nearly_all(self) -> str:
        """And 19 of 20 within this."""
        return self._within(95)

    def _within(self, percent: int) -> str:
        if not self.seconds:
            return ""
        place = ceil(len(self.seconds) * percent / 100) - 1
        return duration(timedelta(seconds=self.seconds[place]))


def measure_delivery_times(month: Month, own_number: str = "") -> DeliveryTimes:
    """Measure the newest deliveries, from ``submitted_at`` to ``delivered``.

    No status follows ``delivered``, so ``status_changed_at`` is when it was recorded. Messages
    whose id does not contain the time of their submission are left out.
    """
    timed = (
        messages_of(month, own_number)
        .delivered()
        .filter(submitted_at__isnull=False, status_changed_at__isnull=False)
    )
    times = timed.order_by("-created_at").values_list("submitted_at", "status_changed_at")
    found = list(times[: SAMPLE_SIZE + 1])
    seconds = sorted(max(0, int((end - at).total_seconds())) for at, end in found[:SAMPLE_SIZE])
    return DeliveryTimes(seconds, is_sample=len(found) > SAMPLE_SIZE)
