"""The pages of webhook events."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Q, prefetch_related_objects
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.actions import EVENT_ACTIONS
from cellcast_django.admin.confirmation import ActOnCalls, ActOnEvents, in_list
from cellcast_django.admin.display.badges import (
    call_badge,
    opt_out_badge,
    sentence_of,
    state_badge,
    test_badge,
)
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import Unprinted, ago, beginning, format_body
from cellcast_django.admin.lists.columns import Columns
from cellcast_django.admin.lists.export import Export, columns
from cellcast_django.admin.lists.filters import OutcomeFilter, PeriodFilter, TestFilter
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.lists.search import Search, spellings
from cellcast_django.admin.viewer import Viewer
from cellcast_django.connected import connected_handlers
from cellcast_django.models import HandlerCall, Message, WebhookEvent

MAX_PROBLEM_LENGTH = 200  # characters of the errors in the list


class WebhookEventColumns(Columns):
    """Events in their list."""

    @admin.display(description=_("received"))
    def when(self, event: WebhookEvent) -> SafeString:
        return ago(event.received_at)

    @admin.display(description=_("type"))
    def content(self, event: WebhookEvent) -> SafeString:
        change = getattr(event, "status_change", None)
        is_reply = event.kind == WebhookEvent.Kind.REPLY  # whose status says only that it came
        return format_html(
            '{} <bdi class="quiet">{}</bdi> {}',
            event.get_kind_display(),
            change.status if change and not is_reply else "",
            test_badge(event.is_test),
        )

    @admin.display(description=_("state"))
    def state(self, event: WebhookEvent) -> SafeString | str:
        """Return the badge of an event's state, as a link to the event that it waits for."""
        pk = self.event_before(event)
        return self.link_to_earlier(pk, state_badge(event, pk))

    def calls(self) -> Iterator[HandlerCall]:
        return (call for event in self.rows for call in event.calls.all())

    def event_before(self, event: WebhookEvent) -> int | None:
        """Return the key of the event that a handler ``in_order`` has to finish before this one.

        ``None`` while a call of this one is retried: what comes next is its own next attempt.
        """
        unfinished = [call for call in event.calls.all() if call.is_unfinished]
        if any(call.failing_since for call in unfinished):
            return None
        before = [self.waits_for[call.pk] for call in unfinished if call.pk in self.waits_for]
        return min(before, default=None)

    @admin.display(description=_("contact"))
    def contact(self, event: WebhookEvent) -> str:
        customer = self.customer(event)
        text = customer.html or (gettext("message") if event.message_id else "")
        may_follow = self.viewer.may_view(Message) and not self.hides_message(event)
        if event.message_id and may_follow:
            text = self.link_to_contact(event.message_id, text)
        return format_html("{} {}", text, opt_out_badge(customer.opted_out_since, is_brief=True))

    @admin.display(description=_("problem"), empty_value="")
    def problem(self, event: WebhookEvent) -> str:
        """Return why it is invalid, or each error with the last part of its handler's name."""
        errors = (
            f"{call.error} · {call.handler.split('.')[-1]}"
            for call in event.calls.all()
            if call.failing_since
        )
        words = beginning(event.error or "; ".join(errors), MAX_PROBLEM_LENGTH)
        return format_html('<bdi class="cellcast-line">{}</bdi>', words) if words else ""


class WebhookEventSearch(Search):
    """Finds events by phone number, Cellcast id, or event number, as ``event #12`` too."""

    def meanings(self, term: str) -> list[Q]:
        key = term.removeprefix("event").strip(" #")
        by_pk = [Q(pk=int(key))] if is_key(key) else []
        deferred = Q(outcome=WebhookEvent.Outcome.DEFERRED, cellcast_id=term)  # has no message
        return [Q(message__cellcast_id=term), deferred, self.about(spellings(term)), *by_pk]


class WebhookEventExport(Export):
    """Events as a file."""

    model = WebhookEvent
    permissions = ("export_webhookevent",)
    columns = (
        columns("id", "received_at", "endpoint", "kind", "outcome", "error")
        | {
            "state": lambda event: event.state,
            "failing_handlers": lambda event: ", ".join(
                call.handler for call in event.calls.all() if call.failing_since
            ),
        }
        | columns("contact", "cellcast_id", "message_id", "received_as", "content_type", "body")
    )


class WebhookEventAdmin(ReadOnlyAdmin):
    """Everything that Cellcast reported, unchanged, and how your handlers dealt with it."""

    rows_type = WebhookEventColumns
    search_type = WebhookEventSearch
    pages = [ActOnEvents, WebhookEventExport]
    actions = [in_list(ActOnEvents, action) for action in EVENT_ACTIONS]
    list_display = [
        WebhookEventColumns.when,
        WebhookEventColumns.content,
        WebhookEventColumns.state,
        WebhookEventColumns.contact,
        WebhookEventColumns.problem,
    ]
    list_filter = [OutcomeFilter, "kind", PeriodFilter, TestFilter]
    time_field = "received_at"
    list_select_related = ["status_change"]
    list_defer = ["body"]
    list_prefetch = ["calls"]
    search_fields = ["contact", "cellcast_id"]
    search_help_text = _("Phone number (any format), Cellcast id, or event number.")
    fields = [
        ("received_at", "endpoint", "kind", "outcome"),
        ("message", "cellcast_id"),
        ("received_as", "content_type", "is_test"),
    ]

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return the newest first, ordered by the index that serves the request."""
        by_key = OutcomeFilter.parameter_name in request.GET  # the index on (outcome, id)
        return ["-pk"] if by_key else ["-received_at", "-pk"]

    def has_reprocess_permission(self, request: HttpRequest) -> bool:
        return self.viewer(request).may("reprocess_webhookevent")

    def has_dismiss_permission(self, request: HttpRequest) -> bool:
        return self.viewer(request).may("dismiss_webhookevent")

    def details(self, viewer: Viewer, obj: Any) -> dict[str, Any]:
        prefetch_related_objects([obj], "calls")
        columns = WebhookEventColumns(viewer, [obj])
        words = [f"#{obj.pk}", obj.get_kind_display(), columns.customer(obj).label]
        page = Content(
            state=columns.state(obj),
            sentence=sentence_of(obj, columns.event_before(obj)),
            contact=columns.contact(obj),
            message_link=obj.message and columns.link(obj, obj.message, gettext("View message")),
            actions=ActOnEvents.offered(viewer, obj),
            calls=_call_rows(viewer, obj, columns.waits_for),
            formatted_body=format_body(obj.body, obj.content_type),  # empty: only the raw one
        )
        title = Unprinted(" · ".join(filter(None, words)))
        return {"title": title, "subtitle": None, "page": page}


def _call_rows(viewer: Viewer, event: WebhookEvent, waits_for: dict[int, int]) -> list[Content]:
    """Return the calls of an event: first the failing, then what waits, then what is done."""
    connected = connected_handlers()
    calls = list(event.calls.all())
    calls.sort(key=lambda call: (not call.failing_since, not call.is_unfinished, call.pk))
    return [
        Content(
            call=call,
            badge=call_badge(call, waits_for.get(call.pk)),
            # There is still work for its handler, which is not connected in this process.
            is_missing=call.state not in HandlerCall.ENDED_WELL and call.handler not in connected,
            actions=ActOnCalls.offered(viewer, call),
        )
        for call in calls
    ]
