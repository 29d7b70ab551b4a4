"""The figures: how many messages were sent and received, what became of them, why, and how fast."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from django.http import HttpResponseBase
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import LinkedCount, today
from cellcast_django.admin.lists.export import csv_of
from cellcast_django.admin.lists.filters import MessageTestFilter, ReasonFilter, own_numbers
from cellcast_django.desk.page import DeskPage, Switch, number_switches
from cellcast_django.desk.traffic import (
    NOT_FINAL,
    PERIODS,
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

MAX_REASONS = 20

MIN_FALL = 0.05  # a delivered share that has fallen by five points since last month is marked


@shown
class Column:
    """The figures of one period: the rows of a table, each of which adds up."""

    period: Period
    traffic: Traffic
    reasons: Reasons
    list_url: str
    """Leads to the messages that count, of any day."""
    new_opt_outs: LinkedCount | None

    def figure_of(self, count: int, query: str) -> LinkedCount:
        return LinkedCount.of(count, f"{self.list_url}&{days_of(self.period)}", query)

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
    times: DeliveryTimes


class Figures(DeskPage):
    """Figures, reasons, days and the delivery time of a period, as a page or as a file."""

    name = "figures"
    title = _("Figures")
    template = "cellcast_desk/figures.html"

    @cached_property
    def period(self) -> Period:
        return Period.of(self.request.GET.get("period", ""))

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
        period = self.period
        shown = [period, period.month_before] if period.is_month else [period]
        columns = [self.column(each) for each in shown]
        if self.request.method == "POST":
            return self.as_csv(columns)
        after = period.month_after if period.is_month else None
        content = FiguresContent(
            periods=list(self.periods()),
            numbers=number_switches(
                self.own_numbers, self.own_number, lambda own: self.url_of(period, own)
            ),
            before=self.switch(period.month_before) if period.is_month else None,
            after=self.switch(after) if after else None,
            csv_url=self.url_of(period, self.own_number),
            columns=columns,
            rows=rows_of(columns),
            fall=fall_of(columns),
            standing_opt_outs=self.standing_opt_outs(),
            reasons=list(reasons_of(columns)),
            days=days_table(columns[0]),
            times=measure_delivery_times(period, self.own_number),
        )
        return self.render(content)

    def url_of(self, period: Period, own_number: str) -> str:
        own = {"own": own_number} if own_number else {}
        return f"?{urlencode({'period': period.key, **own})}"

    def switch(self, period: Period, label: str = "") -> Switch:
        url = self.url_of(period, self.own_number)
        return Switch(url, label or period.label, period == self.period)

    def periods(self) -> Iterator[Switch]:
        month = Period.of_month(today())
        yield self.switch(month, gettext("This month"))
        yield self.switch(month.month_before, gettext("Last month"))
        yield from map(self.switch, map(Period.of, PERIODS))

    def as_csv(self, columns: Sequence[Column]) -> HttpResponseBase:
        """Return what the page shows as a file, and record that it was taken."""
        self.viewer.log_list(Message, f"Exported the figures of {self.period.key}.")
        reasons, days = list(reasons_of(columns)), days_table(columns[0])
        lines: list[tuple[Any, ...]] = []
        for place, column in enumerate(columns):
            dates = column.period.first.isoformat(), column.period.last.isoformat()
            for name, (_label, figure) in column.figures.items():
                lines.append((*dates, name, "", figure.count))
            lines.append((*dates, "delivery_rate", "", column.traffic.delivery_rate))
            for row in reasons:
                lines.append((*dates, "not_delivered", row.label, row.counts[place].count))
        for row in days.rows:
            for status, figure in zip(days.headings, row.counts, strict=True):
                lines.append((row.name, row.name, status, "", figure.count))
        heading = ("own_number", "from", "to", "figure", "reason", "count")
        name = f"figures-{self.period.key}.csv"
        parts = [[(self.own_number, *line) for line in lines]]
        return csv_of(self.request, name, heading, parts)

    def column(self, period: Period) -> Column:
        counted = {"test": MessageTestFilter.WITHOUT}
        if self.own_number:
            counted["own_number"] = self.own_number
        return Column(
            period,
            count_messages(period, self.own_number),
            count_reasons(period, self.own_number),
            f"{self.viewer.url(Message, 'changelist')}?{urlencode(counted)}",
            self.new_opt_outs(period),
        )

    @property
    def shows_opt_outs(self) -> bool:
        """Whether this person may view them, of all numbers: who opts out does so from all."""
        return not self.own_number and self.viewer.may_view(OptOut)

    def new_opt_outs(self, period: Period) -> LinkedCount | None:
        """Return how many contacts opted out.

        By the history: whoever opts out again later has opted out in this period all the same.
        """
        if not self.shows_opt_outs:
            return None
        rows = self.viewer.rows(OptOut)
        begun = OptOutChange.objects.using(rows.db).filter(
            kind=OptOutChange.Kind.BEGUN, at__gte=period.start, at__lt=period.end
        )
        count = rows.filter(pk__in=begun.values("opt_out")).count()
        url = self.viewer.url(OptOut, "changelist")
        return LinkedCount.of(count, f"{url}?{days_of(period)}")

    def standing_opt_outs(self) -> LinkedCount | None:
        if not self.shows_opt_outs:
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
    past = [day for day in column.period.days if day <= today()]
    for place, day in enumerate(past):
        url = f"{column.list_url}&period={day.isoformat()}"
        counts = [LinkedCount.of(counts[place], url, query) for _label, counts, query in used]
        rows.append(FigureRow(day.isoformat(), date_format(day, "D j M"), counts))
    totals = [column.figure_of(sum(counts), query) for _label, counts, query in used]
    return Days([label for label, *_rest in used], rows, FigureRow("total", _("Total"), totals))
