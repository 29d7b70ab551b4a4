"""The messages of a month: what became of those sent on each day, and for which reasons."""

import re
from calendar import monthrange
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Self

from django.db.models import Case, Count, F, Min, Value, When
from django.db.models.functions import MD5
from django.utils import timezone
from django.utils.formats import date_format

from cellcast_django.admin.day_range import first_day_on_the_way
from cellcast_django.days import midnight
from cellcast_django.models import Direction, Message
from cellcast_django.statuses import FINAL

MONTH = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])", re.ASCII)
MAX_TESTS = 1_000  # messages of Test Sends that are left out
Narrowing = Callable[[Any], Any]
"""Narrows messages: to those of one of your numbers, for example."""


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


Traffic = Counter[str]
"""The messages of one day, or of several whose counts add up, by what has become of them.

Under its final status is what was sent and has one. What has none is ``on_the_way`` for three days,
then ``unreported``: none is expected any more. Under ``replies`` is what customers sent.
"""


def messages_of(month: Month, narrow: Narrowing) -> Any:
    """Return the messages that count: without Test Sends."""
    every = Message.objects.fresh().filter(created_at__gte=month.start, created_at__lt=month.end)
    tests = every.of_tests().values_list("pk", flat=True)
    return narrow(every).exclude(pk__in=list(tests[:MAX_TESTS]))  # MariaDB: no LIMIT within IN


def count_messages(
    month: Month, narrow: Narrowing = lambda messages: messages, *, by_day: bool = True
) -> dict[date, Traffic]:
    """Count the messages of each day by ``created_at``; without ``by_day``, of two parts at most.

    In one statement. The days are compared with, not calculated: SQLite would do that in Python for
    each message, and MariaDB may have no time zones.
    """
    expected_from = first_day_on_the_way()
    # The second begins with the first day whose messages may still be on the way.
    starts = [day for day in month.days if by_day or day in (month.first, expected_from)]
    traffic = {start: Traffic() for start in starts}
    # The first that is true counts: a message is of the part before the first start to come.
    ends = [
        When(created_at__lt=midnight(start), then=Value(place))
        for place, start in enumerate(starts[1:])
    ]
    place_of = Case(*ends, default=Value(len(starts) - 1))
    counted = messages_of(month, narrow).order_by().annotate(place=place_of)
    rows = counted.values_list("place", "direction", "status").annotate(count=Count("pk"))
    for place, direction, status, count in rows:
        start = starts[place]
        if direction == Direction.INBOUND:
            name = "replies"
        elif status in FINAL:
            name = status
        else:
            name = "on_the_way" if start >= expected_from else "unreported"
        traffic[start][name] += count
    return traffic


Reasons = Counter[tuple[str, str]]
"""How often each reason was given, by its digest and its text."""


def count_reasons(month: Month, narrow: Narrowing) -> Reasons:
    """Count what was not delivered by the reason of the status that stands.

    Reasons are compared exactly, by their digests, as MariaDB compares text without case and
    accents. Messages without a reason are not among them.
    """
    given = (
        messages_of(month, narrow)
        .undelivered()
        .filter(status_history__status=F("status"), status_history__reason__gt="")
    )
    by_digest = given.order_by().values(digest=MD5("status_history__reason"))
    counted = by_digest.annotate(text=Min("status_history__reason"), count=Count("pk"))
    rows = counted.values_list("digest", "text", "count")
    return Reasons({(digest, text): count for digest, text, count in rows})
