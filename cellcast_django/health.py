"""Webhook health: the last webhooks, the unfinished events, and the deliveries."""

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
from cellcast_django.payloads import Endpoint
from cellcast_django.statuses import UNDELIVERED, Status
from cellcast_django.webhooks import WEBHOOKS

PERIOD = timedelta(days=1)  # what the counts of events and deliveries cover

SILENT_PERIOD = timedelta(days=7)  # how long a message without a report is counted as silent

MAX_EVENTS_PER_KIND = 10_000
"""``endpoint`` has no index, so only this many recent events of each kind are scanned."""

MAX_UNFINISHED = 1_000  # how many pending and how many failed events are scanned for their handlers


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiving:
    """What has arrived, and what is unfinished; our own Test Sends are in no count.

    ``Health`` adds the counts of the last day.
    """

    measured_at: datetime
    last_webhook_at: dict[Endpoint, datetime | None]
    """By URL; ``None`` if none of the newest 10,000 events of each kind came to it."""
    last_use_of: dict[str, datetime]
    """When each username was last used, among the same events."""
    received: dict[Endpoint, int]
    """How many events each URL has received since the given time, among the same events."""
    received_more: frozenset[Endpoint]
    """The URLs that may have received more, because all 10,000 of a kind are that recent."""
    invalid: int
    """Events of any age that could not be understood and were not reprocessed."""
    pending: int
    """Events with a handler that has not finished, and an attempt planned or running."""
    failed: int
    """Events that have failed and need attention."""
    oldest_due_at: datetime | None
    """When the longest overdue attempt was due, or when the next one is.

    If that is more than a few minutes ago, nothing runs ``cellcast_run_handlers``.
    """
    handlers_ran_at: datetime | None
    """When ``cellcast_run_handlers`` last finished, or recorded a heartbeat with ``--watch``."""

    @property
    def last_webhook_at_any_url(self) -> datetime | None:
        return max((at for at in self.last_webhook_at.values() if at), default=None)

    def age(self, moment: datetime) -> timedelta:
        """Return how long before the measurement a moment was; never negative."""
        return max(self.measured_at - moment, timedelta())

    @property
    def overdue(self) -> timedelta:
        """How long the oldest pending event has been due; zero if none is."""
        return self.age(self.oldest_due_at) if self.oldest_due_at else timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Receiving):
    """Webhook health at one moment."""

    events: dict[WebhookEvent.Outcome, int]
    """The events of the last day, by their outcome in the inbox."""
    sent: int
    """Outbound messages first seen in the last day."""
    delivered: int
    """How many of these were delivered."""
    undelivered: int
    """How many of these have another final status."""

    @property
    def delivery_rate(self) -> float | None:
        """The delivered share of the messages with a final status, from 0 to 1."""
        ended = self.delivered + self.undelivered
        return self.delivered / ended if ended else None


def measure_health() -> Health:
    """Measure webhook health. Changes nothing, and may raise ``django.db.Error``.

    Every query uses an index: the cost grows with the day's traffic and with what is pending, not
    with the tables.
    """
    start = timezone.now() - PERIOD
    receiving = measure_receiving(start)
    values: dict[str, Any] = {
        each.name: getattr(receiving, each.name) for each in fields(receiving)
    }
    return Health(**values, events=_events_since(start), **_deliveries_since(start))


def measure_receiving(start: datetime) -> Receiving:
    """Measure what has arrived, since ``start`` too, and what is unfinished.

    The cost grows with what is pending, not with the traffic. May raise ``django.db.Error``.
    """
    uses = _last_uses(start)
    by_kind: Counter[str] = Counter()
    endpoints = [each.endpoint for each in WEBHOOKS]
    received = dict.fromkeys(endpoints, 0)
    for use in uses:
        by_kind[use.kind] += use.events_since
        received[Endpoint(use.endpoint)] += use.events_since
    real = _real_events()
    waiting = real.pending().aggregate(n=Count("pk"), due=Min("next_run_at"))
    return Receiving(
        measured_at=timezone.now(),
        last_webhook_at=dict.fromkeys(endpoints)
        | {Endpoint(use.endpoint): use.received_at for use in uses},
        last_use_of={use.username: use.received_at for use in uses},
        received=received,
        received_more=frozenset(
            Endpoint(use.endpoint) for use in uses if by_kind[use.kind] >= MAX_EVENTS_PER_KIND
        ),
        invalid=real.invalid().count(),
        pending=waiting["n"],
        failed=real.failed().count(),
        oldest_due_at=waiting["due"],
        handlers_ran_at=CommandRun.last(CommandRun.Command.RUN_HANDLERS),
    )


