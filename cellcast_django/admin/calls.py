"""The pages of handlers' calls: what a developer on call opens first."""

import re
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.forms import modelform_factory
from django.http import HttpRequest
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.actions import CALL_ACTIONS
from cellcast_django.admin.confirmation import ActOnCalls, ActOnHandler, calls_url, in_list
from cellcast_django.admin.display.badges import call_badge
from cellcast_django.admin.display.texts import ago, beginning
from cellcast_django.admin.lists.columns import Columns
from cellcast_django.admin.lists.filters import (
    CallStateFilter,
    CallTestFilter,
    ErrorFilter,
    HandlerFilter,
    PeriodFilter,
    names_of_handlers,
)
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.lists.search import Search
from cellcast_django.admin.viewer import Viewer
from cellcast_django.models import HandlerCall, WebhookEvent

MAX_ERROR_LENGTH = 200  # characters of an error in the list


class HandlerCallColumns(Columns):
    """Calls in their list."""

    def calls(self) -> Sequence[HandlerCall]:
        return self.rows

    @admin.display(description=_("handler"))
    def name(self, call: HandlerCall) -> SafeString:
        """Return the handler's name, which breaks between its words alone."""
        words = re.sub("([._])", r"\1<wbr>", escape(call.handler))
        return SafeString(f"<code>{words}</code>")

    @admin.display(description=_("state"))
    def badge(self, call: HandlerCall) -> SafeString | str:
        """Return the badge of its state, as a link to the event that it waits for."""
        pk = self.waits_for.get(call.pk)
        return self.link_to_earlier(pk, call_badge(call, pk))

    @admin.display(description=_("event"))
    def of_event(self, call: HandlerCall) -> str:
        return self.viewer.link(call.event, f"#{call.event_id}")

    @admin.display(description=_("received"))
    def when(self, call: HandlerCall) -> SafeString:
        return ago(call.event.received_at)

    @admin.display(description=_("handler"))
    def handler_link(self, call: HandlerCall) -> SafeString:
        """Return the handler as a link to all its calls that fail."""
        url = calls_url(self.viewer, handler=call.handler, state=CallStateFilter.FAILING)
        return format_html('<a href="{}">{}</a>', url, call.handler)

    @admin.display(description=_("error"), empty_value="")
    def problem(self, call: HandlerCall) -> SafeString | str:
        words = beginning(call.error, MAX_ERROR_LENGTH)
        return format_html('<bdi class="cellcast-line">{}</bdi>', words) if words else ""

    @admin.display(description=_("error"))
    def whole_error(self, call: HandlerCall) -> SafeString | str:
        raw = format_html('<pre class="cellcast-raw" dir="auto">{}</pre>', call.error)
        return raw if call.error else self.nothing


class HandlerCallSearch(Search):
    """Finds calls by a part of the handler's name, or by the event's number, as ``event #12`` too.

    Among the names that are connected or failing: no index has the others.
    """

    finds_customers = False

    def exact(self, term: str) -> list[Q]:
        word = term.strip().lower()  # no other spellings, which ``meanings`` is for
        key = word.removeprefix("event").strip(" #")
        names = [name for name in names_of_handlers() if word in name.lower()]
        return [Q(event=int(key))] if is_key(key) else [Q(handler__in=names)]


class HandlerCallAdmin(ReadOnlyAdmin):
    """What each of your handlers did with each event, and what it has still to do."""

    rows_type = HandlerCallColumns
    search_type = HandlerCallSearch
    pages = [ActOnHandler, ActOnCalls]
    # Without a sentence of help below each label: nothing is filled in.
    form = modelform_factory(
        HandlerCall, fields=[], help_texts={each.name: "" for each in HandlerCall._meta.fields}
    )
    actions = [in_list(ActOnCalls, action) for action in CALL_ACTIONS]
    list_display = [
        HandlerCallColumns.name,
        HandlerCallColumns.badge,
        HandlerCallColumns.of_event,
        HandlerCallColumns.when,
        HandlerCallColumns.problem,
    ]
    list_filter = [CallStateFilter, HandlerFilter, ErrorFilter, PeriodFilter, CallTestFilter]
    time_field = "event__received_at"
    list_select_related = ["event"]
    list_defer = ["event__body"]
    ordering = ["-pk"]
    search_fields = ["handler", "event"]
    search_help_text = _("A part of the handler’s name, or event number.")
    nothing_here = _("No handler has been called yet.")
    fields = [
        (HandlerCallColumns.handler_link, "signal"),
        ("event", HandlerCallColumns.badge),
        ("attempts", "seconds"),
        ("started_at", "ended_at"),
        ("next_attempt_at", "failing_since"),
        HandlerCallColumns.whole_error,
        "location",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out the calls of events that this person may not see."""
        calls = super().get_queryset(request)
        viewer = self.viewer(request)
        if viewer.is_restricted(WebhookEvent):
            return calls.filter(event__in=viewer.rows(WebhookEvent).values("pk"))
        return calls

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let those see calls who may see events: calls have no permissions of their own."""
        return self.viewer(request).may("view_webhookevent")

    has_module_permission = has_view_permission

    def details(self, viewer: Viewer, obj: Any) -> dict[str, Any]:
        title = f"{obj.handler} · #{obj.event_id}"
        return {"title": title, "subtitle": None, "actions": ActOnCalls.offered(viewer, obj)}
