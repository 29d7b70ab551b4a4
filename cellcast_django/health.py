"""Webhook health: when webhooks last arrived, what is unfinished, and what was delivered."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections, models
from django.db.models import Count, Max, Min, Q
from django.db.models.functions import Left
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.conf import conf
from cellcast_django.models import (
    CommandRun,
    Direction,
    HandlerCall,
    HandlerCallQuerySet,
    Message,
    MessageQuerySet,
    WebhookEvent,
    database_alias,
)
from cellcast_django.opt_outs import may_want_to_stop, opted_out
from cellcast_django.payloads import MAX_TEXT_LENGTH, Endpoint
from cellcast_django.statuses import UNDELIVERED, Status
from cellcast_django.webhooks import WEBHOOKS

PERIOD = timedelta(days=1)  # what the counts of events and deliveries cover
SILENT_PERIOD = timedelta(days=7)  # how long a message without a report is counted as silent
MAX_NEWEST = 1_000  # webhooks of each kind: no index begins with the URL or the secret
MAX_CALLS = 2_000  # the newest, among which the slowest handlers are looked for
MAX_SLOWEST = 5
MAX_WAITING = 5_000  # the newest waiting replies that are listed, counted and searched
MIN_UNREPORTED = 20  # sent messages without a report that are no coincidence


class Light(models.TextChoices):
    """Whether webhooks have arrived on a URL."""

    NEVER = "never", _("nothing yet")
    RECEIVED = "received", _("received")
    UNREPORTED = "unreported", _("no reports")


class WebhookHealth(NamedTuple):
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


class Webhooks(NamedTuple):
    """What has arrived."""

    urls: dict[Endpoint, WebhookHealth]
    last_use_of: dict[str, datetime]
    """When each secret was last used, by its username, among the same webhooks."""

    @property
    def last_at(self) -> datetime | None:
        return max((each.last_at for each in self.urls.values() if each.last_at), default=None)


class Handlers(NamedTuple):
    """How many calls of handlers have not ended well."""

    pending: int
    """Unfinished ones: those that wait, run, or are made again."""
    waiting: int
    retrying: int
    failed: int
    oldest_due_at: datetime | None
    """When the longest overdue call was due, or when the next one is."""
    ran_at: datetime | None
    """When ``cellcast_run_handlers`` last finished, or recorded a heartbeat with ``--watch``."""

    @property
    def overdue(self) -> timedelta:
        """How long the oldest call has been due: minutes, if nothing runs the handlers."""
        return age(self.oldest_due_at) if self.oldest_due_at else timedelta()


class FailingHandler(NamedTuple):
    """A handler, and how many of its calls fail."""

    handler: str
    retrying: int
    failed: int
    since: datetime
    """Since when the first of them fails."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Events of any age that are kept without their message, to be read later."""

    count: int
    oldest_at: datetime | None
    error: str
    """Of the oldest one: why it could not be stored."""

    @property
    def is_overdue(self) -> bool:
        """Whether one has been deferred for a day."""
        return self.oldest_at is not None and age(self.oldest_at) > PERIOD


class Replies(NamedTuple):
    """The replies that nobody has answered or marked as done."""

    waiting: int
    """At most ``MAX_WAITING`` are counted."""
    oldest_at: datetime | None
    stop_wishes: StopWishes

    @property
    def longest_wait(self) -> timedelta:
        return age(self.oldest_at) if self.oldest_at else timedelta()


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


class SlowHandler(NamedTuple):
    """A handler, and its longest call of late."""

    handler: str
    seconds: float

    @property
    def is_too_slow(self) -> bool:
        """Whether it took over half of ``CELLCAST_HANDLER_LEASE``."""
        return self.seconds > conf.handler_lease / 2


class Health(NamedTuple):
    """Webhook health at one moment. Test Sends are in no count."""

    measured_at: datetime
    webhooks: Webhooks
    handlers: Handlers
    replies: Replies
    deliveries: Deliveries
    events: dict[WebhookEvent.Outcome, int]
    """Those of the last day."""
    tests: int
    """The events of the last day that came from Test Sends."""
    invalid: int
    """Those of any age that nobody has dismissed."""
    deferred: Deferred
    credit: Credit | None
    """``None`` if no run of ``cellcast_recover`` could read it."""
    failing_handlers: list[FailingHandler]
    slowest_handlers: list[SlowHandler]


