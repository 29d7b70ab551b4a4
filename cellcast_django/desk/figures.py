"""The figures: how many messages were sent and received, what became of them, why, and how fast."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponseBase
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import LinkedCount, duration, localised, today
from cellcast_django.admin.lists.export import csv_of
from cellcast_django.admin.lists.filters import MessageTestFilter, ReasonFilter
from cellcast_django.desk.charts import MAX_LABELS, Series, StackedBars
from cellcast_django.desk.page import DeskPage
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


class PeriodLink(NamedTuple):
    """Leads to a period's figures."""

    key: str
    url: str
    label: str


class FigureRow(NamedTuple):
    """One figure of all periods that are shown."""

    name: str
    label: Promise
    counts: Sequence[LinkedCount]


@shown
class FiguresContent:
    """What the page shows."""

    periods: Sequence[PeriodLink]
    choice: ChosenPeriod
    columns: Sequence[Column]
    rows: Sequence[FigureRow]
    standing_opt_outs: LinkedCount | None
    reasons: Sequence[tuple[str | Promise, LinkedCount]]
    charts: Sequence[StackedBars]
    table: StackedBars
    times: "Times"


class Figures(DeskPage):
    """Figures, reasons, charts and the delivery time of a period, as a page or as a file."""

    name = "figures"
    title = _("Figures")
    template = "cellcast_desk/figures.html"

    @cached_property
    def choice(self) -> ChosenPeriod:
        return ChosenPeriod.of(self.request)

    @property
    def is_allowed(self) -> bool:
        return self.viewer.views_all_of(Message)

    def show(self) -> HttpResponseBase:
        if self.request.method == "POST":
            return self.as_csv()
        column = self.column(self.choice)
        columns = [column]
        if self.choice.is_month:
            columns.append(self.column(self.choice.month_before))
        month = ChosenPeriod.of_month(today().replace(day=1))
        last = month.month_before
        content = FiguresContent(
            periods=[
                PeriodLink(month.key, month.url, gettext("This month")),
                PeriodLink(last.key, last.url, gettext("Last month")),
                *(PeriodLink(key, f"?{PARAMETER}={key}", str(PERIODS[key])) for key in PERIODS),
            ],
            choice=self.choice,
            columns=columns,
            rows=[
                FigureRow(name, label, [each.figures[name][1] for each in columns])
                for name, (label, _count) in column.figures.items()
            ],
            standing_opt_outs=self.standing_opt_outs(),
            reasons=list(self.reasons(column)),
            charts=charts(column),
            table=table(column),
            times=Times.of(count_delivery_times(column.traffic)),
        )
        return self.render(content)

    def as_csv(self) -> HttpResponseBase:
        """Return the chosen period as a file, and record that it was taken."""
        column = self.column(self.choice)
        period = self.choice.period
        self.viewer.log_list(Message, f"Exported the figures of {self.choice.key}.")
        days = (period.first_day.isoformat(), period.last_day.isoformat())
        figures = [(*days, name, "", each.count) for name, (_label, each) in column.figures.items()]
        reasons = [
            (*days, "not_delivered", str(text), each.count) for text, each in self.reasons(column)
        ]
        heading = ("from", "to", "figure", "reason", "count")
        name = f"figures-{self.choice.key}.csv"
        return csv_of(self.request, name, heading, [[*figures, *reasons]])

    def column(self, choice: ChosenPeriod) -> Column:
        list_url = self.viewer.url(Message, "changelist")
        return Column(
            choice, count_messages(choice.period), list_url, self.new_opt_outs(choice.period)
        )

    def new_opt_outs(self, period: Period) -> LinkedCount | None:
        """Return how many contacts opted out; ``None`` for those who may not view them.

        By the history: whoever opts out again later has opted out in this period all the same.
        """
        if not self.viewer.may_view(OptOut):
            return None
        rows = self.viewer.rows(OptOut)
        begun = OptOutChange.objects.using(rows.db).filter(
            kind=OptOutChange.Kind.BEGUN, at__gte=period.start, at__lt=period.end
        )
        count = rows.filter(pk__in=begun.values("opt_out")).count()
        url = self.viewer.url(OptOut, "changelist")
        return LinkedCount.of(count, f"{url}?{days_of(period)}")

    def standing_opt_outs(self) -> LinkedCount | None:
        if not self.viewer.may_view(OptOut):
            return None
        rows: Any = self.viewer.rows(OptOut)
        url = f"{self.viewer.url(OptOut, 'changelist')}?state=active"
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


def charts(column: Column) -> list[StackedBars]:
    """Return charts of what was sent and of the replies, by slot; none without messages."""
    pictures = [(_("Sent"), sent_series(column.traffic)), (_("Replies"), [replies_series(column)])]
    return [
        StackedBars(shown, slot_labels(column), slot_urls(column), title)
        for title, series in pictures
        if (shown := [each for each in series if each.total])
    ]


def table(column: Column) -> StackedBars:
    """Return the messages by slot and status as a table."""
    by_status = [
        Series("", label, column.traffic.sent[status], f"status={status or 'not_final'}")
        for status, label in SERIES.items()
    ]
    series = [each for each in [*by_status, replies_series(column)] if each.total]
    total_url = f"{column.list_url}?{query_of(column.choice.period)}"
    return StackedBars(series, slot_labels(column), slot_urls(column), total_url=total_url)


def slot_urls(column: Column) -> list[str]:
    """Return the links to each day's messages; a list cannot be narrowed to an hour."""
    period = column.choice.period
    if period.is_hourly:
        return []
    days = [localised(start).date().isoformat() for start in period.starts]
    return [f"{column.list_url}?period={day}&test={MessageTestFilter.WITHOUT}" for day in days]


def replies_series(column: Column) -> Series:
    """Return the replies of each slot."""
    return Series("replies", _("replies"), column.traffic.replies, "direction=inbound")


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


def slot_labels(column: Column) -> list[str]:
    """Return the label of each slot: an hour, a day of the week or a day of the year."""
    period = column.choice.period
    format_ = "D j" if len(period.starts) <= MAX_LABELS else "j M"
    if period.is_hourly:
        format_ = "H:i"
    return [date_format(localised(start), format_) for start in period.starts]


class Times(NamedTuple):
    """How fast messages were delivered, in words."""

    counted: int
    is_sample: bool
    half: str
    """Within this time half of them had arrived."""
    nearly_all: str
    """And 19 of 20 within this."""

    @classmethod
    def of(cls, times: DeliveryTimes) -> "Times":
        half, nearly_all = (in_words(times.percentile(each)) for each in (50, 95))
        return cls(times.total, times.is_sample, half, nearly_all)


def in_words(seconds: int | None) -> str:
    """Return a delivery time; ``MAX_DELIVERY_SECONDS`` stands for anything from there up."""
    if seconds is None:
        return ""
    return (
        duration(timedelta(seconds=seconds))
        if seconds < MAX_DELIVERY_SECONDS
        else gettext("a day or more")
    )
