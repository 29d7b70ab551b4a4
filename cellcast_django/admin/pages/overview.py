"""The overview: whether webhooks arrive, what needs attention, and the figures of a period.

Each person sees the parts about the models that they may view.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.display.badges import EVENT_STATES, Tone, badge
from cellcast_django.admin.display.texts import ago, beginning, duration, figure, localised, today
from cellcast_django.admin.lists.filters import StatusFilter, midnight, newest_unfinished
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.pages.charts import MAX_LABELS, Series, StackedBars, share
from cellcast_django.admin.pages.traffic import (
    IN_TRANSIT,
    MAX_SECONDS,
    DeliveryTimes,
    Period,
    Traffic,
    count_delivery_times,
    count_messages,
)
from cellcast_django.admin.replay.event_actions import RetryFailed
from cellcast_django.admin.replay.pages import EventActionsAdmin
from cellcast_django.conf import conf
from cellcast_django.health import (
    MAX_UNFINISHED,
    PERIOD,
    Receiving,
    count_silent,
    count_unfinished,
    measure_receiving,
)
from cellcast_django.models import (
    MAX_USERNAME_LENGTH,
    CommandRun,
    Message,
    OptOut,
    WebhookEvent,
    errors_of,
)
from cellcast_django.statuses import UNDELIVERED, Status

MAX_OVERDUE = timedelta(minutes=15)
"""If an attempt is overdue by more, ``cellcast_run_handlers`` is not running."""

MAX_ERROR_LENGTH = 160  # characters of a handler's last error

MAX_EVENTS_WITH_ERRORS = 200
"""How many failed and how many pending events are scanned for their errors."""


def restricted_event_details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return what needs attention among the events that this person may see, and nothing else."""
    events: Any = model_admin.rows_of(request, WebhookEvent).filter(is_test=False)
    counts = (events.invalid().count(), events.failed().count(), events.pending().count())
    list_url = model_admin.url_of(WebhookEvent, "changelist")
    return {"needs_attention": list(needs_attention(counts, list_url))}


def event_details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return the lights, what needs attention, and which credentials are in use."""
    health = measure_receiving(midnight(today()))
    list_url = model_admin.url_of(WebhookEvent, "changelist")
    counts = (health.invalid, health.failed, health.pending)
    unfinished = count_unfinished() if health.pending or health.failed else {}
    is_partly_counted = max(health.pending, health.failed) > MAX_UNFINISHED
    return {
        "lights": list(lights(health)),
        "is_new": not health.last_webhook_at_any_url,
        "needs_attention": list(needs_attention(counts, list_url)),
        "overdue": duration(health.overdue) if health.overdue > MAX_OVERDUE else None,
        "handlers_ran": ago(health.handlers_ran_at) if health.handlers_ran_at else None,
        "failing_handlers": [
            each | {"retry_url": retry_url(model_admin, request, each["name"])}
            for each in failing_handlers(unfinished, list_url)
        ],
        "max_counted": figure(MAX_UNFINISHED) if is_partly_counted else None,
        "credentials": list(credentials(health)),
    }


def lights(health: Receiving) -> Iterator[dict[str, Any]]:
    """Yield for each webhook URL whether webhooks arrived in the last day."""
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
            "formatted_today": figure(health.received[endpoint]),
            "more_today": endpoint in health.received_more,
        }


def needs_attention(counts: tuple[int, int, int], list_url: str) -> Iterator[dict[str, Any]]:
    """Yield how many events are unreadable, failed and retrying, each with the link to them."""
    for state, count in zip(("invalid", "failed", "pending"), counts, strict=True):
        tone, word = EVENT_STATES[state]
        yield {
            "count": figure(count),
            "badge": badge(tone if count else Tone.QUIET, word),
            "url": f"{list_url}?outcome={state}",
        }


def failing_handlers(
    unfinished: dict[str, Counter[str]], list_url: str
) -> Iterator[dict[str, Any]]:
    """Yield each handler's unfinished events and last error; events of no handler come last."""
    errors = newest_errors()
    for name in sorted(unfinished, key=lambda name: (not name, name)):
        counts = unfinished[name]
        handler_errors = errors.get(name)
        yield {
            "name": name,
            "failed": figure(counts["failed"]),
            "pending": figure(counts["pending"]),
            "url": f"{list_url}?{urlencode({'handler': name})}" if name else "",
            **(handler_errors.details(counts.total()) if handler_errors else {}),
        }


