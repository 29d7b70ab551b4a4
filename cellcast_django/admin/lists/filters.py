"""Filters of the lists."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Min, Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.day_range import RANGE, first_day_on_the_way, range_of
from cellcast_django.admin.display.badges import EVENT_STATES
from cellcast_django.admin.display.texts import number_html
from cellcast_django.admin.extension import CUSTOMER_OF
from cellcast_django.admin.lists.paging import CappedPaginator, is_key
from cellcast_django.admin.lists.search import narrow_to_any
from cellcast_django.admin.own_numbers import OTHER, narrow_to_sender, senders, values_in_use
from cellcast_django.connected import connected_handlers
from cellcast_django.days import between, midnight
from cellcast_django.health import silent_lately, wishes_to_stop
from cellcast_django.models import Direction, HandlerCall, Message, WebhookEvent
from cellcast_django.payloads import clean
from cellcast_django.statuses import FINAL, UNDELIVERED, Status

Choices = Iterable[tuple[str, Any]]


class ChoiceFilter(admin.SimpleListFilter):
    """One of a few choices: by default, of the values in the column named like the parameter."""

    parameter_name: str
    options: ClassVar[Choices]
    hidden_among: ClassVar[Direction | None] = None
    """Not offered in a list of messages of this direction."""
    is_for_all: ClassVar[bool] = True
    """Otherwise only for those who look after the app (may view events), or while it is in use."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return self.options

    def has_output(self) -> bool:
        direction = self.request.GET.get(DirectionFilter.parameter_name, "")
        is_offered = (
            self.is_for_all
            or self.value() is not None
            or self.request.user.has_perm("cellcast_django.view_webhookevent")
        )
        return direction != self.hidden_among and is_offered and super().has_output()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice; ignore anything else in the query string."""
        choice = self.value()
        rows: QuerySet[Any] = self.narrow(queryset, choice) if self.knows(choice) else queryset
        return rows

    def knows(self, choice: str | None) -> bool:
        return choice in dict(self.lookup_choices)

    def narrow(self, rows: Any, choice: str | None) -> Any:
        return rows.filter(**{self.parameter_name: choice})


class DirectionFilter(ChoiceFilter):
    """Replies, or sent messages."""

    title = _("direction")
    parameter_name = "direction"
    options = [
        (Direction.INBOUND.value, _("from customers")),
        (Direction.OUTBOUND.value, _("from you")),
    ]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        # By what they are not: by what they are, SQLite would sort all of them.
        return rows.exclude(direction__in={*Direction.values} - {choice})


class StatusFilter(ChoiceFilter):
    """Statuses of sent messages, none included."""

    title = _("delivery status")
    parameter_name = "status"
    hidden_among = Direction.INBOUND
    SILENT_AFTER = timedelta(hours=6)
    BY_OUTCOME = {
        "undelivered": _("not delivered"),
        "on_the_way": _("on the way"),
        "unreported": _("never heard of again"),
    }
    """Those without a final status are on the way for three days."""
    SILENT = ("silent", _("nobody knows if it arrived"))
    """Recorded within the last week, and nothing heard for six hours. The overview leads to it."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        if request.GET.get(DirectionFilter.parameter_name) == self.hidden_among:
            return []  # without asking which are in use
        in_use = values_in_use(model_admin.get_queryset(request).outbound(), "status")
        known = [(each.value, each.label) for each in reversed(Status) if each.value in in_use]
        others = [(word, word) for word in in_use if word not in Status.values]
        choices = [*self.BY_OUTCOME.items(), *known, *others]
        is_silent_asked = request.GET.get(self.parameter_name) == self.SILENT[0]
        return [*choices, self.SILENT] if is_silent_asked else choices

    def knows(self, choice: str | None) -> bool:
        return choice in Status.values or super().knows(choice)

    def narrow(self, rows: Any, choice: str | None) -> Any:
        sent = rows.outbound()
        not_final = sent.exclude(status__in=FINAL)
        match choice:
            case "silent":
                return silent_lately(rows, self.SILENT_AFTER)
            case "on_the_way":
                return not_final.filter(created_at__gte=midnight(first_day_on_the_way()))
            case "unreported":
                return not_final.filter(created_at__lt=midnight(first_day_on_the_way()))
            case "undelivered":
                # Few of many: with ``status__in``, a database may walk through the whole list.
                return narrow_to_any(rows, *(sent.filter(status=word) for word in UNDELIVERED))
        return sent.filter(status=choice)


