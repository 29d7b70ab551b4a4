"""The pages of messages."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.contacts import attach_customers, customer_of
from cellcast_django.admin.display.badges import (
    handled_badge,
    opt_out_badge,
    outcome_badge,
    state_badge,
    status_badge,
)
from cellcast_django.admin.display.texts import (
    ago,
    beginning,
    customer_html,
    customer_label,
    media_links,
)
from cellcast_django.admin.display.timeline import handler_rows, steps
from cellcast_django.admin.lists.export import ExportAdmin, columns
from cellcast_django.admin.lists.filters import (
    CreatedFilter,
    DirectionFilter,
    HandledFilter,
    OwnNumberFilter,
    StatusFilter,
    StopFilter,
    newest,
)
from cellcast_django.admin.lists.read_only import MAX_WORDS, QUOTES, narrow_to_any
from cellcast_django.admin.pages.conversation import Conversation, ConversationAdmin
from cellcast_django.admin.pages.registry import PagesAdmin
from cellcast_django.admin.pages.to_answer import ToAnswerAdmin
from cellcast_django.models import Direction, Message, StatusChange, WebhookEvent
from cellcast_django.statuses import description_of

MAX_TEXT_LENGTH = 160
"""Characters of a message's text in the list; CSS cuts what does not fit on the line."""
MAX_PICTURES = 3  # links to pictures per message in the list
MAX_REASON_LENGTH = 40  # characters of a failure's reason in the list
MAX_CHANGES = 100  # rows of the history on a message's page, one per status
MAX_EVENTS = 20  # newest events on a message's page; a link leads to the others