def retry_url(model_admin: ReadOnlyAdmin, request: HttpRequest, handler: str) -> str:
    """Return where this person can retry a handler; empty where they may not."""
    events = model_admin.admin_site.get_model_admin(WebhookEvent)
    if not isinstance(events, EventActionsAdmin):
        return ""
    return events.of_handler_url(request, RetryFailed, handler)


@dataclass
class HandlerErrors:
    """A handler's errors in the events that were scanned."""

    last: str
    last_at: datetime
    first_at: datetime
    """When the oldest of these events arrived."""
    events: int = 1

    def details(self, count: int) -> dict[str, Any]:
        """Return what the page shows of a handler that has raised for ``count`` events."""
        return {
            "error": beginning(self.last, MAX_ERROR_LENGTH),
            "last": ago(self.last_at),
            "first": ago(self.first_at),
            "is_older": count > self.events,
        }


def newest_errors() -> dict[str, HandlerErrors]:
    """Return each handler's last error, and since when it has been failing."""
    found: dict[str, HandlerErrors] = {}
    events = newest_unfinished(WebhookEvent.objects.all(), MAX_EVENTS_WITH_ERRORS)
    for _pk, results, received_at in events:
        for name, error in errors_of(results).items():
            at = parse_datetime(results[name]["at"]) or received_at
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
    """Yield each username with its last use: first the configured ones, then the removed."""
    entries = Counter(entry.partition(":")[0] for entry in conf.webhook_secrets)
    configured = {name[:MAX_USERNAME_LENGTH]: count for name, count in entries.items()}
    for username in [*configured, *(name for name in health.last_use_of if name not in configured)]:
        at = health.last_use_of.get(username)
        yield {
            "username": username,
            "ago": ago(at) if at else None,
            "entries": configured.get(username, 0),
        }


PARAMETER = "period"
PERIODS = {"1": _("Today"), "7": _("7 days"), "30": _("30 days"), "90": _("90 days")}
DEFAULT_PERIOD = "7"


def message_details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return the figures for the period in the query string."""
    days = chosen_days(request)
    traffic = count_messages(Period.of_last_days(int(days)))
    rate = traffic.delivery_rate
    return {
        "periods": [(key, f"?{PARAMETER}={key}", label) for key, label in PERIODS.items()],
        "chosen_period": days,
        **charts(traffic, model_admin.url_of(Message, "changelist")),
        "delivery_rate": None if rate is None else number_format(100 * rate, 1),
        **times(count_delivery_times(traffic)),
    }


def chosen_days(request: HttpRequest) -> str:
    """Return how many days the query string asks for."""
    chosen = request.GET.get(PARAMETER, DEFAULT_PERIOD)
    return chosen if chosen in PERIODS else DEFAULT_PERIOD


def new_opt_outs(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, str]:
    """Return how many contacts opted out in the period, and the link to them."""
    period = Period.of_last_days(int(chosen_days(request)))
    rows = model_admin.rows_of(request, OptOut)
    return {
        "count": figure(rows.filter(since__gte=period.start, since__lt=period.end).count()),
        "url": model_admin.url_of(OptOut, "changelist"),
    }


SERIES: dict[str, str | Promise] = {
    **{status.value: status.label for status in reversed(Status) if status.value in UNDELIVERED},
    IN_TRANSIT: _("in transit"),
    Status.DELIVERED.value: Status.DELIVERED.label,
}


def charts(traffic: Traffic, list_url: str) -> dict[str, Any]:
    """Return the messages by slot: charts of sent ones and replies, and a table by status."""
    labels = slot_labels(traffic.period)
    days = [localised(start).date() for start in traffic.period.starts]
    urls = [f"{list_url}?period={day.isoformat()}" for day in days]
    replies = Series("cellcast-series-replies", _("replies"), traffic.replies, "direction=inbound")
    by_status = [Series("", label, traffic.sent[status]) for status, label in SERIES.items()]
    pictures = [(_("Sent"), sent_series(traffic)), (_("Replies"), [replies])]
    return {
        "charts": [
            StackedBars(shown, labels, urls, title)
            for title, series in pictures
            if (shown := [each for each in series if each.total])
        ],
        "table": StackedBars([each for each in [*by_status, replies] if each.total], labels, urls),
        "is_hourly": traffic.period.is_hourly,
    }


def sent_series(traffic: Traffic) -> list[Series]:
    """Return what was sent; the failures are at the base, where heights can be compared."""
    failed = [
        sum(counts)
        for counts in zip(*(traffic.sent[status] for status in UNDELIVERED), strict=True)
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
            traffic.sent[IN_TRANSIT],
            "direction=outbound",
        ),
        Series("cellcast-series-delivered", _("delivered"), delivered, "status=delivered"),
    ]


def slot_labels(period: Period) -> list[str]:
    """Return the label of each slot: an hour, a day of the week or a day of the year."""
    format_ = "D j" if len(period.starts) <= MAX_LABELS else "j M"
    if period.is_hourly:
        format_ = "H:i"
    return [date_format(localised(start), format_) for start in period.starts]


BAR_ENDS_SECONDS = [5, 10, 30, 60, 5 * 60, 15 * 60, 60 * 60, 6 * 60 * 60, MAX_SECONDS]
"""Where the bars of the histogram end."""


def times(delivery_times: DeliveryTimes) -> dict[str, Any]:
    """Return the median, 95th percentile and histogram of the delivery time."""
    counts = delivery_times.histogram(BAR_ENDS_SECONDS)
    limits = [*map(in_words, BAR_ENDS_SECONDS[:-1]), gettext("a day")]
    labels = [
        gettext("under %(limit)s") % {"limit": limits[0]},
        *(f"{low} – {high}" for low, high in pairwise(limits)),
        in_words(MAX_SECONDS),
    ]
    return {
        "timed": figure(delivery_times.total) if delivery_times.total else None,
        "timed_is_sample": delivery_times.is_sample,
        "median": in_words(delivery_times.percentile(50)),
        "percentile_95": in_words(delivery_times.percentile(95)),
        "histogram": [
            (label, figure(count), share(count, max(counts)))
            for label, count in zip(labels, counts, strict=True)
        ],
    }


def in_words(seconds: int | None) -> str:
    """Return a delivery time; ``MAX_SECONDS`` stands for anything from there up."""
    if seconds is None:
        return ""
    return (
        duration(timedelta(seconds=seconds)) if seconds < MAX_SECONDS else gettext("a day or more")
    )


LISTS = {"replies": _("Replies"), "statuses": _("Delivery reports"), "opt-outs": _("Opt-outs")}
"""The lists of Cellcast's API, by their keys in the summary of a run."""