class CustomerFilter(ChoiceFilter):
    """The messages with the customer of one, whose page leads here; hidden unless in use."""

    title = _("customer")
    parameter_name = CUSTOMER_OF

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        self.messages = model_admin.get_queryset(request)
        asked = request.GET.get(self.parameter_name, "")
        return [(asked, _("this customer"))] if is_key(asked) else []

    def narrow(self, rows: Any, choice: str | None) -> Any:
        asked = self.messages.filter(pk=int(choice or 0)).exclude(contact="")
        return rows.filter(contact__in=list(asked.values_list("contact", flat=True)))


class OptedOutFilter(ChoiceFilter):
    """Messages that were sent although the contact had opted out."""

    title = _("consent")
    parameter_name = "opted_out"
    hidden_among = Direction.INBOUND
    is_for_all = False
    options = [("sent", _("sent although opted out"))]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        return narrow_to_any(rows, rows.filter(opted_out_at__isnull=False))


class StopFilter(ChoiceFilter):
    """Replies that may ask for no more messages, of contacts who have not opted out.

    No index can find them: only the newest waiting replies are read.
    """

    title = _("wish to stop")
    parameter_name = "stop"
    hidden_among = Direction.OUTBOUND
    options = [("possibly", _("may want to stop"))]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        return rows.filter(pk__in=[wish.pk for wish in wishes_to_stop(rows.unhandled())])


class HandledFilter(ChoiceFilter):
    """Replies that somebody has to deal with, or those that are done.

    No index finds what is done, so only the newest messages are searched.
    """

    title = _("replies")
    parameter_name = "handled"
    hidden_among = Direction.OUTBOUND
    options = [("new", _("new")), ("done", _("done"))]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        if choice == "new":
            return rows.unhandled()
        return newest(rows, CappedPaginator.MAX_COUNT).inbound().exclude(handled_at=None)


class OwnNumberFilter(ChoiceFilter):
    """Which of your numbers and names a message is about. Hidden if there is only one."""

    title = _("your number")
    parameter_name = "own_number"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        viewer = model_admin.viewer(request)
        # As they are offered, ``narrow`` has to know them: *others* are all but these.
        self.senders = senders(viewer.rows(Message)) if viewer.may_view(Message) else []
        return [
            (each, _("others") if each == OTHER else number_html(each)) for each in self.senders
        ]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        return narrow_to_sender(rows, str(choice), self.senders)


def newest(messages: Any, count: int) -> Any:
    """Narrow to the newest ``count`` messages."""
    rows = messages.order_by("-created_at").values("created_at")[:count]
    start: datetime | None = rows.aggregate(start=Min("created_at"))["start"]
    return messages if start is None else messages.filter(created_at__gte=start)


