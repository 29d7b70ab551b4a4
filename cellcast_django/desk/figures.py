"""The figures: how many messages were sent and received, what became of them, why, and how fast."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import MD5
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.lists.export import csv_of
from cellcast_django.admin.lists.filters import Choices, MessageTestFilter, own_numbers
from cellcast_django.desk.page import DeskPage, LinkedCount, Switch, number_switches, views_all_of
from cellcast_django.desk.traffic import (
    NOT_FINAL,
    DeliveryTimes,
    Month,
    Reasons,
    Traffic,
    count_messages,
    count_reasons,
    measure_delivery_times,
)
from cellcast_django.models import Message, OptOut, OptOutChange, StatusChange
from cellcast_django.payloads import clean
from cellcast_django.statuses import UNDELIVERED, Status

MAX_REASONS = 20

MIN_FALL = 0.05  # a delivered share that has fallen by five points since last month is marked


class ReasonFilter(admin.SimpleListFilter):
    """Messages whose present status has one reason, or none of several, as *Figures* counts them.

    The address has digests: a reason may quote a number. Hidden unless it is in use.
    """

    title = _("reason")
    parameter_name = "reason"
    NONE = "-"
    OTHER = "other:"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        chosen = request.GET.get(self.parameter_name)
        return [(chosen, _("as counted in Figures"))] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = clean(str(self.value()))  # a hidden filter is not asked
        reasons = StatusChange.objects.using(queryset.db).filter(
            message=OuterRef("pk"), status=OuterRef("status")
        )
        given = reasons.exclude(reason="")
        if chosen == self.NONE:
            return queryset.exclude(Exists(given))
        digests = given.annotate(digest=MD5("reason"))
        if chosen.startswith(self.OTHER):
            named = chosen.removeprefix(self.OTHER).split(",")
            return queryset.filter(Exists(digests.exclude(digest__in=named)))
        return queryset.filter(Exists(digests.filter(digest=chosen)))


@shown
class Column:
    """The figures of one month: the rows of a table, each of which adds up."""

    month: Month
    traffic: Traffic
    reasons: Reasons
    list_url: str
    """Leads to the messages that count, of any day."""
    new_opt_outs: LinkedCount | None

    def figure_of(self, count: int, query: str) -> LinkedCount:
        days = days_of(self.month.first, self.month.last)
        return LinkedCount.of(count, f"{self.list_url}&{days}", query)

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


def days_of(first: date, last: date) -> str:
    """Return the query string of the lists' rows of these days."""
    return f"from={first.isoformat()}&to={last.isoformat()}"


@shown
class FigureRow:
    """One figure or reason of both months, or the statuses of one day."""

    name: str
    label: str | Promise
    counts: Sequence[LinkedCount]


@shown
class Days:
    """The messages of each day by status: the headings, a row for each day, and the sums."""

    headings: Sequence[str | Promise]
    rows: Sequence[FigureRow]
    sums: Sequence[LinkedCount]


STATUSES: dict[str, str | Promise] = {
    **{status.value: status.label for status in reversed(Status) if status.value in UNDELIVERED},
    NOT_FINAL: _("no final report yet"),
    Status.DELIVERED.value: Status.DELIVERED.label,
}


@shown
class FiguresContent:
    """What the page shows."""

    months: Sequence[Switch]
    numbers: Sequence[Switch]
    csv_url: str
    columns: Sequence[Column]
    """This month's figures, and those of the month before."""
    times: DeliveryTimes

    @property
    def rows(self) -> list[FigureRow]:
        """The figures, each with its count in both months."""
        figures = [column.figures for column in self.columns]
        return [
            FigureRow(name, label, [each[name][1] for each in figures])
            for name, (label, _count) in figures[0].items()
        ]

    @property
    def fall(self) -> str:
        """By how much the delivered share has fallen, in points; empty if that is little."""
        now, before = (column.traffic.delivery_rate for column in self.columns)
        if now is None or before is None or round(before - now, 6) < MIN_FALL:
            return ""
        return number_format(100 * (before - now), 1)

    @cached_property
    def reasons(self) -> list[FigureRow]:
        """The most frequent reasons of what was not delivered, then all others."""
        columns = self.columns
        total: Counter[tuple[str, str]] = sum((each.reasons for each in columns), Counter())
        named = sorted(total, key=lambda reason: (-total[reason], reason))[:MAX_REASONS]
        rows = [
            self._reason("reason", text, [each.reasons[digest, text] for each in columns], digest)
            for digest, text in named
        ]
        others = [
            each.reasons.total() - sum(each.reasons[reason] for reason in named) for each in columns
        ]
        if any(others):
            digests = ",".join(digest for digest, _text in named)
            other = f"{ReasonFilter.OTHER}{digests}"
            rows.append(self._reason("other", _("other reasons"), others, other))
        without = [max(0, each.traffic.undelivered - each.reasons.total()) for each in columns]
        if any(without):
            rows.append(self._reason("none", _("no reason given"), without, ReasonFilter.NONE))
        return rows

    def _reason(self, name: str, label: str | Promise, counts: list[int], reason: str) -> FigureRow:
        query = f"status=undelivered&reason={reason}"
        linked = zip(self.columns, counts, strict=True)
        return FigureRow(name, label, [column.figure_of(count, query) for column, count in linked])

    @cached_property
    def days(self) -> Days:
        """The messages of each day so far by status, without what no message has."""
        column = self.columns[0]
        counted = [
            (label, column.traffic.sent[status], f"status={status or 'not_final'}")
            for status, label in STATUSES.items()
        ]
        counted.append((_("replies"), column.traffic.replies, "direction=inbound"))
        used = [each for each in counted if any(each[1])]
        rows = []
        past = [day for day in column.month.days if day <= timezone.localdate()]
        for place, day in enumerate(past):
            url = f"{column.list_url}&{days_of(day, day)}"
            counts = [LinkedCount.of(counts[place], url, query) for _label, counts, query in used]
            rows.append(FigureRow(day.isoformat(), date_format(day, "D j M"), counts))
        sums = [column.figure_of(sum(counts), query) for _label, counts, query in used]
        return Days([label for label, *_rest in used], rows, sums)


