"""Filters for the list of events."""

from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.badges import EVENT_STATES
from cellcast_django.admin.lists.capped import CappedPaginator
from cellcast_django.admin.lists.filters import ChoiceFilter, Choices, PeriodFilter
from cellcast_django.admin.lists.search import narrow_to_any
from cellcast_django.diagnostics.handlers import handlers_of
from cellcast_django.models import WebhookEvent, WebhookEventQuerySet, errors_of
from cellcast_django.payloads import WEBHOOK_ENDPOINTS


class KindFilter(ChoiceFilter):
    """What kind of event it is."""

    title = _("type")
    parameter_name = "kind"
    options = WebhookEvent.Kind.choices


class OutcomeFilter(ChoiceFilter):
    """The states of events that the list shows as badges."""

    title = _("outcome")
    parameter_name = "outcome"
    options = [(state, word) for state, (_tone, word) in EVENT_STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        events: Any = queryset
        match self.value():
            case "done":
                return events.done()  # type: ignore[no-any-return]
            case "pending":
                return narrow_to_any(queryset, WebhookEvent.objects.pending())
            case "failed":
                return narrow_to_any(queryset, WebhookEvent.objects.failed())
            case "duplicate":
                return events.duplicates()  # type: ignore[no-any-return]
            case "invalid":
                return events.invalid()  # type: ignore[no-any-return]
        return queryset


class HandlerFilter(admin.SimpleListFilter):
    """Events that are pending or have failed because this handler raised.

    No index has the handlers, so pending and failed events are scanned. There are few of them; of
    many, the newest are scanned.
    """

    title = _("failing handler")
    parameter_name = "handler"
    MAX_EVENTS = 200
    """How many failed and how many pending events are scanned for handlers to offer."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the connected handlers and those that failed, which may have been renamed."""
        failing = newest_unfinished(model_admin.get_queryset(request), self.MAX_EVENTS)
        names = {name for _pk, results, _at in failing for name in errors_of(results)}
        names.update(connected_handlers())
        if chosen := request.GET.get(self.parameter_name):
            names.add(chosen)
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return failing(queryset, self.value()) if self.value() else queryset


def failing(events: QuerySet[Any], handler: str | None) -> QuerySet[Any]:
    """Narrow to the unfinished events for which the handler raised when it last ran."""
    unfinished = newest_unfinished(events, CappedPaginator.MAX_COUNT)
    return events.filter(pk__in=[pk for pk, each, _at in unfinished if handler in errors_of(each)])


def connected_handlers() -> list[str]:
    """Return the names of all handlers, in the order of the URLs."""
    return [each.name for endpoint in WEBHOOK_ENDPOINTS for each in handlers_of(endpoint)]


Unfinished = tuple[int, dict[str, Any], datetime]


def newest_unfinished(events: QuerySet[Any], count: int) -> Iterable[Unfinished]:
    """Return the key, results and arrival of failed and of pending events."""
    all_events: Any = WebhookEvent.objects.using(events.db)
    states: list[WebhookEventQuerySet] = [
        all_events.failed().order_by("-pk"),
        all_events.pending().order_by("-next_run_at", "-outcome", "-pk"),  # as the index has it
    ]
    columns = ("pk", "handler_results", "received_at")
    return chain.from_iterable(state.values_list(*columns)[:count] for state in states)


class ReceivedFilter(PeriodFilter):
    """When a webhook arrived."""

    title = _("date")
    time_field = "received_at"
