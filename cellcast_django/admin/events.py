"""The pages of webhook events."""

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.confirmation import EventActionsAdmin
from cellcast_django.admin.contacts import attach_customers, customer_of
from cellcast_django.admin.display.badges import (
    opt_out_badge,
    outcome_badge,
    sentence_of,
    test_badge,
)
from cellcast_django.admin.display.texts import (
    Unprinted,
    beginning,
    brief_ago,
    format_body,
    own_number_html,
)
from cellcast_django.admin.lists.export import ExportAdmin, columns
from cellcast_django.admin.lists.filters import (
    HandlerFilter,
    KindFilter,
    OutcomeFilter,
    OwnNumberOfMessageFilter,
    ReceivedFilter,
    TestFilter,
)
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.lists.read_only import spellings
from cellcast_django.desk.admin import PagesAdmin
from cellcast_django.models import Message, WebhookEvent

MAX_TEXT_LENGTH = 60  # characters of a reply's text in the list
MAX_PROBLEM_LENGTH = 200  # characters of the errors in the list


class WebhookEventAdmin(PagesAdmin, EventActionsAdmin, ExportAdmin):
    """Everything that Cellcast reported, unchanged, and how your handlers dealt with it."""

    list_display = ["when", "content", "state", "customer_link", "problem"]
    list_filter = [
        OutcomeFilter,
        KindFilter,
        HandlerFilter,
        ReceivedFilter,
        OwnNumberOfMessageFilter,
        TestFilter,
    ]
    list_select_related = ["message", "status_change"]
    list_defer = ["body", "message__body", "message__original_body"]
    search_fields = ["contact", "cellcast_id"]
    search_help_text = _("Phone number (any format), Cellcast id, or event number.")
    export_columns = (
        columns("id", "received_at", "endpoint", "kind", "outcome", "error")
        | {
            "state": lambda event: event.state,
            "failing_handlers": lambda event: ", ".join(event.handler_errors()),
        }
        | columns("done_at", "next_run_at", "attempts")
        | columns("contact", "cellcast_id", "message_id", "username", "content_type", "body")
    )
    fields = [
        ("received_at", "endpoint", "kind", "shown_outcome"),
        ("done_at", "attempts", "next_run_at"),
        ("message", "cellcast_id"),
        ("username", "content_type", "is_test"),
    ]

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return the newest first, ordered by the index that serves the request."""
        indexed_by_key = {"duplicate", "invalid", "dismissed"}
        by_key = request.GET.get(OutcomeFilter.parameter_name) in indexed_by_key
        return ["-pk"] if by_key else ["-received_at", "-pk"]

    def meanings(self, term: str) -> list[Q]:
        """Find by phone number, Cellcast id, or event number, as ``event #12`` too."""
        key = term.removeprefix("event").strip(" #")
        by_pk = [Q(pk=int(key))] if is_key(key) else []
        return [Q(message__cellcast_id=term), self.about(spellings(term)), *by_pk]

    @admin.display(description=_("received"))
    def when(self, event: WebhookEvent) -> SafeString:
        return brief_ago(event.received_at)

    @admin.display(description=_("outcome"))
    def shown_outcome(self, event: WebhookEvent) -> SafeString:
        return outcome_badge(event)

    @admin.display(description=_("outcome"))
    def state(self, event: WebhookEvent) -> SafeString | str:
        """Return the handlers' progress as a badge, or why no handler runs."""
        return self.event_state(event, event) or outcome_badge(event)

    @admin.display(description=_("contact"))
    def customer_link(self, event: WebhookEvent, *, is_brief: bool = True) -> str:
        customer = customer_of(event)
        text = customer.html or (gettext("message") if event.message_id else "")
        may_follow = self.may_follow(event, Message) and self.has_our_pages(Message)
        if event.message_id and text and may_follow:
            url = self.url_of(Message, "conversation", event.message_id)
            text = format_html('<a href="{}">{}</a>', url, text)
        several = event.message and getattr(event, "has_several", False)
        return format_html(
            "{} {} {}",
            text,
            own_number_html(event.message) if several else "",
            opt_out_badge(customer.opted_out_since, is_brief=is_brief),
        )

    @admin.display(description=_("type"))
    def content(self, event: Any) -> SafeString:
        words = getattr(event, "words", "")
        is_text = event.kind == WebhookEvent.Kind.REPLY
        return format_html(
            '{} <bdi class="{}quiet">{}</bdi> {}',
            event.get_kind_display(),
            "cellcast-line " if is_text else "",
            words,
            test_badge(event.is_test),
        )

    @admin.display(description=_("problem"), empty_value="")
    def problem(self, event: WebhookEvent) -> str:
        """Return why it is unreadable, or each error with the last part of its handler's name."""
        errors = (
            f"{error} · {name.split('.')[-1]}" for name, error in event.handler_errors().items()
        )
        words = beginning(event.error or "; ".join(errors), MAX_PROBLEM_LENGTH)
        return format_html('<bdi class="cellcast-line">{}</bdi>', words) if words else ""

    def prefetch(self, rows: Any) -> None:
        attach_customers(rows)
        start = Left("body", MAX_TEXT_LENGTH + 1)
        replies = [
            event.message_id
            for event in rows
            if event.kind == WebhookEvent.Kind.REPLY and not event.hides_message
        ]
        texts = dict(Message.objects.filter(pk__in=replies).values_list("pk", start))
        for event in rows:
            if event.kind == WebhookEvent.Kind.REPLY:
                event.words = beginning(texts.get(event.message_id, ""), MAX_TEXT_LENGTH)
            elif change := getattr(event, "status_change", None):
                event.words = change.status

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        words = [f"#{obj.pk}", obj.get_kind_display(), customer_of(obj).label]
        return {
            "title": Unprinted(" · ".join(filter(None, words))),
            "subtitle": None,
            "page": EventPage(self, request, obj),
            "event_actions": list(self.actions_of(request, obj)),
        }


class EventPage:
    """What the page of an event shows; trackers that keep the ``repr`` of a context get none."""

    def __init__(self, admin: WebhookEventAdmin, request: HttpRequest, event: WebhookEvent) -> None:
        self.state = admin.state(event)
        self.sentence = sentence_of(event)
        self.customer = admin.customer_link(event, is_brief=False)
        self.message_link = event.message and admin.link_to(
            event, event.message, gettext("View message")
        )
        self.handlers = admin.handlers_of(request, event)
        self.formatted_body = format_body(event.body, event.content_type)