class MessageAdmin(ToAnswerAdmin, ConversationAdmin, PagesAdmin, ExportAdmin):
    """Received and sent SMS."""

    list_display = ["when", "contact_link", "text_start", "state"]
    list_display_links = ["when"]
    list_defer = ["body", "original_body"]
    list_filter = [
        DirectionFilter,
        HandledFilter,
        CreatedFilter,
        OwnNumberFilter,
        StopFilter,
        StatusFilter,
    ]
    ordering = ["-created_at", "-pk"]
    search_fields = ["contact", "cellcast_id", "body"]
    search_help_text = _(
        "Phone number (any format), Cellcast id, or words. Words search the latest 10,000 messages."
    )
    export_columns = (
        columns("id", "created_at", "direction", "contact", "status", "reason")
        | columns("status_changed_at", "submitted_at", "handled_at", "body")
        | {"media": lambda message: "\n".join(message.media)}
        | columns("original_body", "cellcast_id", "sender", "receiver")
    )
    fields = [
        ("submitted_at", "created_at", "status_changed_at", "handled_at"),
        ("cellcast_id", "sender", "receiver"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Add the start of the text, which is all that the list shows, and the failure's reason."""
        start = Left("body", MAX_TEXT_LENGTH + 1)
        change = StatusChange.objects.filter(message=OuterRef("pk"), status=OuterRef("status"))
        more = {"beginning": start, "reason": Subquery(change.values("reason")[:1])}
        messages: QuerySet[Any] = super().get_queryset(request).annotate(**more)
        return messages

    def find(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Find by number or id, or else by words in the newest texts."""
        found = super().find(request, queryset, term)
        if found.exists():
            return found
        has_words = Q()
        for word in term.strip(QUOTES).split()[:MAX_WORDS]:
            has_words &= Q(body__icontains=word)
        return narrow_to_any(queryset, newest(queryset, self.paginator.MAX_COUNT).filter(has_words))

    def prefetch(self, rows: Any) -> None:
        attach_customers(rows)

    @admin.display(description=_("contact"))
    def contact_link(self, message: Message) -> SafeString:
        """Return the direction, and the customer as a link to the conversation."""
        customer = customer_of(message)
        is_reply = message.direction == Direction.INBOUND
        return format_html(
            '<span class="cellcast-direction" aria-hidden="true">{}</span>'
            '<span class="cellcast-hidden">{}</span> <a href="{}">{}</a> {}',
            "↙" if is_reply else "↗",
            gettext("received from") if is_reply else gettext("sent to"),
            self.url_of(Message, "conversation", message.pk),
            customer_html(customer) or gettext("(no number)"),
            opt_out_badge(customer.opted_out_since),
        )

    @admin.display(description=_("text"))
    def text_start(self, message: Any) -> SafeString:
        if words := beginning(message.beginning, MAX_TEXT_LENGTH):
            text = format_html('<bdi class="cellcast-line">{}</bdi>', words)
        else:
            text = format_html('<span class="quiet">{}</span>', self._why_empty(message))
        return format_html("{} {}", text, media_links(message.media, MAX_PICTURES))

    def _why_empty(self, message: Message) -> str:
        if message.media:
            return ""
        if message.direction == Direction.INBOUND:
            return gettext("(no text)")
        return gettext("(text not recorded)")

    @admin.display(description=_("status"))
    def state(self, message: Any) -> SafeString:
        """Return the delivery status of a sent message, or whether a reply is done."""
        if message.direction == Direction.INBOUND:
            return handled_badge(message.handled_at)
        if not message.reason:
            return status_badge(message.status)
        words = beginning(message.reason, MAX_REASON_LENGTH)
        return format_html(
            '{} <bdi class="cellcast-reason quiet">{}</bdi>', status_badge(message.status), words
        )

    @admin.display(description=_("first seen"))
    def when(self, message: Message) -> SafeString:
        return ago(message.created_at)

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return what the page shows, in the order of the reader's questions."""
        customer = customer_of(obj)
        is_reply = obj.direction == Direction.INBOUND
        direction = gettext("From %(customer)s") if is_reply else gettext("To %(customer)s")
        details: dict[str, Any] = {
            "title": direction % {"customer": customer_label(customer) or gettext("(no number)")},
            "subtitle": None,
            "is_reply": is_reply,
            "opted_out": opt_out_badge(customer.opted_out_since),
            "state": handled_badge(obj.handled_at) if is_reply else status_badge(obj.status),
            "sentence": "" if is_reply else description_of(obj.status),
            "reason": obj.reason,
            "pictures": media_links(obj.media),
            "why_empty": self._why_empty(obj),
            "may_handle": is_reply and not obj.handled_at and self.may(request, "handle"),
            "handle_url": self.url_of(Message, "handle"),
            "undo": self.pop_undo(request),
            "conversation": Conversation(self, self.get_queryset(request), obj).around(obj),
        }
        events: list[WebhookEvent] = []
        if self.may_view(request, WebhookEvent):
            rows = self.rows_of(request, WebhookEvent).filter(message=obj)
            events = list(rows.order_by("-pk")[: MAX_EVENTS + 1])
            details |= self._details_of_events(obj, events)
        if self.may_view(request, StatusChange):
            rows = self.rows_of(request, StatusChange).filter(message=obj)
            changes = rows.order_by("pk")[:MAX_CHANGES]
            details["timeline"] = steps(obj, changes, events[:MAX_EVENTS])
        return details

    def _details_of_events(self, message: Message, events: list[WebhookEvent]) -> dict[str, Any]:
        shown = events[:MAX_EVENTS]
        links = {event.pk: self.link_to(event, f"#{event.pk}") for event in shown}
        handlers = [
            row
            for event in shown
            for row in handler_rows(event, list(event.handler_results), links[event.pk])
            if row.at is not None
        ]
        return {
            "events": [
                {
                    "event": event,
                    "link": links[event.pk],
                    "outcome": outcome_badge(event),
                    "state": state_badge(event),
                }
                for event in shown
            ],
            "handlers": [row for row in handlers if row.error],
            "finished": [row for row in handlers if not row.error],
            "max_events": MAX_EVENTS if len(events) > MAX_EVENTS else None,
            "all_events_url": (
                f"{self.url_of(WebhookEvent, 'changelist')}?message__id__exact={message.pk}"
            ),
        }
