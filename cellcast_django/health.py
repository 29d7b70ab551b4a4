"""How receiving goes: the last webhooks, what waits to be announced, and what was delivered."""

from collections import Counter
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min
from django.utils import timezone

from cellcast_django.models import (
    CommandRun,
    Message,
    WebhookEvent,
    WebhookEventQuerySet,
    database_alias,
    errors_of,
)
from cellcast_django.payloads import WEBHOOK_ENDPOINTS, Endpoint

PERIOD = timedelta(days=1)
"""The time that the numbers of events and of deliveries are about."""

SILENT_PERIOD = timedelta(days=7)
"""For how long a message without a report is counted as silent."""

LOOK_BACK = 10_000
"""Of each kind so many events are looked at for what each URL took: no index leads to its URL."""

LOOK_AT = 1_000
"""So many of the pending and of the failed events are asked for their handlers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiving:
    """What has come and what waits at one moment. ``Health`` is this, and numbers of the day."""

    measured_at: datetime
    last_webhook_at: dict[Endpoint, datetime | None]
    """For each URL; ``None`` where the newest 10,000 events of each kind came by other ones."""
    last_use_of: dict[str, datetime]
    """When the last webhook came with each username, among the same events."""
    taken: dict[Endpoint, int]
    """The events that each URL has taken since the moment that was asked for, among the same."""
    taken_more: frozenset[Endpoint]
    """The URLs that may have taken more: of a kind all 10,000 are as young."""
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
    announce_ran_at: datetime | None
    """When ``cellcast_announce`` last ran to its end, or had its heartbeat with ``--watch``."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Receiving):
    """How receiving goes at one moment."""

    events: dict[WebhookEvent.Outcome, int]
    """The events of the last day, by what became of them in the inbox."""
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


def measure_health() -> Health:
    """Ask the database how receiving goes. Changes nothing, and raises ``django.db.Error``.

    Every question is answered by an index: the cost grows with the day's traffic and with what is
    pending, not with the tables.
    """
    start = timezone.now() - PERIOD
    receiving = measure_receiving(start)
    values: dict[str, Any] = {
        each.name: getattr(receiving, each.name) for each in fields(receiving)
    }
    return Health(**values, events=_events_since(start), **_deliveries_since(start))


def measure_receiving(start: datetime) -> Receiving:
    """Ask what has come, and since ``start`` how much, and what waits. Raises ``django.db.Error``.

    Does not grow with the traffic, only with what is pending.
    """
    uses = _last_uses(start)
    by_kind: Counter[str] = Counter()
    taken = dict.fromkeys(WEBHOOK_ENDPOINTS, 0)
    for use in uses:
        by_kind[use.kind] += use.number
        taken[Endpoint(use.endpoint)] += use.number
    waiting = _events().pending().aggregate(n=Count("pk"), due=Min("announce_due_at"))
    return Receiving(
        measured_at=timezone.now(),
        last_webhook_at=dict.fromkeys(WEBHOOK_ENDPOINTS)
        | {Endpoint(use.endpoint): use.received_at for use in uses},
        last_use_of={use.username: use.received_at for use in uses},
        taken=taken,
        taken_more=frozenset(
            Endpoint(use.endpoint) for use in uses if by_kind[use.kind] >= LOOK_BACK
        ),
        invalid=_events().invalid().count(),
        pending=waiting["n"],
        failed=_events().failed().count(),
        oldest_due_at=waiting["due"],
        announce_ran_at=CommandRun.last(CommandRun.Command.ANNOUNCE),
    )


def _events() -> WebhookEventQuerySet:
    """Return all events, read from the database that is written to: a replica may be late."""
    return WebhookEvent.objects.using(database_alias())


_NEWEST = " UNION ALL ".join(
    f"""
    SELECT * FROM (
        SELECT id, kind, endpoint, username, received_at, is_test FROM {WebhookEvent._meta.db_table}
        WHERE kind >= '{kind}' AND kind <= '{kind}'
        ORDER BY kind DESC, received_at DESC LIMIT %(look_back)s
    ) AS newest_{kind}
    """  # noqa: S608
    for kind in WebhookEvent.Kind.values
)
_LAST_USES = (
    "SELECT MAX(id) AS id, kind, endpoint, username, MAX(received_at) AS received_at,"  # noqa: S608
    " COUNT(CASE WHEN received_at >= %(start)s THEN 1 END) AS number"
    f" FROM ({_NEWEST}) AS newest"
    f" WHERE NOT is_test AND endpoint <> '{Endpoint.API.value}'"
    " GROUP BY kind, endpoint, username ORDER BY 5"
)


def _last_uses(start: datetime) -> list[Any]:
    """Return of each kind, URL and username the last time, oldest first, and how many came since.

    The newest of each kind are looked at: a quiet kind reaches further back. Our own tests and what
    was fetched from Cellcast's API are left out: they prove no webhook. That ``kind`` is asked
    for as a range, and named in the order, leaves only the index that begins with it: by that on
    the time, PostgreSQL reads ten events of other kinds for each reply.
    """
    values = {"look_back": LOOK_BACK, "start": start}
    return list(_events().raw(_LAST_USES, values))


def count_silent(older_than: timedelta) -> int:
    """Count the messages sent so long ago, or up to a week longer, of which nothing was reported.

    What has been silent for longer is history: nobody would hear of the next one for it.
    """
    silent = Message.objects.silent(older_than)
    return silent.filter(created_at__gt=timezone.now() - older_than - SILENT_PERIOD).count()


def count_unfinished() -> dict[str, Counter[str]]:
    """Count for each handler the events, ``pending`` and ``failed``, that it has raised for.

    Events for which no handler has raised, because none has been called or the process died, stand
    under the empty name. Looks at ``LOOK_AT`` events: of the pending the ones due first, of the
    failed the newest.
    """
    events = _events()
    unfinished: dict[str, Counter[str]] = {}
    # In all the words of the index: by "-pk" alone, PostgreSQL walks the table until it has enough.
    words = ["announced_at", "announce_due_at", "outcome", "pk"]
    for state, some in (
        ("pending", events.pending().order_by(*words)),
        ("failed", events.failed().order_by(*(f"-{word}" for word in words))),
    ):
        for announcements in some.values_list("announcements", flat=True)[:LOOK_AT]:
            for name in errors_of(announcements) or [""]:
                unfinished.setdefault(name, Counter())[state] += 1
    return unfinished


def _events_since(start: datetime) -> dict[WebhookEvent.Outcome, int]:
    by_outcome = (
        _events()
        .filter(received_at__gte=start)
        .order_by()
        .values_list("outcome")
        .annotate(Count("pk"))
    )
    numbers = dict(by_outcome)
    return {outcome: numbers.get(outcome.value, 0) for outcome in WebhookEvent.Outcome}


def _deliveries_since(start: datetime) -> dict[str, Any]:
    sent = Message.objects.using(database_alias()).outbound().filter(created_at__gte=start)
    return {
        "sent": sent.count(),
        "delivered": sent.delivered().count(),
        "undelivered": sent.undelivered().count(),
    }