def details_of_recovery(model_admin: ReadOnlyAdmin) -> dict[str, Any]:
    """Return how many messages are silent, and what recovery last found."""
    silent = count_silent(StatusFilter.SILENT_AFTER)
    return {
        "silent": {
            "count": figure(silent),
            "badge": badge(Tone.OPEN if silent else Tone.QUIET, _("no report")),
            "url": f"{model_admin.url_of(Message, 'changelist')}?status={StatusFilter.SILENT}",
        },
        **details_of_last_run(),
    }


def details_of_last_run() -> dict[str, Any]:
    """Return when recovery last ran, what it found, and whether it has a key."""
    run = CommandRun.objects.filter(command=CommandRun.Command.RECOVER).first()
    return {
        "has_key": bool(conf.api_key),
        "recovered": None if run is None else ago(run.ran_at),
        "recovered_lists": [] if run is None else list(lists(run.summary)),
    }


def lists(summary: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what was found in each list that was read."""
    for name, words in LISTS.items():
        if name not in summary:
            continue
        found = summary[name]
        yield {
            "name": words,
            "found": ngettext(
                "%(missing)s of %(seen)s was missing",
                "%(missing)s of %(seen)s were missing",
                found["missing"],
            )
            % {"missing": figure(found["missing"]), "seen": figure(found["seen"])},
            "is_incomplete": bool(found["error"]),
        }


MODELS: tuple[type[Model], ...] = (WebhookEvent, Message)
"""Permission to view one of these opens the overview, with the part about that model."""


def details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return what the page shows to this person."""
    shown = health_details(model_admin, request)
    if model_admin.may_view(request, Message) and not is_restricted(model_admin, request, Message):
        shown |= message_details(model_admin, request) | details_of_recovery(model_admin)
        if model_admin.may_view(request, OptOut):
            shown["new_opt_outs"] = new_opt_outs(model_admin, request)
    return shown


def health_details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return the part about webhooks."""
    if not model_admin.may_view(request, WebhookEvent):
        return {}
    if is_restricted(model_admin, request, WebhookEvent):
        return restricted_event_details(model_admin, request)
    return event_details(model_admin, request)


def is_restricted(model_admin: ReadOnlyAdmin, request: HttpRequest, model: type[Model]) -> bool:
    """Whether the host project's own class hides some rows, which our figures would count."""
    return bool(model_admin.rows_of(request, model).query.where)
