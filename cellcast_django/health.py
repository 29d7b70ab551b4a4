"""How receiving goes: the last webhooks, what waits to be announced, and what was delivered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, Q
from django.utils import timezone

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.payloads import Endpoint

PERIOD = timedelta(days=1)
"""The time that the numbers of events and of deliveries are about."""

LOOK_BACK = 10_000
"""For the last webhook, so many events of each kind are looked at: no index leads to the URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How receiving goes at one moment."""

    measured_at: datetime
    last_webhook_at: dict[Endpoint, datetime | None]
    """For each URL; ``None`` where the newest 10,000 events of each kind came by other ones."""
    events: dict[WebhookEvent.Outcome, int]
    """The events of the last day, by what became of them in the inbox."""
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
    return Health(
        measured_at=now,
        last_webhook_at=_last_webhooks(),
        events=_events_since(now - PERIOD),
        pending=waiting["n"],
        failed=WebhookEvent.objects.failed().count(),
        oldest_due_at=waiting["due"],
        **_deliveries_since(now - PERIOD),
    )


def _last_webhooks() -> dict[Endpoint, datetime | None]:
    """Return when each URL last took a webhook: the newest of what each kind of event says."""
    wanted: dict[str, Any] = {
        endpoint.value: Max("received_at", filter=Q(endpoint=endpoint.value))
        for endpoint in Endpoint
    }
    newest: dict[Endpoint, datetime | None] = dict.fromkeys(Endpoint)
    for kind in WebhookEvent.Kind:
        events = WebhookEvent.objects.filter(kind=kind).order_by("-received_at")[:LOOK_BACK]
        for name, at in events.aggregate(**wanted).items():
            newest[Endpoint(name)] = _later(newest[Endpoint(name)], at)
    return newest


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at), default=None)


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
