"""The figures: how many messages were sent and received, what became of them, why, and how fast."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.texts import LinkedCount, duration, localised, today
from cellcast_django.admin.lists.export import csv_of
from cellcast_django.admin.lists.filters import MessageTestFilter, ReasonFilter
from cellcast_django.admin.page import Page
from cellcast_django.desk.charts import MAX_LABELS, Series, StackedBars, share
from cellcast_django.desk.traffic import (
    MAX_DELIVERY_SECONDS,
    NOT_FINAL,
    DeliveryTimes,
    Period,
    Traffic,
    count_delivery_times,
    count_messages,
    count_reasons,
)
from cellcast_django.models import Message, OptOut, OptOutChange
from cellcast_django.statuses import UNDELIVERED, Status

PARAMETER = "period"
PERIODS = {"1": _("Today"), "7": _("7 days"), "30": _("30 days"), "90": _("90 days")}
MONTH = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])", re.ASCII)

MAX_REASONS = 20


@dataclass(frozen=True, kw_only=True)
class ChosenPeriod:
    """The period that the query string asks for: rolling days, or a calendar month."""

    key: str
    label: str
    period: Period

    @classmethod
    def of(cls, request: HttpRequest) -> "ChosenPeriod":
        """Return what is asked for; this month if that is nothing we know, or to come."""
        chosen = request.GET.get(PARAMETER, "")
        if chosen in PERIODS:
            period = Period.of_last_days(int(chosen))
            return cls(key=chosen, label=str(PERIODS[chosen]), period=period)
        month = today().replace(day=1)
        if MONTH.fullmatch(chosen):
            month = min(month, date.fromisoformat(f"{chosen}-01"))
        return cls.of_month(month)

    @classmethod
    def of_month(cls, first: date) -> "ChosenPeriod":
        label = date_format(first, "F Y")
        return cls(key=f"{first:%Y-%m}", label=label, period=Period.of_month(first))

    @property
    def is_month(self) -> bool:
        return self.key not in PERIODS

    @property
    def month_before(self) -> "ChosenPeriod":
        return self.of_month((self.period.first_day - timedelta(days=1)).replace(day=1))

    @property
    def month_after(self) -> "ChosenPeriod | None":
        """The next month, if it has begun."""
        first = self.period.last_day + timedelta(days=1)
        return self.of_month(first) if first <= today() else None

    @property
    def url(self) -> str:
        return f"?{PARAMETER}={self.key}"


@dataclass(frozen=True)
class Column:
    """The figures of one period: the rows of a table, each of which adds up."""

    choice: ChosenPeriod
    traffic: Traffic
    list_url: str
    new_opt_outs: LinkedCount | None

    def figure_of(self, count: int, query: str) -> LinkedCount:
        return LinkedCount.of(count, f"{self.list_url}?{query_of(self.choice.period)}", query)

    @property
    def figures(self) -> dict[str, tuple[Promise, LinkedCount]]:
        """The labels and counts by the names that they have in the file."""
        counted, of = self.traffic, self.figure_of
        figures: dict[str, tuple[Promise, LinkedCount]] = {
            "sent": (_("Sent"), of(counted.total_sent, "direction=outbound")),
            "delivered": (_("delivered"), of(counted.delivered, "status=delivered")),
            "not_delivered": (_("not delivered"), of(counted.undelivered, "status=undelivered")),
            "under_way": (
                _("on the way (less than 3 days)"),
                of(counted.under_way, "status=under_way"),
            ),
            "unreported": (
                _("without a final report"),
                of(counted.unreported, "status=unreported"),
            ),
            "replies": (_("Replies"), of(sum(counted.replies), "direction=inbound")),
        }
        if self.new_opt_outs is not None:
            figures["opt_outs"] = _("New opt-outs"), self.new_opt_outs
        return figures

    @property
    def delivered_share(self) -> str:
        """The delivered share of those with a final status, in percent; empty without any."""
        rate = self.traffic.delivery_rate
        return (
            "" if rate is None else gettext("%(rate)s%%") % {"rate": number_format(100 * rate, 1)}
        )


def days_of(period: Period) -> str:
    """Return the query string of the lists' rows of a period."""
    return f"from={period.first_day.isoformat()}&to={period.last_day.isoformat()}"