def measure_health() -> Health:
    """Measure webhook health. Changes nothing, and may raise ``django.db.Error``.

    The cost grows with the day's traffic and with what is pending, not with the tables.
    """
    now = timezone.now()
    events, tests = _events_since(now - PERIOD)
    return Health(
        measured_at=now,
        webhooks=measure_webhooks(),
        handlers=measure_handlers(),
        replies=measure_replies(),
        deliveries=_deliveries_since(now - PERIOD),
        events=events,
        tests=tests,
        invalid=count_invalid(),
        deferred=measure_deferred(),
        credit=last_credit(),
        failing_handlers=failing_handlers(),
        slowest_handlers=slowest_handlers(),
    )


def look_into_tables() -> None:
    """Raise ``django.db.Error`` if a table or column is missing: one query, which reads no row."""
    connection = connections[database_alias()]
    quote = connection.ops.quote_name
    tables, columns = [], []
    for model in apps.get_app_config("cellcast_django").get_models():
        tables.append(table := quote(model._meta.db_table))
        columns += [f"{table}.{quote(field.attname)}" for field in model._meta.concrete_fields]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)} FROM {', '.join(tables)} WHERE 1 = 0")  # noqa: S608


def age(moment: datetime) -> timedelta:
    """Return how long ago a moment was; never negative, as the clocks of two hosts may differ."""
    return max(timezone.now() - moment, timedelta())


def last_credit() -> Credit | None:
    """Return the last reading of the credit."""
    read = CommandRun.last_summary(CommandRun.Command.RECOVER).get("credit")
    if read is None:
        return None
    return Credit(sms=read["sms"], mms=read["mms"], read_at=datetime.fromisoformat(read["read_at"]))


def count_invalid() -> int:
    """Count the events that could not be understood and need attention, without Test Sends."""
    # By keys, which the indexes have: no row is read.
    tests = WebhookEvent.objects.fresh().filter(is_test=True).values("pk")
    return WebhookEvent.objects.fresh().exclude(pk__in=tests).invalid().count()


def measure_deferred() -> Deferred:
    """Count the events that wait to be read, without Test Sends."""
    deferred = WebhookEvent.objects.fresh().deferred().filter(is_test=False)
    oldest = deferred.order_by("pk").values_list("received_at", "error").first()
    at, error = oldest or (None, "")
    return Deferred(count=deferred.count(), oldest_at=at, error=error)


def measure_webhooks() -> Webhooks:
    """Find the last webhook of each URL. Neither Test Sends nor what recovery fetched count."""
    newest = {kind: _newest_webhooks(kind) for kind in WebhookEvent.Kind}
    last_at: dict[str, datetime] = {}
    last_use_of: dict[str, datetime] = {}
    for endpoint, received_as, at in chain.from_iterable(newest.values()):
        last_at[endpoint] = max(at, last_at.get(endpoint, at))
        last_use_of[received_as] = max(at, last_use_of.get(received_as, at))
    reports = newest[WebhookEvent.Kind.STATUS]
    is_unreported = _is_unreported(reports[0].received_at if reports else None)
    urls = {}
    for endpoint in (each.endpoint for each in WEBHOOKS):
        last = last_at.get(endpoint)
        light = Light.RECEIVED if last else Light.NEVER
        if endpoint == Endpoint.STATUS and is_unreported:
            light = Light.UNREPORTED
        urls[endpoint] = WebhookHealth(endpoint=endpoint, last_at=last, light=light)
    return Webhooks(urls=urls, last_use_of=last_use_of)


def _newest_webhooks(kind: WebhookEvent.Kind) -> list[Any]:
    """Return endpoint, secret's username and time of each of this kind, newest first."""
    # As a range and in the order, the kind forces the index that begins with it.
    of_kind = WebhookEvent.objects.fresh().filter(kind__gte=kind, kind__lte=kind)
    webhooks = of_kind.filter(is_test=False).exclude(endpoint=Endpoint.API)
    newest = webhooks.order_by("-kind", "-received_at")[:MAX_NEWEST]
    return list(newest.values_list("endpoint", "received_as", "received_at", named=True))


def _is_unreported(last_report_at: datetime | None) -> bool:
    """Whether many messages were recorded a while ago, and no report has come since."""
    a_day_ago = timezone.now() - PERIOD
    sent = Message.objects.fresh().silent(timedelta(hours=1))
    sent = sent.filter(created_at__gt=max(a_day_ago, last_report_at or a_day_ago))
    return sent.order_by().values("pk")[:MIN_UNREPORTED].count() == MIN_UNREPORTED


def real_calls() -> HandlerCallQuerySet:
    """Return all calls but those for our own tests."""
    tests = WebhookEvent.objects.fresh().filter(is_test=True).values("pk")
    return HandlerCall.objects.fresh().exclude(event__in=tests)


