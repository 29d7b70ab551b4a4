"""The figures: how many messages were sent and received, what became of them, and how fast."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

from django.http import HttpRequest
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.texts import duration, figure, localised
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
from cellcast_django.models import Message, OptOut
from cellcast_django.statuses import UNDELIVERED, Status

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