def query_of(period: Period) -> str:
    """Return the same without Test Sends."""
    return f"{days_of(period)}&test={MessageTestFilter.WITHOUT}"


class Figures(Page):
    """Figures, reasons, charts and delivery times of a period, as a page or as a file."""

    name = "figures"
    title = _("Figures")

    @cached_property
    def choice(self) -> ChosenPeriod:
        return ChosenPeriod.of(self.request)

    @property
    def is_allowed(self) -> bool:
        return self.admin.shows_all_of(self.request, Message)

    def details(self) -> dict[str, Any] | HttpResponse:
        if self.request.GET.get("format") == "csv":
            return self.as_csv()
        column = self.column(self.choice)
        columns = [column]
        if self.choice.is_month:
            columns.append(self.column(self.choice.month_before))
        months = ChosenPeriod.of_month(today().replace(day=1))
        return {
            "periods": [
                (months.key, months.url, gettext("This month")),
                (months.month_before.key, months.month_before.url, gettext("Last month")),
                *((key, f"?{PARAMETER}={key}", label) for key, label in PERIODS.items()),
            ],
            "choice": self.choice,
            "columns": columns,
            "rows": [
                (name, label, [each.figures[name][1] for each in columns])
                for name, (label, _count) in column.figures.items()
            ],
            "standing_opt_outs": self.standing_opt_outs(),
            "reasons": list(self.reasons(column)),
            "csv_url": f"{self.choice.url}&format=csv",
            **charts(column),
            **times(count_delivery_times(column.traffic)),
        }

    def as_csv(self) -> HttpResponse:
        """Return the chosen period as a file, and record that it was taken."""
        column = self.column(self.choice)
        period = self.choice.period
        self.admin.log_list(self.request, Message, f"Exported the figures of {self.choice.key}.")
        days = (period.first_day.isoformat(), period.last_day.isoformat())
        figures = [(*days, name, "", each.count) for name, (_label, each) in column.figures.items()]
        reasons = [
            (*days, "not_delivered", str(text), each.count) for text, each in self.reasons(column)
        ]
        heading = ("from", "to", "figure", "reason", "count")
        return csv_of(f"figures-{self.choice.key}.csv", [heading, *figures, *reasons])

    def column(self, choice: ChosenPeriod) -> Column:
        list_url = self.admin.url_of(Message, "changelist")
        return Column(
            choice, count_messages(choice.period), list_url, self.new_opt_outs(choice.period)
        )

    def new_opt_outs(self, period: Period) -> LinkedCount | None:
        """Return how many contacts opted out; ``None`` for those who may not view them.

        By the history: whoever opts out again later has opted out in this period all the same.
        """
        if not self.admin.may_view(self.request, OptOut):
            return None
        rows = self.admin.rows_of(self.request, OptOut)
        begun = OptOutChange.objects.using(rows.db).filter(
            kind=OptOutChange.Kind.BEGUN, at__gte=period.start, at__lt=period.end
        )
        count = rows.filter(pk__in=begun.values("opt_out")).count()
        url = self.admin.url_of(OptOut, "changelist")
        return LinkedCount.of(count, f"{url}?{days_of(period)}")

    def standing_opt_outs(self) -> LinkedCount | None:
        if not self.admin.may_view(self.request, OptOut):
            return None
        rows: Any = self.admin.rows_of(self.request, OptOut)
        url = f"{self.admin.url_of(OptOut, 'changelist')}?state=active"
        return LinkedCount.of(rows.active().count(), url)

    def reasons(self, column: Column) -> Iterator[tuple[str | Promise, LinkedCount]]:
        """Yield the most frequent reasons of what was not delivered, then all others."""
        counted = count_reasons(column.choice.period)
        named, rest = counted[:MAX_REASONS], counted[MAX_REASONS:]
        undelivered = "status=undelivered&reason="
        for digest, text, count in named:
            yield text, column.figure_of(count, f"{undelivered}{digest}")
        if other := sum(count for _digest, _text, count in rest):
            digests = ",".join(digest for digest, _text, _count in named)
            query = f"{undelivered}{ReasonFilter.OTHER}{digests}"
            yield _("other reasons"), column.figure_of(other, query)
        without = column.traffic.undelivered - sum(count for _digest, _text, count in counted)
        if without > 0:
            query = f"{undelivered}{ReasonFilter.NONE}"
            yield _("no reason given"), column.figure_of(without, query)