def measure_handlers() -> Handlers:
    """Measure which calls have not ended well."""
    states, calls = HandlerCall.State, real_calls()
    counts = calls.unfinished().aggregate(
        pending=Count("pk"),
        waiting=Count("pk", filter=Q(state=states.WAITING)),
        retrying=Count("pk", filter=Q(state=states.RETRYING)),
    )
    return Handlers(
        **counts,
        failed=calls.failed().count(),
        # What waits for an earlier call of its contact is not late.
        oldest_due_at=calls.waiting_for_none().aggregate(at=Min("next_attempt_at"))["at"],
        ran_at=CommandRun.last(CommandRun.Command.RUN_HANDLERS),
    )


def failing_handlers() -> list[FailingHandler]:
    """Return the handlers of which calls fail, by name."""
    by_handler = real_calls().failing().order_by("handler").values("handler")
    retrying = Q(state=HandlerCall.State.RETRYING)
    counts = by_handler.annotate(
        retrying=Count("pk", filter=retrying),
        failed=Count("pk", filter=~retrying),
        since=Min("failing_since"),
    )
    return [FailingHandler(**each) for each in counts]


def slowest_handlers() -> list[SlowHandler]:
    """Return the slowest handlers of the newest ``MAX_CALLS`` calls, slowest first."""
    last = HandlerCall.objects.fresh().aggregate(pk=Max("pk"))["pk"] or 0
    newest = real_calls().filter(pk__gt=last - MAX_CALLS, seconds__isnull=False).order_by("-pk")
    longest: dict[str, float] = {}
    # The order and the limit, which the range implies, keep databases from reading other rows.
    for name, seconds in newest.values_list("handler", "seconds")[:MAX_CALLS]:
        longest[name] = max(seconds or 0.0, longest.get(name, 0.0))
    slowest = sorted(longest.items(), key=lambda each: (-each[1], each[0]))
    return [SlowHandler(*each) for each in slowest[:MAX_SLOWEST]]


def measure_replies() -> Replies:
    """Count the replies that wait for an answer, and how long."""
    waiting = Message.objects.fresh().unhandled()
    # handled_at is null in all of them, but PostgreSQL reads its index in order only if told.
    oldest_first = waiting.order_by("handled_at", "created_at")
    times = list(oldest_first.values_list("created_at", flat=True)[:MAX_WAITING])
    wishes = [wish.created_at for wish in wishes_to_stop(waiting)]
    stop_wishes = StopWishes(count=len(wishes), oldest_at=min(wishes, default=None))
    oldest_at = times[0] if times else None
    return Replies(waiting=len(times), oldest_at=oldest_at, stop_wishes=stop_wishes)


def wishes_to_stop(waiting: MessageQuerySet) -> list[Wish]:
    """Return the newest waiting replies that mention stopping, except from who has opted out."""
    # handled_at is null in all of them, but the databases use its index only if told.
    newest = waiting.order_by("-handled_at", "-created_at", "-pk")
    columns = ("pk", "contact", "created_at", Left("body", MAX_TEXT_LENGTH))
    rows = newest.values_list(*columns)[:MAX_WAITING]
    wishes = [Wish(pk, contact, at) for pk, contact, at, text in rows if may_want_to_stop(text)]
    granted = opted_out({wish.contact for wish in wishes})
    return [wish for wish in wishes if wish.contact not in granted]


def count_silent(older_than: timedelta) -> int:
    """Count the messages sent longer ago than this that have no report."""
    return silent_lately(Message.objects.fresh(), older_than).count()


def silent_lately(messages: MessageQuerySet, older_than: timedelta) -> MessageQuerySet:
    """Narrow to the silent messages, but leave out what has been silent for a week.

    Nothing more will come for those: an alert that never ends would hide the next one.
    """
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
    # By what they are not: by what they are, SQLite may read those of all times.
    sent = Message.objects.fresh().exclude(direction=Direction.INBOUND)
    sent = sent.filter(created_at__gte=start)
    tests = Counter(sent.of_tests().values_list("status", flat=True))
    return Deliveries(
        sent=sent.count() - tests.total(),
        delivered=sent.delivered().count() - tests[Status.DELIVERED],
        undelivered=sent.undelivered().count() - sum(tests[status] for status in UNDELIVERED),
        # No test has this: only ``record_sent`` sets it, and what that recorded is no test.
        although_opted_out=sent.filter(opted_out_at__isnull=False).count(),
    )
