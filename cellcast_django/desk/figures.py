"""The figures: how many messages were sent and received, what became of them, why, and how fast."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponseBase
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import LinkedCount, duration, number_html, today
from cellcast_django.admin.lists.export import csv_of
from cellcast_django.admin.lists.filters import MessageTestFilter, ReasonFilter, own_numbers
from cellcast_django.desk.page import DeskPage
from cellcast_django.desk.traffic import (
    MAX_DELIVERY_SECONDS,
    NOT_FINAL,
    DeliveryTimes,
    Period,
    Reasons,
    Traffic,
    count_messages,
    count_reasons,
    measure_delivery_times,
)
from cellcast_django.models import Message, OptOut, OptOutChange
from cellcast_django.statuses import UNDELIVERED, Status

PERIODS = {"1": _("Today"), "7": _("7 days"), "30": _("30 days"), "90": _("90 days")}
MONTH = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])", re.ASCII)

MAX_REASONS = 20

MIN_FALL = 0.05  # a delivered share that has fallen by five points since last month is marked


@dataclass(frozen=True, kw_only=True)
class ChosenPeriod:
    """The period that the query string asks for: rolling days, or a calendar month."""

    key: str
    label: str
    period: Period

    @classmethod
    def of(cls, request: HttpRequest) -> "ChosenPeriod":
        """Return what is asked for; this month if that is nothing we know, or to come."""
        chosen = request.GET.get("period", "")
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
    def is_unfinished(self) -> bool:
        """Whether it is a month that goes on after today."""
        return self.period.last > today()

    @property
    def month_before(self) -> "ChosenPeriod":
        return self.of_month((self.period.first - timedelta(days=1)).replace(day=1))

    @property
    def month_after(self) -> "ChosenPeriod | None":
        """The next month, if it has begun."""
        first = self.period.last + timedelta(days=1)
        return self.of_month(first) if first <= today() else None


@shown
class Column:
    """The figures of one period: the rows of a table, each of which adds up."""

    choice: ChosenPeriod
    traffic: Traffic
    reasons: Reasons
    list_url: str
    """Leads to the messages that count, of any day."""
    new_opt_outs: LinkedCount | None

    def figure_of(self, count: int, query: str) -> LinkedCount:
        return LinkedCount.of(count, f"{self.list_url}&{days_of(self.choice.period)}", query)

    @property
    def figures(self) -> dict[str, tuple[Promise, LinkedCount]]:
        """The labels and counts by the names that they have in the file."""
        counted, of = self.traffic, self.figure_of
        figures: dict[str, tuple[Promise, LinkedCount]] = {
            "sent": (_("Sent"), of(counted.total_sent, "direction=outbound")),
            "delivered": (_("delivered"), of(counted.delivered, "status=delivered")),
            "not_delivered": (_("not delivered"), of(counted.undelivered, "status=undelivered")),
            "on_the_way": (
                _("on the way (less than 3 days)"),
                of(counted.on_the_way, "status=on_the_way"),
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
    return f"from={period.first.isoformat()}&to={period.last.isoformat()}"


class Switch(NamedTuple):
    """Leads to the figures of another period, or of another of your numbers."""

    url: str
    label: str | SafeString
    is_chosen: bool


@shown
class FigureRow:
    """One figure or reason of all periods that are shown, or the statuses of one day."""

    name: str
    label: str | Promise
    counts: Sequence[LinkedCount]


@shown
class Days:
    """The messages of each day by status: the headings, a row for each day, and the sums."""

    headings: Sequence[str | Promise]
    rows: Sequence[FigureRow]
    total: FigureRow


@shown
class FiguresContent:
    """What the page shows."""

    periods: Sequence[Switch]
    numbers: Sequence[Switch]
    before: Switch | None
    after: Switch | None
    csv_url: str
    columns: Sequence[Column]
    rows: Sequence[FigureRow]
    fall: str
    """By how much the delivered share has fallen, in points; empty if that is little."""
    standing_opt_outs: LinkedCount | None
    reasons: Sequence[FigureRow]
    days: Days
    times: "Times"


class Figures(DeskPage):
    """Figures, reasons, days and the delivery time of a period, as a page or as a file."""

    name = "figures"
    title = _("Figures")
    template = "cellcast_desk/figures.html"

    @cached_property
    def choice(self) -> ChosenPeriod:
        return ChosenPeriod.of(self.request)

    @cached_property
    def own_numbers(self) -> list[str]:
        return own_numbers(self.viewer.rows(Message))

    @cached_property
    def own_number(self) -> str:
        """The number of yours that alone is counted; empty for all."""
        asked = self.request.GET.get("own", "")
        return asked if asked in self.own_numbers else ""

    @property
    def is_allowed(self) -> bool:
        return self.viewer.views_all_of(Message)

    def show(self) -> HttpResponseBase:
        columns = [self.column(self.choice)]
        if self.choice.is_month:
            columns.append(self.column(self.choice.month_before))
        if self.request.method == "POST":
            return self.as_csv(columns)
        after = self.choice.month_after if self.choice.is_month else None
        content = FiguresContent(
            periods=list(self.periods()),
            numbers=[
                Switch(self.url_of(self.choice, each), number_html(each), each == self.own_number)
                for each in (self.own_numbers and ["", *self.own_numbers])
            ],
            before=self.switch(self.choice.month_before) if self.choice.is_month else None,
            after=self.switch(after) if after else None,
            csv_url=self.url_of(self.choice, self.own_number),
            columns=columns,
            rows=rows_of(columns),
            fall=fall_of(columns),
            standing_opt_outs=self.standing_opt_outs(),
            reasons=list(reasons_of(columns)),
            days=days_table(columns[0]),
            times=Times.of(measure_delivery_times(self.choice.period, self.own_number)),
        )
        return self.render(content)

    def url_of(self, choice: ChosenPeriod, own_number: str) -> str:
        own = {"own": own_number} if own_number else {}
        return f"?{urlencode({'period': choice.key, **own})}"

    def switch(self, choice: ChosenPeriod, label: str = "") -> Switch:
        url = self.url_of(choice, self.own_number)
        return Switch(url, label or choice.label, choice.key == self.choice.key)

    def periods(self) -> Iterator[Switch]:
        month = ChosenPeriod.of_month(today().replace(day=1))
        yield self.switch(month, gettext("This month"))
        yield self.switch(month.month_before, gettext("Last month"))
        for key, label in PERIODS.items():
            period = Period.of_last_days(int(key))
            yield self.switch(ChosenPeriod(key=key, label=str(label), period=period))

    def as_csv(self, columns: Sequence[Column]) -> HttpResponseBase:
        """Return what the page shows as a file, and record that it was taken."""
        self.viewer.log_list(Message, f"Exported the figures of {self.choice.key}.")
        reasons, days = list(reasons_of(columns)), days_table(columns[0])
        lines: list[tuple[Any, ...]] = []
        for place, column in enumerate(columns):
            period = column.choice.period
            dates = period.first.isoformat(), period.last.isoformat()
            for name, (_label, figure) in column.figures.items():
                lines.append((*dates, name, "", figure.count))
            lines.append((*dates, "delivery_rate", "", column.traffic.delivery_rate))
            for row in reasons:
                lines.append((*dates, "not_delivered", row.label, row.counts[place].count))
        for row in days.rows:
            for status, figure in zip(days.headings, row.counts, strict=True):
                lines.append((row.name, row.name, status, "", figure.count))
        heading = ("own_number", "from", "to", "figure", "reason", "count")
        name = f"figures-{self.choice.key}.csv"
        parts = [[(self.own_number, *line) for line in lines]]
        return csv_of(self.request, name, heading, parts)

    def column(self, choice: ChosenPeriod) -> Column:
        counted = {"test": MessageTestFilter.WITHOUT}
        if self.own_number:
            counted["own_number"] = self.own_number
        return Column(
            choice,
            count_messages(choice.period, self.own_number),
            count_reasons(choice.period, self.own_number),
            f"{self.viewer.url(Message, 'changelist')}?{urlencode(counted)}",
            self.new_opt_outs(choice.period),
        )

    def new_opt_outs(self, period: Period) -> LinkedCount | None:
        """Return how many contacts opted out; ``None`` for those who may not view them.

        By the history: whoever opts out again later has opted out in this period all the same. Who
        opts out does so from all your numbers.
        """
        if self.own_number or not self.viewer.may_view(OptOut):
            return None
        rows = self.viewer.rows(OptOut)
        begun = OptOutChange.objects.using(rows.db).filter(
            kind=OptOutChange.Kind.BEGUN, at__gte=period.start, at__lt=period.end
        )
        count = rows.filter(pk__in=begun.values("opt_out")).count()
        url = self.viewer.url(OptOut, "changelist")
        return LinkedCount.of(count, f"{url}?{days_of(period)}")

    def standing_opt_outs(self) -> LinkedCount | None:
        if self.own_number or not self.viewer.may_view(OptOut):
            return None
        rows: Any = self.viewer.rows(OptOut)
        url = f"{self.viewer.url(OptOut, 'changelist')}?state=active"
        return LinkedCount.of(rows.active().count(), url)


def rows_of(columns: Sequence[Column]) -> list[FigureRow]:
    """Return the figures, each with its count in every period."""
    figures = [column.figures for column in columns]
    return [
        FigureRow(name, label, [each[name][1] for each in figures])
        for name, (label, _count) in figures[0].items()
    ]


def fall_of(columns: Sequence[Column]) -> str:
    """Return by how many points the delivered share has fallen, if that is much."""
    if len(columns) < 2:
        return ""
    now, before = (column.traffic.delivery_rate for column in columns)
    if now is None or before is None or round(before - now, 6) < MIN_FALL:
        return ""
    return number_format(100 * (before - now), 1)


def reasons_of(columns: Sequence[Column]) -> Iterator[FigureRow]:
    """Yield the most frequent reasons of what was not delivered, then all others."""
    total: Counter[tuple[str, str]] = sum((each.reasons for each in columns), Counter())
    named = sorted(total, key=lambda reason: (-total[reason], reason))[:MAX_REASONS]
    undelivered = "status=undelivered&reason="

    def row(name: str, label: str | Promise, counts: list[int], reason: str) -> FigureRow:
        query = f"{undelivered}{reason}"
        linked = zip(columns, counts, strict=True)
        return FigureRow(name, label, [column.figure_of(count, query) for column, count in linked])

    for digest, text in named:
        yield row("reason", text, [each.reasons[digest, text] for each in columns], digest)
    others = [
        each.reasons.total() - sum(each.reasons[reason] for reason in named) for each in columns
    ]
    if any(others):
        digests = ",".join(digest for digest, _text in named)
        yield row("other", _("other reasons"), others, f"{ReasonFilter.OTHER}{digests}")
    without = [max(0, each.traffic.undelivered - each.reasons.total()) for each in columns]
    if any(without):
        yield row("none", _("no reason given"), without, ReasonFilter.NONE)


STATUSES: dict[str, str | Promise] = {
    **{status.value: status.label for status in reversed(Status) if status.value in UNDELIVERED},
    NOT_FINAL: _("no final report yet"),
    Status.DELIVERED.value: Status.DELIVERED.label,
}


def days_table(column: Column) -> Days:
    """Return the messages of each day so far by status, without what no message has."""
    counted = [
        (label, column.traffic.sent[status], f"status={status or 'not_final'}")
        for status, label in STATUSES.items()
    ]
    counted.append((_("replies"), column.traffic.replies, "direction=inbound"))
    used = [each for each in counted if any(each[1])]
    rows = []
    past = [day for day in column.choice.period.days if day <= today()]
    for place, day in enumerate(past):
        url = f"{column.list_url}&{days_of(Period(day, day))}"
        counts = [LinkedCount.of(counts[place], url, query) for _label, counts, query in used]
        rows.append(FigureRow(day.isoformat(), date_format(day, "D j M"), counts))
    totals = [column.figure_of(sum(counts), query) for _label, counts, query in used]
    return Days([label for label, *_rest in used], rows, FigureRow("total", _("Total"), totals))


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
        return cls(len(times.seconds), times.is_sample, half, nearly_all)


def in_words(seconds: int | None) -> str:
    """Return a delivery time; ``MAX_DELIVERY_SECONDS`` stands for anything from there up."""
    if seconds is None:
        return ""
    return (
        duration(timedelta(seconds=seconds))
        if seconds < MAX_DELIVERY_SECONDS
        else gettext("a day or more")
    )