SERIES: dict[str, str | Promise] = {
    **{status.value: status.label for status in reversed(Status) if status.value in UNDELIVERED},
    NOT_FINAL: _("no final report yet"),
    Status.DELIVERED.value: Status.DELIVERED.label,
}


def charts(column: Column) -> dict[str, Any]:
    """Return the messages by slot: charts of sent ones and replies, and a table by status."""
    traffic = column.traffic
    labels = slot_labels(traffic.period)
    total_url = f"{column.list_url}?{query_of(traffic.period)}"
    urls: list[str] = []
    if not traffic.period.is_hourly:  # a list cannot be narrowed to an hour
        days = [localised(start).date().isoformat() for start in traffic.period.starts]
        without = f"test={MessageTestFilter.WITHOUT}"
        urls = [f"{column.list_url}?period={day}&{without}" for day in days]
    replies = Series("replies", _("replies"), traffic.replies, "direction=inbound")
    by_status = [
        Series("", label, traffic.sent[status], f"status={status or 'not_final'}")
        for status, label in SERIES.items()
    ]
    pictures = [(_("Sent"), sent_series(traffic)), (_("Replies"), [replies])]
    table = [each for each in [*by_status, replies] if each.total]
    return {
        "charts": [
            StackedBars(shown, labels, urls, title)
            for title, series in pictures
            if (shown := [each for each in series if each.total])
        ],
        "table": StackedBars(table, labels, urls, total_url=total_url),
        "is_hourly": traffic.period.is_hourly,
    }


def sent_series(traffic: Traffic) -> list[Series]:
    """Return what was sent; the failures are at the base, where heights can be compared."""
    failed = [
        sum(counts)
        for counts in zip(*(traffic.sent[status] for status in UNDELIVERED), strict=True)
    ]
    under_way, delivered = traffic.sent[NOT_FINAL], traffic.sent[Status.DELIVERED]
    return [
        Series("undelivered", _("not delivered"), failed, "status=undelivered", is_failure=True),
        Series("under-way", _("no final report yet"), under_way, "status=not_final"),
        Series("delivered", _("delivered"), delivered, "status=delivered"),
    ]


def slot_labels(period: Period) -> list[str]:
    """Return the label of each slot: an hour, a day of the week or a day of the year."""
    format_ = "D j" if len(period.starts) <= MAX_LABELS else "j M"
    if period.is_hourly:
        format_ = "H:i"
    return [date_format(localised(start), format_) for start in period.starts]


BAR_ENDS_SECONDS = [5, 10, 30, 60, 5 * 60, 15 * 60, 60 * 60, 6 * 60 * 60, MAX_DELIVERY_SECONDS]


def times(delivery_times: DeliveryTimes) -> dict[str, Any]:
    """Return the median, 95th percentile and histogram of the delivery time."""
    counts = delivery_times.histogram(BAR_ENDS_SECONDS)
    limits = [*map(in_words, BAR_ENDS_SECONDS[:-1]), gettext("a day")]
    labels = [
        gettext("under %(limit)s") % {"limit": limits[0]},
        *(f"{low} – {high}" for low, high in pairwise(limits)),
        in_words(MAX_DELIVERY_SECONDS),
    ]
    return {
        "timed": delivery_times.total,
        "timed_is_sample": delivery_times.is_sample,
        "median": in_words(delivery_times.percentile(50)),
        "percentile_95": in_words(delivery_times.percentile(95)),
        "histogram": [
            (label, count, share(count, max(counts)))
            for label, count in zip(labels, counts, strict=True)
        ],
    }


def in_words(seconds: int | None) -> str:
    """Return a delivery time; ``MAX_DELIVERY_SECONDS`` stands for anything from there up."""
    if seconds is None:
        return ""
    return (
        duration(timedelta(seconds=seconds))
        if seconds < MAX_DELIVERY_SECONDS
        else gettext("a day or more")
    )
