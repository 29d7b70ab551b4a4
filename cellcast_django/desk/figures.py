"""The figures of a month beside the one before it: how many, how good, and why not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import date
from functools import cached_property, partial
from typing import Any, NamedTuple

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
from cellcast_django.admin.display.texts import grouped
from cellcast_django.admin.lists.export import csv_of
from cellcast_django.admin.lists.filters import Choices, MessageTestFilter, StatusFilter
from cellcast_django.admin.own_numbers import narrow_to_sender, senders
from cellcast_django.desk.page import DeskPage, LinkedCount, Switch, number_switches, views_all_of
from cellcast_django.desk.traffic import Month, Reasons, Traffic, count_messages, count_reasons
from cellcast_django.models import Message, OptOut, OptOutChange, StatusChange
from cellcast_django.payloads import clean
from cellcast_django.statuses import FINAL, UNDELIVERED, Status

MAX_REASONS = 20
WHOLE, PART, CAUSE = range(3)
"""Levels of figures: what was sent, a part of it, and why a part was not delivered."""


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
        return [(chosen, _("other reasons"))] if chosen else []

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield Django's, a single reason by its words: any row of the list has them."""
        row: Any = next(iter(changelist.result_list), None)
        is_single = not str(self.value()).startswith(self.OTHER)
        for choice in super().choices(changelist):
            if choice["selected"] and is_single and row is not None:
                choice["display"] = row.reason or _("no reason given")
            yield choice

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = clean(str(self.value()))  # there is one: without lookups Django does not ask
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


class Figure(NamedTuple):
    """A figure of a month or a day: what of the traffic it adds up, and where it leads."""

    name: str
    label: str | Promise
    parts: Set[str]
    query: str
    level: int = PART

    def count_of(self, traffic: Traffic) -> int:
        return sum(traffic[part] for part in self.parts)


SENT = Figure("sent", _("Sent"), FINAL | {"on_the_way", "unreported"}, "direction=outbound", WHOLE)
NOT_DELIVERED = Figure("not_delivered", _("not delivered"), UNDELIVERED, "status=undelivered")
FIGURES = [
    SENT,
    Figure("delivered", _("delivered"), {Status.DELIVERED}, "status=delivered"),
    NOT_DELIVERED,
    *(
        Figure(each, each.label, {each}, f"status={each}", CAUSE)
        for each in reversed(Status)
        if each in UNDELIVERED
    ),
    *(
        Figure(name, StatusFilter.BY_OUTCOME[name], {name}, f"status={name}")
        for name in ("on_the_way", "unreported")
    ),
    Figure("replies", _("Replies"), {"replies"}, "direction=inbound", WHOLE),
]


@shown
class Column:
    """What one month has, and the lists that its figures lead to."""

    month: Month
    traffic: Mapping[date, Traffic]
    """Of each day of the month that is shown, and of parts of the month before."""
    reasons: Reasons
    list_url: str
    """Leads to the messages that count, of any day."""
    new_opt_outs: LinkedCount | None

    @cached_property
    def total(self) -> Traffic:
        return sum(self.traffic.values(), Traffic())

    def linked(self, count: int, query: str, day: date | None = None) -> LinkedCount:
        """Return a count with the list of what it counts, of a day or of the whole month."""
        days = days_of(day or self.month.first, day or self.month.last)
        return LinkedCount.of(count, f"{self.list_url}&{days}", query)

    @property
    def ended(self) -> int:
        """How many messages have a final status."""
        return sum(self.total[status] for status in FINAL)

    @property
    def delivery_rate(self) -> float | None:
        """The delivered share of those, from 0 to 1."""
        return self.total[Status.DELIVERED] / self.ended if self.ended else None

    @property
    def delivered_share(self) -> str:
        """The same in percent, and of how many; empty without any."""
        if self.delivery_rate is None:
            return ""
        rate, count = number_format(100 * self.delivery_rate, 1), grouped(self.ended)
        return gettext("%(rate)s%% of %(count)s") % {"rate": rate, "count": count}


def days_of(first: date, last: date) -> str:
    """Return the query string of the lists' rows of these days."""
    return f"from={first.isoformat()}&to={last.isoformat()}"


@shown
class FigureRow:
    """A figure or reason of both months, or the figures of one day."""

    name: str
    label: str | Promise
    counts: Sequence[LinkedCount]
    level: int = WHOLE
    width: int = 0
    """Of a day's bar: what was sent, in percent of the day with the most."""


