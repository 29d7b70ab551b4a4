"""Webhook health: when webhooks last arrived, what is unfinished, and what was delivered."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import NamedTuple

from django.db import models
from django.db.models import Count, Min
from django.db.models.functions import Left
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.conf import conf
from cellcast_django.diagnostics.test_send import of_tests
from cellcast_django.handlers.calls import calls_of, with_facts
from cellcast_django.models import (
    CommandRun,
    HandlerResult,
    Message,
    MessageQuerySet,
    WebhookEvent,
    WebhookEventQuerySet,
    errors_of,
    time_of,
)
from cellcast_django.opt_outs import may_want_to_stop, opted_out
from cellcast_django.payloads import Endpoint
from cellcast_django.statuses import UNDELIVERED, Status
from cellcast_django.webhooks import WEBHOOKS

PERIOD = timedelta(days=1)  # what the counts of events and deliveries cover

SILENT_PERIOD = timedelta(days=7)  # how long a message without a report is counted as silent

MAX_NEWEST = 1_000
"""Webhooks of each kind that are looked at: no index begins with the URL or the username."""

MAX_UNFINISHED = 10_000
"""How many pending and how many failed events are scanned for their handlers."""

MAX_NOT_RUN = 1_000  # failed events whose handlers have not run: as many as one action takes

MAX_RESULTS = 2_000  # the newest results, among which the slowest handlers are looked for
MAX_SLOWEST = 5

MAX_WAITING = 5_000
"""The newest waiting replies are listed, counted, and searched for wishes to stop: so many."""

MAX_TEXT_LENGTH = 1_600  # characters of a text that are searched: no SMS is longer

MIN_UNREPORTED = 20  # sent messages without a report that are no coincidence


class Light(models.TextChoices):
    """Whether webhooks have arrived on a URL."""

    NEVER = "never", _("nothing yet")
    RECEIVED = "received", _("received")
    UNREPORTED = "unreported", _("no reports")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookHealth:
    """How webhooks arrive on one URL."""

    endpoint: Endpoint
    last_at: datetime | None
    """``None`` if none of the newest 1,000 webhooks of each kind came to it."""
    light: Light

    @property
    def problem(self) -> str:
        """What is wrong, in a sentence; ``""`` if nothing is known to be."""
        if self.light != Light.UNREPORTED:
            return ""
        return gettext(
            "At least %(count)d messages were sent over an hour ago, and no report has come since."
        ) % {"count": MIN_UNREPORTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """What has arrived."""

    urls: dict[Endpoint, WebhookHealth]
    last_use_of: dict[str, datetime]
    """When each username was last used, among the same webhooks."""

    @property
    def last_at(self) -> datetime | None:
        return max((each.last_at for each in self.urls.values() if each.last_at), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What handlers have not finished."""

    retrying: int
    """Events with an attempt planned or running, of which a handler has failed."""
    waiting: int
    """The same, of which none has: a worker is busy, or it is another event's turn."""
    failed: int
    overdue: timedelta
    """How long the oldest pending event has been due; zero if none is.

    If that is more than a few minutes, nothing runs ``cellcast_run_handlers``.
    """
    oldest_due_at: datetime | None
    """When the longest overdue attempt was due, or when the next one is."""
    ran_at: datetime | None
    """When ``cellcast_run_handlers`` last finished, or recorded a heartbeat with ``--watch``."""

    @property
    def pending(self) -> int:
        """Events with a handler that has not finished, and an attempt planned or running."""
        return self.retrying + self.waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """What has become of the messages sent in the last day."""

    sent: int
    delivered: int
    undelivered: int
    """How many have another final status."""
    although_opted_out: int = 0
    """How many went to somebody who had opted out when ``record_sent`` recorded them."""

    @property
    def rate(self) -> float | None:
        """The delivered share of the messages with a final status, from 0 to 1."""
        ended = self.delivered + self.undelivered
        return self.delivered / ended if ended else None


