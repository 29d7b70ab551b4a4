"""How receiving goes: the last webhooks, what waits to be announced, and what was delivered."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Max, Min
from django.utils import timezone

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.payloads import Endpoint

PERIOD = timedelta(days=1)
"""The time that the numbers of events and of deliveries are about."""

CENTURY = timedelta(days=36_525)

LOOK_BACK = 10_000
"""Of each kind so many events are looked at for the last webhook: no index leads to its URL."""

LOOK_AT = 1_000
"""So many of the pending and of the failed events are asked for their handlers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How receiving goes at one moment."""

    measured_at: datetime
    last_webhook_at: dict[Endpoint, datetime | None]
    """For each URL; ``None`` where the newest 10,000 events of each kind came by other ones."""
    last_use_of: dict[str, datetime]
    """When the last webhook came with each username, among the same events."""
    events: dict[WebhookEvent.Outcome, int]
    """The events of the last day, by what became of them in the inbox."""
    invalid: int
    """Events of any age that could not be understood, and wait to be processed again."""
    pending: int
    """Events with a handler that has not finished, and a next attempt planned or running."""
    failed: int
    """Events that were given up after the last attempt and wait for a person."""
    oldest_due_at: datetime | None
    """When the next attempt is due of the pending event that has waited longest.

    In the past by more than a few minutes, nothing runs ``cellcast_announce``.
    """
    sent: int
    """Messages that you sent, and that were first heard of in the last day."""
    delivered: int
    """Those of them that arrived."""
    undelivered: int
    """Those of them that ended otherwise."""

    @property
    def delivery_rate(self) -> float | None:
        """Of the sent messages that have a final status the part that arrived, from 0 to 1."""
        ended = self.delivered + self.undelivered
        return self.delivered / ended if ended else None

    @property
    def last_webhook_at_any_url(self) -> datetime | None:
        """When the last webhook came, whichever URL took it."""
        return max((at for at in self.last_webhook_at.values() if at), default=None)

    def age(self, moment: datetime) -> timedelta:
        """How long before the measurement a moment was; not below zero."""
        return max(self.measured_at - moment, timedelta())

    @property
    def overdue(self) -> timedelta:
        """How long the oldest pending announcement has been due; zero when none is."""
        return self.age(self.oldest_due_at) if self.oldest_due_at else timedelta()


def measure_health() -> Health:
    """Ask the database how receiving goes. Changes nothing, and raises ``django.db.Error``.

    Every question is answered by an index: the cost grows with the day's traffic and with what is
    pending, not with the tables.
    """
    now = timezone.now()
    waiting = WebhookEvent.objects.pending().aggregate(n=Count("pk"), due=Min("announce_due_at"))
    last_uses = list(_last_uses())
    return Health(
        measured_at=now,
        last_webhook_at={
            endpoint: max((use.at for use in last_uses if use.endpoint == endpoint), default=None)
            for endpoint in Endpoint
        },
        last_use_of={use.username: use.at for use in sorted(last_uses, key=lambda use: use.at)},
        events=_events_since(now - PERIOD),
        invalid=WebhookEvent.objects.invalid().count(),
        pending=waiting["n"],
        failed=WebhookEvent.objects.failed().count(),
        oldest_due_at=waiting["due"],
        **_deliveries_since(now - PERIOD),
    )


class LastUse(NamedTuple):
    """When a URL last took a webhook with a username."""

    endpoint: str
    username: str
    at: datetime


def _last_uses() -> Iterator[LastUse]:
    """Yield the newest of what each kind of event says: a quiet kind reaches further back."""
    long_ago = timezone.now() - CENTURY  # without a limit, SQLite would rather scan the table
    for kind in WebhookEvent.Kind:
        events = WebhookEvent.objects.filter(kind=kind)
        times = events.order_by("-received_at").values_list("received_at", flat=True)
        oldest = times[LOOK_BACK - 1 : LOOK_BACK].first() or long_ago
        uses = (
            events.filter(received_at__gte=oldest)
            .order_by()
            .values_list("endpoint", "username")
            .annotate(Max("received_at"))
        )
        yield from (LastUse(*use) for use in uses)


def count_unfinished() -> dict[str, Counter[str]]:
    """Count for each handler the events, ``pending`` and ``failed``, that it has raised for.

    Events for which no handler has raised, because none has been called or the process died, stand
    under the empty name. Looks at ``LOOK_AT`` events: of the pending the ones due first, of the
    failed the newest.
    """
    events = WebhookEvent.objects.only("announcements")
    unfinished: dict[str, Counter[str]] = {}
    # In all the words of the index: by "-pk" alone, PostgreSQL walks the table until it has enough.
    words = ["announced_at", "announce_due_at", "outcome", "pk"]
    for state, some in (
        ("pending", events.pending().order_by(*words)),
        ("failed", events.failed().order_by(*(f"-{word}" for word in words))),
    ):
        for event in some[:LOOK_AT]:
            for name in event.handler_errors() or [""]:
                unfinished.setdefault(name, Counter())[state] += 1
    return unfinished


def count_events_by_url(start: datetime) -> dict[Endpoint, int]:
    """Count the events that each URL has taken since ``start``."""
    by_url = (
        WebhookEvent.objects.filter(received_at__gte=start)
        .order_by()
        .values_list("endpoint")
        .annotate(Count("pk"))
    )
    numbers = dict(by_url)
    return {endpoint: numbers.get(endpoint.value, 0) for endpoint in Endpoint}


def _events_since(start: datetime) -> dict[WebhookEvent.Outcome, int]:
    by_outcome = (
        WebhookEvent.objects.filter(received_at__gte=start)
        .order_by()
        .values_list("outcome")
        .annotate(Count("pk"))
    )
    numbers = dict(by_outcome)
    return {outcome: numbers.get(outcome.value, 0) for outcome in WebhookEvent.Outcome}


def _deliveries_since(start: datetime) -> dict[str, int]:
    sent = Message.objects.outbound().filter(created_at__gte=start)
    return {
        "sent": sent.count(),
        "delivered": sent.delivered().count(),
        "undelivered": sent.undelivered().count(),
    }