class PeriodFilter(admin.ListFilter):
    """The rows of a range of days, ``?from=2026-11-01&to=2026-11-26``; either may be missing."""

    title = _("date")
    template = "admin/cellcast_django/period_filter.html"
    RANGE = RANGE
    parameter_name = "from"
    """Django asks for it only of simpler filters, unfold of each."""
    DAYS = {2: _("since yesterday"), 7: _("last 7 days"), 30: _("last 30 days")}

    def __init__(
        self, request: HttpRequest, params: dict[str, list[str]], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        self.time_field = model_admin.time_field
        self.first, self.last = range_of(request.GET)
        for name in self.expected_parameters():
            params.pop(str(name), None)

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [*self.RANGE]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield all days, and the last few, counting today."""
        self.other_parameters = {
            name: value for name, value in changelist.params.items() if name not in self.RANGE
        }
        today = timezone.localdate()
        starts = {today - timedelta(days=days - 1): title for days, title in self.DAYS.items()}
        for start, title in [(None, _("All")), *starts.items()]:
            yield {
                "selected": (self.first, self.last) == (start, None),
                "query_string": changelist.get_query_string({"from": start, "to": None}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return between(queryset, self.time_field, self.first, self.last)  # type: ignore[no-any-return]


class OutcomeFilter(ChoiceFilter):
    """The states of events that the list shows as badges."""

    title = _("state")
    parameter_name = "outcome"
    options = [(state, word) for state, (_tone, word) in EVENT_STATES.items()]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        match choice:
            case "done":
                return rows.done()
            case "pending":  # few of many, and so are the failed ones
                return narrow_to_any(rows, WebhookEvent.objects.pending())
            case "failed":
                return narrow_to_any(rows, WebhookEvent.objects.failed())
            case "invalid":
                return rows.invalid()
            case "dismissed":
                return rows.filter(outcome=WebhookEvent.Outcome.INVALID, dismissed_at__isnull=False)
        return rows.filter(outcome=choice)


class TestFilter(ChoiceFilter):
    """Events with or without those of our own Test Sends."""

    title = _("test events")
    parameter_name = "test"
    WITHOUT = "no"
    ONLY = "only"
    options = [(WITHOUT, _("left out")), (ONLY, _("only those"))]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        return rows.filter(is_test=choice == self.ONLY)


class CallTestFilter(TestFilter):
    """Calls with or without those for events of our own Test Sends."""

    def narrow(self, rows: Any, choice: str | None) -> Any:
        # Not a join, in which a database may begin with all the events there are.
        tests = WebhookEvent.objects.filter(is_test=True).values("pk")
        narrowed = rows.filter if choice == self.ONLY else rows.exclude
        return narrowed(event__in=tests)


class MessageTestFilter(TestFilter):
    """Messages with or without those that exist only because of our own Test Sends."""

    title = _("test messages")
    is_for_all = False

    def narrow(self, rows: Any, choice: str | None) -> Any:
        if choice == self.ONLY:
            return rows.of_tests()
        tests = list(rows.of_tests().order_by().values_list("pk", flat=True))  # a few
        return rows.exclude(pk__in=tests) if tests else rows


class CallStateFilter(ChoiceFilter):
    """How far a call is."""

    title = _("state")
    parameter_name = "state"
    FAILING = "failing"
    options = [(FAILING, _("failing")), *HandlerCall.State.choices]

    def narrow(self, rows: Any, choice: str | None) -> Any:
        calls = HandlerCall.objects
        if choice == self.FAILING:
            return narrow_to_any(rows, calls.failing())
        if choice in HandlerCall.ENDED_WELL:
            return rows.filter(state=choice)
        # No index has the state: these find the few calls that have not ended well.
        part = calls.failed() if choice in HandlerCall.FAILED else calls.unfinished()
        return narrow_to_any(rows, part.filter(state=choice))


class HandlerFilter(ChoiceFilter):
    """The calls of one handler."""

    title = _("handler")
    parameter_name = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return choices_of(names_of_handlers(), request.GET.get(self.parameter_name))


def names_of_handlers() -> set[str]:
    """Return the handlers that are connected in this process, and those of which calls fail."""
    failing = HandlerCall.objects.failing().order_by().values_list("handler", flat=True)
    return {*connected_handlers(), *failing.distinct()}


class ErrorFilter(ChoiceFilter):
    """The type of the error that a failing call has raised."""

    title = _("error")
    parameter_name = "error"
    MAX_FAILING = 100  # newest calls whose errors are offered
    MAX_TYPE_LENGTH = 100

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        newest = model_admin.get_queryset(request).failing().order_by("-failing_since")
        errors = newest.values_list(Left("error", self.MAX_TYPE_LENGTH), flat=True)
        types = {error.partition(":")[0] for error in errors[: self.MAX_FAILING]}
        return choices_of(types, request.GET.get(self.parameter_name))

    def narrow(self, rows: Any, choice: str | None) -> Any:
        is_chosen = Q(error=choice) | Q(error__startswith=f"{choice}:")  # redacted, the type alone
        return narrow_to_any(rows, HandlerCall.objects.failing().filter(is_chosen))


def choices_of(found: set[str], asked: str | None) -> Choices:
    """Return the texts that were found as choices, and the one that is asked for."""
    return [(each, each) for each in sorted(found | ({clean(asked)} if asked else set()))]