def _events() -> WebhookEventQuerySet:
    """Return all events, from the database that is written to: a replica may lag."""
    return WebhookEvent.objects.using(database_alias())


def _real_events() -> WebhookEventQuerySet:
    """Return all events but our own tests. Needs no rows: the indexes have the keys."""
    return _events().exclude(pk__in=_events().filter(is_test=True).values("pk"))


_NEWEST = " UNION ALL ".join(
    f"""
    SELECT * FROM (
        SELECT id, kind, endpoint, username, received_at, is_test FROM {WebhookEvent._meta.db_table}
        WHERE kind >= '{kind}' AND kind <= '{kind}'
        ORDER BY kind DESC, received_at DESC LIMIT %(limit)s
    ) AS newest_{kind}
    """  # noqa: S608
    for kind in WebhookEvent.Kind.values
)
_LAST_USES = (
    "SELECT MAX(id) AS id, kind, endpoint, username, MAX(received_at) AS received_at,"  # noqa: S608
    " COUNT(CASE WHEN received_at >= %(start)s THEN 1 END) AS events_since"
    f" FROM ({_NEWEST}) AS newest"
    f" WHERE NOT is_test AND endpoint <> '{Endpoint.API.value}'"
    " GROUP BY kind, endpoint, username ORDER BY 5"
)


def _last_uses(start: datetime) -> list[Any]:
    """Return the last use of each kind, URL and username, oldest first; count since ``start``.

    Scans the newest events of each kind, so that a quiet kind reaches further back. Skips our own
    tests and what was fetched from Cellcast's API: neither proves that webhooks arrive. ``kind`` is
    a range and part of the order to force the index that begins with it: with that on the time,
    PostgreSQL reads ten events of other kinds for each reply.
    """
    return list(_events().raw(_LAST_USES, {"limit": MAX_EVENTS_PER_KIND, "start": start}))


def count_silent(older_than: timedelta) -> int:
    """Count the messages sent longer ago than this, within another week, that have no report.

    Older ones are left out, or a monitoring alert would stay on for ever and hide the next one.
    """
    silent = Message.objects.silent(older_than)
    return silent.filter(created_at__gt=timezone.now() - older_than - SILENT_PERIOD).count()


def count_unfinished() -> dict[str, Counter[str]]:
    """Count the ``pending`` and ``failed`` events that each handler has raised for.

    Events that no handler has raised for, because none was called or the process died, are counted
    under the empty name. Scans up to ``MAX_UNFINISHED`` events of each state: the pending ones due
    first, and the newest failed ones.
    """
    events = _real_events()
    unfinished: dict[str, Counter[str]] = {}
    # All columns of the index: by "-pk" alone, PostgreSQL walks the table until it has enough.
    columns = ["done_at", "next_run_at", "outcome", "pk"]
    for state, in_order in (
        ("pending", events.pending().order_by(*columns)),
        ("failed", events.failed().order_by(*(f"-{column}" for column in columns))),
    ):
        for results in in_order.values_list("handler_results", flat=True)[:MAX_UNFINISHED]:
            for name in errors_of(results) or [""]:
                unfinished.setdefault(name, Counter())[state] += 1
    return unfinished


def _events_since(start: datetime) -> dict[WebhookEvent.Outcome, int]:
    events = _events().filter(received_at__gte=start).order_by()
    tests = Counter(events.filter(is_test=True).values_list("outcome", flat=True))
    counts = dict(events.values_list("outcome").annotate(Count("pk")))
    return {each: counts.get(each.value, 0) - tests[each.value] for each in WebhookEvent.Outcome}


def _deliveries_since(start: datetime) -> dict[str, Any]:
    sent = Message.objects.using(database_alias()).outbound().filter(created_at__gte=start)
    tests = Counter(sent.from_tests().values_list("status", flat=True))
    return {
        "sent": sent.count() - tests.total(),
        "delivered": sent.delivered().count() - tests[Status.DELIVERED],
        "undelivered": sent.undelivered().count() - sum(tests[status] for status in UNDELIVERED),
    }
