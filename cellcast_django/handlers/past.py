"""Past events for one handler, that is written or mended only now: which are given to it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db.models import Max, Min

from cellcast_django.handlers.calls import names_for, with_facts
from cellcast_django.models import WebhookEvent, WebhookEventQuerySet

PAGE_SIZE = 500  # how many events are in memory at a time


class Count(NamedTuple):
    """How many events are given to the handler, and how many are not, by the reason."""

    given: int = 0
    finished: int = 0
    tests: int = 0
    duplicates: int = 0
    invalid: int = 0
    redacted: int = 0
    without_fact: int = 0


@dataclass(frozen=True, slots=True)
class PastEvents:
    """The events received in a span of time, both ends included, for one handler.

    Without ``finished``, only those that it has not finished.
    """

    handler: str
    since: datetime
    until: datetime
    finished: bool = False

    def pks(self) -> Iterator[int]:
        """Yield the keys of the events to give, in their order, from pages of bounded memory."""
        return (event.pk for event in self._with_a_fact() if self._is_given(event))

    def count(self) -> Count:
        """Return how many events there are to give, and not to give."""
        events = self._received()
        real = events.filter(is_test=False)
        stored = real.filter(outcome=WebhookEvent.Outcome.STORED)
        found = Counter(map(self._is_given, self._with_a_fact()))
        redacted = stored.filter(body="").count()
        return Count(
            given=found[True],
            finished=found[False],
            tests=events.filter(is_test=True).count(),
            duplicates=real.filter(outcome=WebhookEvent.Outcome.DUPLICATE).count(),
            invalid=real.filter(outcome=WebhookEvent.Outcome.INVALID).count(),
            redacted=redacted,
            without_fact=stored.count() - redacted - found.total(),
        )

    def _received(self) -> WebhookEventQuerySet:
        events = WebhookEvent.objects.fresh()
        return events.filter(received_at__gte=self.since, received_at__lte=self.until)

    def _with_a_fact(self) -> Iterator[WebhookEvent]:
        """Yield the events that have a fact for the handler, in the order of their keys."""
        events = self._received()
        ends = events.aggregate(first=Min("pk"), last=Max("pk"))
        if ends["first"] is None:
            return
        after = ends["first"] - 1
        stored = with_facts(events.filter(outcome=WebhookEvent.Outcome.STORED, is_test=False))
        stored = stored.filter(pk__lte=ends["last"]).order_by("pk")
        while page := list(stored.filter(pk__gt=after)[:PAGE_SIZE]):
            yield from (event for event in page if names_for(event, self.handler))
            after = page[-1].pk

    def _is_given(self, event: WebhookEvent) -> bool:
        names = names_for(event, self.handler)
        return self.finished or not all(event.has_finished(name) for name in names)
