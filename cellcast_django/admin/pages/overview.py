"""The overview: whether webhooks come, what waits for a person, and how a period went.

What a person may not see is not shown.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.texts import ago, beginning, duration, figure, localised
from cellcast_django.admin.lists.event_filters import newest_troubled
from cellcast_django.admin.lists.filters import midnight
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.pages.charts import MAX_LABELS, Series, StackedBars, share
from cellcast_django.admin.pages.recovery import details_of_recovery
from cellcast_django.admin.pages.traffic import (
    LONGEST,
    UNDER_WAY,
    DeliveryTimes,
    Period,
    Traffic,
    count_delivery_times,
    count_messages,
    local_date,
)
from cellcast_django.conf import conf
from cellcast_django.health import (
    MAX_UNFINISHED,
    PERIOD,
    Receiving,
    count_unfinished,
    measure_receiving,
)
from cellcast_django.models import MAX_USERNAME_LENGTH, Message, OptOut, WebhookEvent, errors_of
from cellcast_django.statuses import UNDELIVERED, Status

PARAMETER = "period"
PERIODS = {"1": _("Today"), "7": _("7 days"), "30": _("30 days"), "90": _("90 days")}
DEFAULT_PERIOD = "7"

MODELS: tuple[type[Model], ...] = (WebhookEvent, Message)
"""Whoever may view one of these may see the overview: the part that is about it."""

OVERDUE = timedelta(minutes=15)
"""An announcement that has been due for longer has been forgotten: nothing announces it."""


ERROR_LENGTH = 160
"""Characters of a handler's last error."""
ERRORS_OF = 200
"""Events whose errors are looked at, of those that failed and of those that are retried."""


def details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return what the page shows to this person."""
    shown: dict[str, Any] = {}
    if model_admin.may_view(request, WebhookEvent):
        if is_restricted(model_admin, request, WebhookEvent):
            shown |= details_of_some_events(model_admin, request)
        else:
            shown |= details_of_events(model_admin)
    if model_admin.may_view(request, Message) and not is_restricted(model_admin, request, Message):
        shown |= details_of_messages(model_admin, request) | details_of_recovery(model_admin)
        if model_admin.may_view(request, OptOut):
            shown["new_opt_outs"] = new_opt_outs(model_admin, request)
    return shown


def is_restricted(model_admin: ReadOnlyAdmin, request: HttpRequest, model: type[Model]) -> bool:
    """Whether the host project's own class shows some of the rows only: figures count them all."""
    return bool(model_admin.rows_of(request, model).query.where)


# Events