@shown
class FiguresContent:
    """What the page shows."""

    months: Sequence[Switch]
    numbers: Sequence[Switch]
    csv_url: str
    columns: Sequence[Column]
    """The figures of the month before, and of this month."""

    @cached_property
    def rows(self) -> list[FigureRow]:
        """The figures, each with its count in both months; of causes only those that there are."""
        rows = []
        for each in FIGURES:
            counts = [
                column.linked(each.count_of(column.total), each.query) for column in self.columns
            ]
            if each.level != CAUSE or any(counted.count for counted in counts):
                rows.append(FigureRow(each.name, each.label, counts, each.level))
        opt_outs = [each.new_opt_outs for each in self.columns if each.new_opt_outs is not None]
        return [*rows, FigureRow("opt_outs", _("New opt-outs"), opt_outs)] if opt_outs else rows

    @cached_property
    def reasons(self) -> list[FigureRow]:
        """The most frequent reasons of what was not delivered, then all others."""
        given = [column.reasons for column in self.columns]
        total: Reasons = sum(given, Counter())
        named = sorted(total, key=lambda reason: (-total[reason], reason))[:MAX_REASONS]
        rows = [
            self._reason("reason", text, [each[digest, text] for each in given], digest)
            for digest, text in named
        ]
        other = ReasonFilter.OTHER + ",".join(digest for digest, _text in named)
        others = [each.total() - sum(each[reason] for reason in named) for each in given]
        # Counted by two statements: a report that comes between them must not make it negative.
        without = [
            max(0, NOT_DELIVERED.count_of(each.total) - each.reasons.total())
            for each in self.columns
        ]
        rows.append(self._reason("other", _("other reasons"), others, other))
        rows.append(self._reason("none", _("no reason given"), without, ReasonFilter.NONE))
        return [row for row in rows if any(linked.count for linked in row.counts)]

    def _reason(self, name: str, label: str | Promise, counts: list[int], reason: str) -> FigureRow:
        query = f"status=undelivered&reason={reason}"
        linked = zip(self.columns, counts, strict=True)
        return FigureRow(name, label, [column.linked(count, query) for column, count in linked])

    @cached_property
    def day_figures(self) -> list[Figure]:
        """The columns of the days: without what this month has none of."""
        total = self.columns[-1].total
        return [each for each in FIGURES if each.level != CAUSE and each.count_of(total)]

    @cached_property
    def days(self) -> list[FigureRow]:
        """The days of the month from its first message until today."""
        column, today = self.columns[-1], timezone.localdate()
        rows: list[FigureRow] = []
        most = max(map(SENT.count_of, column.traffic.values())) or 1
        for day, traffic in column.traffic.items():
            is_before_first = not rows and not traffic
            if is_before_first or day > today:
                continue
            counts = [
                column.linked(each.count_of(traffic), each.query, day) for each in self.day_figures
            ]
            width = round(100 * SENT.count_of(traffic) / most)
            rows.append(FigureRow(day.isoformat(), date_format(day, "D j M"), counts, width=width))
        return rows


class Figures(DeskPage):
    """Figures, reasons and days of a month, as a page or as a file."""

    name = "figures"
    title = _("Figures")
    template = "cellcast_desk/figures.html"

    @cached_property
    def month(self) -> Month:
        return Month.of(self.request.GET.get("period", ""))

    @cached_property
    def senders(self) -> list[str]:
        return senders(self.viewer.rows(Message))

    @cached_property
    def sender(self) -> str:
        """The number or name of yours that alone is counted; empty for all."""
        asked = self.request.GET.get("own", "")
        return asked if asked in self.senders else ""

    @property
    def is_allowed(self) -> bool:
        return views_all_of(self.viewer, Message)

    def show(self) -> HttpResponseBase:
        month, sender = self.month, self.sender
        content = FiguresContent(
            months=list(self.months()),
            numbers=number_switches(self.senders, sender, partial(self.url_of, month)),
            csv_url=self.url_of(month, sender),
            columns=[self.column(month.before), self.column(month)],
        )
        is_file = self.request.method == "POST"  # exports are posted: they write to the log
        return self.as_csv(content) if is_file else self.render(content)

    def url_of(self, month: Month, sender: str) -> str:
        own = {"own": sender} if sender else {}
        return f"?{urlencode({'period': month.key, **own})}"

    def months(self) -> Iterator[Switch]:
        """Yield links to the months around this one, and to the present one."""
        around = [self.month.before, self.month, self.month.after, Month.of()]
        for month in dict.fromkeys(filter(None, around)):
            yield Switch(self.url_of(month, self.sender), month.label, month == self.month)

    def as_csv(self, content: FiguresContent) -> HttpResponseBase:
        """Return what the page shows as a file, and record that it was taken."""
        self.viewer.log_list(Message, f"Exported the figures of {self.month.key}.")
        lines: list[tuple[Any, ...]] = []
        for place, column in enumerate(content.columns):
            dates = column.month.first.isoformat(), column.month.last.isoformat()
            lines.append((*dates, "delivery_rate", "", column.delivery_rate))
            for row in content.rows:
                lines.append((*dates, row.name, "", row.counts[place].count))
            for row in content.reasons:
                lines.append((*dates, "not_delivered", row.label, row.counts[place].count))
        for row in content.days:
            for each, counted in zip(content.day_figures, row.counts, strict=True):
                lines.append((row.name, row.name, each.name, "", counted.count))
        heading = ("own_number", "from", "to", "figure", "reason", "count")
        name = f"figures-{self.month.key}.csv"
        return csv_of(self.request, name, heading, [[(self.sender, *line) for line in lines]])

    def column(self, month: Month) -> Column:
        narrow = partial(narrow_to_sender, sender=self.sender, known=self.senders)
        counted = {"test": MessageTestFilter.WITHOUT}
        if self.sender:
            counted["own_number"] = self.sender
        return Column(
            month=month,
            traffic=count_messages(month, narrow, by_day=month == self.month),
            reasons=count_reasons(month, narrow),
            list_url=f"{self.viewer.url(Message, 'changelist')}?{urlencode(counted)}",
            new_opt_outs=self.new_opt_outs(month),
        )

    def new_opt_outs(self, month: Month) -> LinkedCount | None:
        """Return how many contacts opted out: from all numbers, so there are none of one number.

        By the history: whoever opts out again later has opted out in this month all the same.
        """
        if self.sender or not self.viewer.may_view(OptOut):
            return None
        rows = self.viewer.rows(OptOut)
        begun = OptOutChange.objects.using(rows.db).filter(
            kind=OptOutChange.Kind.BEGUN, at__gte=month.start, at__lt=month.end
        )
        count = rows.filter(pk__in=begun.values("opt_out")).count()
        url = self.viewer.url(OptOut, "changelist")
        return LinkedCount.of(count, f"{url}?{days_of(month.first, month.last)}")