class Figures(DeskPage):
    """Figures, reasons, days and the delivery time of a month, as a page or as a file."""

    name = "figures"
    title = _("Figures")
    template = "cellcast_desk/figures.html"

    @cached_property
    def month(self) -> Month:
        return Month.of(self.request.GET.get("period", ""))

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
        return views_all_of(self.viewer, Message)

    def show(self) -> HttpResponseBase:
        month, own_number = self.month, self.own_number
        content = FiguresContent(
            months=list(self.months()),
            numbers=number_switches(
                self.own_numbers, own_number, lambda own: self.url_of(month, own)
            ),
            csv_url=self.url_of(month, own_number),
            columns=[self.column(month), self.column(month.before)],
            times=measure_delivery_times(month, own_number),
        )
        is_file = self.request.method == "POST"
        return self.as_csv(content) if is_file else self.render(content)

    def url_of(self, month: Month, own_number: str) -> str:
        own = {"own": own_number} if own_number else {}
        return f"?{urlencode({'period': month.key, **own})}"

    def months(self) -> Iterator[Switch]:
        """Yield links to the months around this one, and to the present one."""
        around = [self.month.before, self.month, self.month.after, Month.of()]
        for month in dict.fromkeys(filter(None, around)):
            url = self.url_of(month, self.own_number)
            yield Switch(url, month.label, month == self.month)

    def as_csv(self, shown: FiguresContent) -> HttpResponseBase:
        """Return what the page shows as a file, and record that it was taken."""
        self.viewer.log_list(Message, f"Exported the figures of {self.month.key}.")
        lines: list[tuple[Any, ...]] = []
        for place, column in enumerate(shown.columns):
            dates = column.month.first.isoformat(), column.month.last.isoformat()
            for name, (_label, figure) in column.figures.items():
                lines.append((*dates, name, "", figure.count))
            lines.append((*dates, "delivery_rate", "", column.traffic.delivery_rate))
            for row in shown.reasons:
                lines.append((*dates, "not_delivered", row.label, row.counts[place].count))
        for row in shown.days.rows:
            for status, figure in zip(shown.days.headings, row.counts, strict=True):
                lines.append((row.name, row.name, status, "", figure.count))
        heading = ("own_number", "from", "to", "figure", "reason", "count")
        name = f"figures-{self.month.key}.csv"
        parts = [[(self.own_number, *line) for line in lines]]
        return csv_of(self.request, name, heading, parts)

    def column(self, month: Month) -> Column:
        counted = {"test": MessageTestFilter.WITHOUT}
        if self.own_number:
            counted["own_number"] = self.own_number
        return Column(
            month,
            count_messages(month, self.own_number),
            count_reasons(month, self.own_number),
            f"{self.viewer.url(Message, 'changelist')}?{urlencode(counted)}",
            self.new_opt_outs(month),
        )

    def new_opt_outs(self, month: Month) -> LinkedCount | None:
        """Return how many contacts opted out: from all numbers, so there are none of one number.

        By the history: whoever opts out again later has opted out in this month all the same.
        """
        if self.own_number or not self.viewer.may_view(OptOut):
            return None
        rows = self.viewer.rows(OptOut)
        begun = OptOutChange.objects.using(rows.db).filter(
            kind=OptOutChange.Kind.BEGUN, at__gte=month.start, at__lt=month.end
        )
        count = rows.filter(pk__in=begun.values("opt_out")).count()
        url = self.viewer.url(OptOut, "changelist")
        return LinkedCount.of(count, f"{url}?{days_of(month.first, month.last)}")