def details_of_some_events(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return what needs attention of the events that this person may see, and nothing else."""
    events: Any = model_admin.rows_of(request, WebhookEvent)
    numbers = (events.invalid().count(), events.failed().count(), events.pending().count())
    return {"waiting": list(waiting(numbers, model_admin.url_of(WebhookEvent, "changelist")))}


def details_of_events(model_admin: ReadOnlyAdmin) -> dict[str, Any]:
    """Return the lights, what waits, and the use of the credentials."""
    health = measure_receiving(midnight(local_date(timezone.now())))
    list_url = model_admin.url_of(WebhookEvent, "changelist")
    is_forgotten = health.overdue > OVERDUE
    unfinished = count_unfinished() if health.pending or health.failed else {}
    return {
        "lights": list(lights(health)),
        "is_new": not health.last_webhook_at_any_url,
        "waiting": list(waiting((health.invalid, health.failed, health.pending), list_url)),
        "overdue": duration(health.overdue) if is_forgotten else None,
        "announce_ran": ago(health.announce_ran_at) if health.announce_ran_at else None,
        "unfinished": list(handlers(unfinished, list_url)),
        "unfinished_of_newest": figure(MAX_UNFINISHED)
        if max(health.pending, health.failed) > MAX_UNFINISHED
        else None,
        "credentials": list(credentials(health)),
    }


def lights(health: Receiving) -> Iterator[dict[str, Any]]:
    """Yield for each webhook URL whether webhooks come, by the last day."""
    for endpoint, at in health.last_webhook_at.items():
        if at is None:
            light = badge(Tone.QUIET, _("nothing yet"))
        elif health.age(at) > PERIOD:
            light = badge(Tone.WARNING, _("nothing for 24 h"))
        else:
            light = badge(Tone.GOOD, _("receiving"))
        yield {
            "name": endpoint.label,
            "light": light,
            "ago": ago(at) if at else None,
            "today": health.received[endpoint],
            "today_written": figure(health.received[endpoint]),
            "more_today": endpoint in health.received_more,
        }


def waiting(numbers: tuple[int, int, int], list_url: str) -> Iterator[dict[str, Any]]:
    """Yield how many are unreadable, have failed and are retried, each with where to find them."""
    states: list[tuple[str, Tone, Promise]] = [
        ("invalid", Tone.BAD, _("unreadable")),
        ("failed", Tone.BAD, _("failed")),
        ("pending", Tone.OPEN, _("retrying")),
    ]
    for (state, tone, words), number in zip(states, numbers, strict=True):
        yield {
            "number": figure(number),
            "badge": badge(tone if number else Tone.QUIET, words),
            "url": f"{list_url}?outcome={state}",
        }


def handlers(unfinished: dict[str, Counter[str]], list_url: str) -> Iterator[dict[str, Any]]:
    """Yield for each handler its unfinished events, and its last error; last those of none."""
    errors = newest_errors()
    for name in sorted(unfinished, key=lambda name: (not name, name)):
        numbers = unfinished[name]
        errors_of_handler = errors.get(name)
        yield {
            "name": name,
            "failed": figure(numbers["failed"]),
            "pending": figure(numbers["pending"]),
            "url": f"{list_url}?{urlencode({'handler': name})}" if name else "",
            **(errors_of_handler.shown(numbers.total()) if errors_of_handler else {}),
        }


@dataclass
class HandlerErrors:
    """What is known of a handler's errors, from the newest events that it raised for."""

    last: str
    last_at: datetime
    first_at: datetime
    """When the oldest of these events came."""
    events: int = 1

    def shown(self, count: int) -> dict[str, Any]:
        """Return what the page shows, where the handler has raised for so many events."""
        return {
            "error": beginning(self.last, ERROR_LENGTH),
            "last": ago(self.last_at),
            "first": ago(self.first_at),
            "is_older": count > self.events,
        }


def newest_errors() -> dict[str, HandlerErrors]:
    """Return for each handler its last error, and when it began, among the newest that failed."""
    found: dict[str, HandlerErrors] = {}
    for _pk, announcements, received_at in newest_troubled(WebhookEvent.objects.all(), ERRORS_OF):
        for name, error in errors_of(announcements).items():
            at = parse_datetime(announcements[name]["at"]) or received_at
            if name not in found:
                found[name] = HandlerErrors(error, at, received_at)
                continue
            errors = found[name]
            errors.events += 1
            errors.first_at = min(errors.first_at, received_at)
            if errors.last_at < at:
                errors.last, errors.last_at = error, at
    return found


def credentials(health: Receiving) -> Iterator[dict[str, Any]]:
    """Yield each username with its last use: those in the settings, then those once used."""
    entries = Counter(entry.partition(":")[0] for entry in conf.webhook_secrets)
    configured = {name[:MAX_USERNAME_LENGTH]: number for name, number in entries.items()}
    for username in [*configured, *(name for name in health.last_use_of if name not in configured)]:
        at = health.last_use_of.get(username)
        yield {
            "username": username,
            "ago": ago(at) if at else None,
            "entries": configured.get(username, 0),
        }


# Messages


def details_of_messages(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return how the period went that the address asks for."""
    days = chosen_days(request)
    period = Period.of_last_days(int(days))
    traffic = count_messages(period)
    rate = traffic.delivery_rate
    return {
        "periods": [(key, f"?{PARAMETER}={key}", word) for key, word in PERIODS.items()],
        "chosen_period": days,
        **charts(traffic, model_admin.url_of(Message, "changelist")),
        "delivery_rate": None if rate is None else number_format(100 * rate, 1),
        **times(count_delivery_times(traffic)),
    }


def chosen_days(request: HttpRequest) -> str:
    """Return how many days the address asks for."""
    chosen = request.GET.get(PARAMETER, DEFAULT_PERIOD)
    return chosen if chosen in PERIODS else DEFAULT_PERIOD


def new_opt_outs(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, str]:
    """Return how many contacts have opted out in the period, and where to find them."""
    period = Period.of_last_days(int(chosen_days(request)))
    rows = model_admin.rows_of(request, OptOut)
    found = rows.filter(since__gte=period.starts[0], since__lt=period.end).count()
    return {
        "number": figure(found),
        "url": model_admin.url_of(OptOut, "changelist"),
    }


SERIES: dict[str, str | Promise] = {
    **{status.value: status.label for status in reversed(Status) if status.value in UNDELIVERED},
    UNDER_WAY: _("in transit"),
    Status.DELIVERED.value: Status.DELIVERED.label,
}


def charts(traffic: Traffic, list_url: str) -> dict[str, Any]:
    """Return the messages by slot: sent and received as pictures, and each status in a table."""
    labels, urls = slot_labels(traffic.period), slot_urls(traffic.period, list_url)
    replies = Series("cellcast-series-replies", _("replies"), traffic.replies, "direction=inbound")
    by_status = [Series("", name, traffic.sent[status]) for status, name in SERIES.items()]
    pictures = [(_("Sent"), sent_series(traffic)), (_("Replies"), [replies])]
    return {
        "charts": [
            StackedBars(some, labels, urls, title)
            for title, series in pictures
            if (some := [each for each in series if each.total])
        ],
        "table": StackedBars([each for each in [*by_status, replies] if each.total], labels, urls),
        "is_hourly": traffic.period.is_hourly,
    }


def sent_series(traffic: Traffic) -> list[Series]:
    """Return what became of what was sent: what failed at the base, where it can be compared."""
    failed = [
        sum(numbers)
        for numbers in zip(*(traffic.sent[status] for status in UNDELIVERED), strict=True)
    ]
    delivered = traffic.sent[Status.DELIVERED]
    return [
        Series(
            "cellcast-series-undelivered",
            _("not delivered"),
            failed,
            "status=undelivered",
            is_failure=True,
        ),
        Series(
            "cellcast-series-under-way",
            _("in transit"),
            traffic.sent[UNDER_WAY],
            "direction=outbound",
        ),
        Series("cellcast-series-delivered", _("delivered"), delivered, "status=delivered"),
    ]


def slot_urls(period: Period, list_url: str) -> list[str]:
    """Return where the messages of the day of each slot are listed."""
    return [f"{list_url}?period={localised(start):%Y-%m-%d}" for start in period.starts]


def slot_labels(period: Period) -> list[str]:
    """Return what each slot is called: an hour, a day of the week or a day of the year."""
    format_ = "D j" if len(period.starts) <= MAX_LABELS else "j M"
    if period.is_hourly:
        format_ = "H:i"
    return [date_format(localised(start), format_) for start in period.starts]


LIMITS = [5, 10, 30, 60, 5 * 60, 15 * 60, 60 * 60, 6 * 60 * 60, LONGEST]
"""Seconds: where the bars of the histogram end."""


def times(delivery_times: DeliveryTimes) -> dict[str, Any]:
    """Return median, 95th percentile and histogram of the delivery time."""
    numbers = delivery_times.histogram(LIMITS)
    limits = [*map(in_words, LIMITS[:-1]), gettext("a day")]
    labels = [
        gettext("under %(limit)s") % {"limit": limits[0]},
        *(f"{low} – {high}" for low, high in pairwise(limits)),
        in_words(LONGEST),
    ]
    return {
        "timed": figure(delivery_times.total) if delivery_times.total else None,
        "timed_is_sample": delivery_times.is_sample,
        "median": in_words(delivery_times.percentile(50)),
        "percentile_95": in_words(delivery_times.percentile(95)),
        "histogram": [
            (label, figure(number), share(number, max(numbers)))
            for label, number in zip(labels, numbers, strict=True)
        ],
    }


def in_words(seconds: int | None) -> str:
    """Return a delivery time, of which nobody knows more than that it took ``LONGEST``."""
    if seconds is None:
        return ""
    return duration(timedelta(seconds=seconds)) if seconds < LONGEST else gettext("a day or more")