class Wish(NamedTuple):
    """A waiting reply that may ask for no more messages."""

    pk: int
    contact: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWishes:
    """The newest waiting replies in which customers may ask for no more messages."""

    count: int
    oldest_at: datetime | None

    @classmethod
    def among(cls, waiting: MessageQuerySet) -> "StopWishes":
        times = [wish.created_at for wish in wishes_to_stop(waiting)]
        return cls(count=len(times), oldest_at=min(times, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """The replies that nobody has answered or marked as done."""

    waiting: int
    """At most ``MAX_WAITING`` are counted."""
    oldest_at: datetime | None
    longest_wait: timedelta
    """Zero if none is waiting."""
    stop_wishes: StopWishes


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """The credit of the account, as ``cellcast_recover`` has read it last."""

    sms: int
    mms: int | None
    """``None`` if Cellcast did not say."""
    read_at: datetime

    @property
    def is_recent(self) -> bool:
        """Whether it was read in the last day."""
        return age(self.read_at) <= PERIOD


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHandler:
    """A handler, and its longest call of late."""

    handler: str
    seconds: float

    @property
    def is_too_slow(self) -> bool:
        """Whether it took over half of ``CELLCAST_HANDLER_LEASE``.

        After all of it, another process may call the handler again while it still runs.
        """
        return self.seconds > conf.handler_lease / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Webhook health at one moment. Test Sends are in no count."""

    measured_at: datetime
    webhooks: Webhooks
    handlers: Handlers
    replies: Replies
    deliveries: Deliveries
    events: dict[WebhookEvent.Outcome, int]
    """The events of the last day, by their outcome in the inbox."""
    tests: int
    """The events of the last day that came from Test Sends, and are in no other count."""
    invalid: int
    """Events of any age that could not be understood and that nobody has dismissed."""
    credit: Credit | None
    """``None`` if no run of ``cellcast_recover`` could read it."""
    slowest_handlers: list[SlowHandler]


def measure_health() -> Health:
    """Measure webhook health. Changes nothing, and may raise ``django.db.Error``.

    Every query uses an index: the cost grows with the day's traffic and with what is pending, not
    with the tables.
    """
    now = timezone.now()
    start = now - PERIOD
    events, tests = _events_since(start)
    return Health(
        measured_at=now,
        webhooks=measure_webhooks(),
        handlers=measure_handlers(),
        replies=measure_replies(),
        deliveries=_deliveries_since(start),
        events=events,
        tests=tests,
        invalid=count_invalid(),
        credit=last_credit(),
        slowest_handlers=slowest_handlers(),
    )


def age(moment: datetime) -> timedelta:
    """Return how long ago a moment was; never negative, as the clocks of two hosts may differ."""
    return max(timezone.now() - moment, timedelta())


def last_credit() -> Credit | None:
    """Return the last reading of the credit. May raise ``django.db.Error``."""
    read = CommandRun.last_summary(CommandRun.Command.RECOVER).get("credit")
    if read is None:
        return None
    return Credit(sms=read["sms"], mms=read["mms"], read_at=time_of(read["read_at"]))


def real_events() -> WebhookEventQuerySet:
    """Return all events but our own tests. Needs no rows: the indexes have the keys."""
    return WebhookEvent.objects.fresh().exclude(
        pk__in=WebhookEvent.objects.fresh().filter(is_test=True).values("pk")
    )


def count_invalid() -> int:
    """Count the events that could not be understood and need attention, without Test Sends."""
    return real_events().invalid().count()


# Webhooks


def measure_webhooks() -> Webhooks:
    """Find the last webhook of each URL. Neither Test Sends nor what recovery fetched count.

    The cost does not grow with the traffic. May raise ``django.db.Error``.
    """
    last_at: dict[str, datetime] = {}
    last_use_of: dict[str, datetime] = {}
    last_report_at = None
    for kind in WebhookEvent.Kind:
        # As a range and in the order, the kind forces the index that begins with it. With that on
        # the time, PostgreSQL reads ten events of other kinds for each reply.
        of_kind = WebhookEvent.objects.fresh().filter(kind__gte=kind, kind__lte=kind)
        webhooks = of_kind.filter(is_test=False).exclude(endpoint=Endpoint.API)
        newest = webhooks.order_by("-kind", "-received_at")[:MAX_NEWEST]
        rows = list(newest.values_list("endpoint", "username", "received_at"))
        for endpoint, username, at in rows:
            last_at[endpoint] = max(at, last_at.get(endpoint, at))
            last_use_of[username] = max(at, last_use_of.get(username, at))
        if rows and kind == WebhookEvent.Kind.STATUS:
            last_report_at = rows[0][2]
    is_unreported = _is_unreported(last_report_at)
    urls = {}
    for endpoint in (each.endpoint for each in WEBHOOKS):
        light = Light.RECEIVED if endpoint in last_at else Light.NEVER
        if endpoint == Endpoint.STATUS and is_unreported:
            light = Light.UNREPORTED
        urls[endpoint] = WebhookHealth(
            endpoint=endpoint, last_at=last_at.get(endpoint), light=light
        )
    return Webhooks(urls=urls, last_use_of=last_use_of)


def _is_unreported(last_report_at: datetime | None) -> bool:
    """Whether many messages were recorded a while ago, and no report has come since."""
    sent = Message.objects.fresh().silent(timedelta(hours=1))
    start = timezone.now() - PERIOD
    if last_report_at is not None:
        start = max(start, last_report_at)
    unreported = sent.filter(created_at__gt=start).order_by().values("pk")
    return unreported[:MIN_UNREPORTED].count() == MIN_UNREPORTED


# Handlers


def measure_handlers() -> Handlers:
    """Measure what handlers have not finished. May raise ``django.db.Error``."""
    pending = real_events().pending().aggregate(n=Count("pk"), due=Min("next_run_at"))
    retrying = real_events().retrying().count() if pending["n"] else 0
    due_at = pending["due"]
    return Handlers(
        retrying=retrying,
        waiting=max(0, pending["n"] - retrying),
        failed=real_events().failed().count(),
        overdue=age(due_at) if due_at else timedelta(),
        oldest_due_at=due_at,
        ran_at=CommandRun.last(CommandRun.Command.RUN_HANDLERS),
    )


class HeldUp(NamedTuple):
    """An event that handlers keep from being done."""

    pk: int
    received_at: datetime
    has_ended: bool
    """Whether it has failed: no further attempt is planned."""
    results: dict[str, HandlerResult]
    errors: dict[str, str]
    """The errors by handler; empty for one that has not run yet."""


def held_up(events: WebhookEventQuerySet) -> Iterator[HeldUp]:
    """Yield the newest failed events, then the newest ones that are retried.

    If no handler of a failed event has raised, one is left that nothing calls: the one that raised
    has been skipped, because it is called something else now. Of these, the newest
    ``MAX_NOT_RUN`` are looked at.
    """
    not_run = []
    states = [
        events.failed().order_by("-pk"),
        events.pending().order_by("-next_run_at", "-outcome", "-pk"),  # as the index has it
    ]
    columns = "pk", "received_at", "next_run_at", "handler_results"
    newest = (state.values_list(*columns)[:MAX_UNFINISHED] for state in states)
    for pk, received_at, next_run_at, results in chain.from_iterable(newest):
        if errors := errors_of(results):
            yield HeldUp(pk, received_at, next_run_at is None, results, errors)
        elif next_run_at is None:
            not_run.append(pk)
    for event in with_facts(events.filter(pk__in=not_run[:MAX_NOT_RUN])):
        results = event.handler_results
        left = {call.name: "" for call in calls_of(event) if call.name not in results}
        yield HeldUp(event.pk, event.received_at, True, results, left or {"": ""})


def slowest_handlers() -> list[SlowHandler]:
    """Return the slowest handlers of the newest ``MAX_RESULTS`` results, slowest first."""
    newest = real_events().order_by("-pk")[:MAX_RESULTS]
    saved = newest.values_list("handler_results", flat=True)
    results = chain.from_iterable(each.items() for each in saved)
    longest: dict[str, float] = {}
    for name, result in islice(results, MAX_RESULTS):
        if (seconds := result.get("seconds")) is not None:
            longest[name] = max(seconds, longest.get(name, 0))
    found = [SlowHandler(handler=name, seconds=seconds) for name, seconds in longest.items()]
    return sorted(found, key=lambda each: (-each.seconds, each.handler))[:MAX_SLOWEST]


# Messages


def measure_replies() -> Replies:
    """Count the replies that wait for an answer, and how long. May raise ``django.db.Error``."""
    waiting = Message.objects.fresh().unhandled()
    # handled_at is null in all of them, but PostgreSQL reads its index in order only if told.
    oldest_first = waiting.order_by("handled_at", "created_at")
    times = list(oldest_first.values_list("created_at", flat=True)[:MAX_WAITING])
    oldest_at = times[0] if times else None
    return Replies(
        waiting=len(times),
        oldest_at=oldest_at,
        longest_wait=age(oldest_at) if oldest_at else timedelta(),
        stop_wishes=StopWishes.among(waiting),
    )


def wishes_to_stop(waiting: MessageQuerySet) -> list[Wish]:
    """Return those of the newest waiting replies that mention stopping, the newest first.

    They are no stop words and opt nobody out, so a person should read them, within the days that
    the law allows. Whoever has opted out wants nothing more.
    """
    newest = waiting.order_by("-handled_at", "-created_at", "-pk")
    columns = ("pk", "contact", "created_at", Left("body", MAX_TEXT_LENGTH))
    wishes = [
        Wish(*row)
        for *row, text in newest.values_list(*columns)[:MAX_WAITING]
        if may_want_to_stop(text)
    ]
    done = opted_out({wish.contact for wish in wishes})
    return [wish for wish in wishes if wish.contact not in done]


def count_silent(older_than: timedelta) -> int:
    """Count the messages sent longer ago than this, within another week, that have no report.

    Older ones are left out, or a monitoring alert would stay on for ever and hide the next one.
    """
    return silent_lately(Message.objects.fresh(), older_than).count()


def silent_lately(messages: MessageQuerySet, older_than: timedelta) -> MessageQuerySet:
    """Narrow to the messages that ``count_silent`` counts."""
    start = timezone.now() - older_than - SILENT_PERIOD
    return messages.silent(older_than).filter(created_at__gt=start)


def _events_since(start: datetime) -> tuple[dict[WebhookEvent.Outcome, int], int]:
    """Return the events by outcome, and how many more came from Test Sends."""
    events = WebhookEvent.objects.fresh().filter(received_at__gte=start).order_by()
    tests = Counter(events.filter(is_test=True).values_list("outcome", flat=True))
    counts = dict(events.values_list("outcome").annotate(Count("pk")))
    real = {each: counts.get(each.value, 0) - tests[each.value] for each in WebhookEvent.Outcome}
    return real, tests.total()


def _deliveries_since(start: datetime) -> Deliveries:
    sent = Message.objects.fresh().outbound().filter(created_at__gte=start)
    tests = Counter(of_tests(sent).values_list("status", flat=True))
    return Deliveries(
        sent=sent.count() - tests.total(),
        delivered=sent.delivered().count() - tests[Status.DELIVERED],
        undelivered=sent.undelivered().count() - sum(tests[status] for status in UNDELIVERED),
        although_opted_out=sent.filter(opted_out_at__isnull=False).count(),
    )
