"""The pages of messages and of the history of their statuses."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.badges import announcement_badge, outcome_badge, status_badge
from cellcast_django.admin.filters import (
    CreatedFilter,
    DirectionFilter,
    SentStatusFilter,
    StatusFilter,
)
from cellcast_django.admin.pages import PagesAdmin
from cellcast_django.admin.read_only import ReadOnlyAdmin, keys_of
from cellcast_django.models import Direction, Message, StatusChange, WebhookEvent
from cellcast_django.statuses import Status

FIRST_WORDS = 60
"""Characters of a message's text in the list."""
MAX_CHANGES = 100
"""Rows of the history on a message's page: one for each word that Cellcast has for a status."""
MAX_EVENTS = 20
"""Events on a message's page, the newest; the others are a link away."""

ARROWS = {Direction.INBOUND.value: "↙", Direction.OUTBOUND.value: "↗"}


class MessageAdmin(PagesAdmin):
    """The SMS that came in and went out."""

    list_display = ["way", "customer", "first_words", "status_word", "created_at"]
    list_display_links = ["customer"]
    list_defer = ["body", "original_body"]
    list_filter = [DirectionFilter, SentStatusFilter, CreatedFilter]
    ordering = ["-created_at", "-pk"]
    search_fields = ["contact", "cellcast_id"]
    search_help_text = _("The customer's number in any spelling, or a Cellcast id.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Add the beginning of the text, which is all that the list shows."""
        beginning = Left("body", FIRST_WORDS + 1)
        messages: QuerySet[Any] = super().get_queryset(request).annotate(beginning=beginning)
        return messages

    def get_fieldsets(self, request: HttpRequest, obj: Message | None = None) -> Any:
        """Show of each direction what it can have."""
        is_inbound = obj is not None and obj.direction == Direction.INBOUND
        times = ("created_at", "status_changed_at")
        return [
            (
                None,
                {
                    "fields": [
                        ("way", "customer", "status_sentence"),
                        *(["text", "original_text"] if is_inbound else ["text"]),
                        times if is_inbound else ("submitted_at", *times),
                    ]
                },
            ),
            (_("As Cellcast wrote it"), {"fields": [("cellcast_id", "sender", "receiver")]}),
        ]

    @admin.display(description=_("direction"))
    def way(self, message: Message) -> SafeString:
        """Return the direction with an arrow."""
        return format_html(
            '<span aria-hidden="true">{}</span> {}',
            ARROWS[message.direction],
            Direction(message.direction).label,
        )

    @admin.display(description=_("contact"))
    def customer(self, message: Message) -> str:
        """Return the customer's number."""
        return number(message.contact) or self.get_empty_value_display()

    @admin.display(description=_("text"))
    def first_words(self, message: Any) -> SafeString:
        """Return the beginning of the text on one line."""
        words = " ".join(message.beginning[:FIRST_WORDS].split())
        ellipsis = "…" if len(message.beginning) > FIRST_WORDS else ""
        return format_html("<bdi>{}{}</bdi>", words, ellipsis)

    @admin.display(description=_("status"))
    def status_word(self, message: Message) -> SafeString:
        """Return the status as a badge."""
        return status_badge(message.status)

    @admin.display(description=_("status"))
    def status_sentence(self, message: Message) -> SafeString:
        """Return the status as a badge, with Cellcast's sentence about it."""
        return format_html("{} {}", status_badge(message.status), description_of(message.status))

    @admin.display(description=_("text"))
    def text(self, message: Message) -> str:
        """Return the text with its line breaks."""
        return text_block(message.body) or self.get_empty_value_display()

    @admin.display(description=_("original text"))
    def original_text(self, message: Message) -> str:
        """Return the text that was replied to."""
        return text_block(message.original_body) or self.get_empty_value_display()

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return the timeline and the raw events, each to those who may view it."""
        details: dict[str, Any] = {}
        if self.may_view(request, StatusChange):
            details["timeline"] = self._timeline(obj)
        if self.may_view(request, WebhookEvent):
            details["events"] = self._events(obj)
            list_url = self.url_of(WebhookEvent, "changelist")
            details["all_events_url"] = f"{list_url}?message__id__exact={obj.pk}"
        return details

    def _timeline(self, message: Message) -> list[dict[str, Any]]:
        history = message.status_history.order_by("pk")[:MAX_CHANGES]
        return [
            {
                "change": change,
                "badge": status_badge(change.status),
                "description": description_of(change.status),
                "previous": status_badge(change.previous_status),
            }
            for change in history
        ]

    def _events(self, message: Message) -> list[dict[str, Any]]:
        events = message.events.order_by("-pk")[:MAX_EVENTS]
        return [
            {
                "event": event,
                "link": self.link_to(event, f"#{event.pk}"),
                "outcome": outcome_badge(event),
                "announcement": announcement_badge(event),
            }
            for event in events
        ]


class StatusChangeAdmin(ReadOnlyAdmin):
    """Every status that was heard of, in the order in which it came."""

    list_display = ["recorded_at", "message_link", "status_word", "previous_word", "applied"]
    list_filter = [StatusFilter]
    list_select_related = ["message"]
    list_defer = ["message__body", "message__original_body"]
    search_fields = ["message__contact", "message__cellcast_id"]
    search_help_text = _("The customer's number in any spelling, or a Cellcast id.")
    fields = ["recorded_at", ("status_word", "previous_word", "applied"), ("message", "event")]

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return the order of time, in the words of the index that serves the request."""
        is_filtered = StatusFilter.parameter_name in request.GET
        return ["-recorded_at", "-pk"] if is_filtered else ["-pk"]

    def condition(self, term: str) -> Q:
        """Find by the message, whose history is short."""
        return Q(message__in=keys_of(Message.objects.filter(super().condition(term))))

    @admin.display(description=_("message"))
    def message_link(self, change: StatusChange) -> str:
        """Return a link to the message, by its customer's number."""
        message = change.message
        return self.link_to(message, number(message.contact) or message.cellcast_id)

    @admin.display(description=_("status"))
    def status_word(self, change: StatusChange) -> SafeString:
        """Return the status that was heard of as a badge."""
        return status_badge(change.status)

    @admin.display(description=_("previous status"))
    def previous_word(self, change: StatusChange) -> str:
        """Return the message's status before as a badge."""
        if not change.previous_status:
            return self.get_empty_value_display()
        return status_badge(change.previous_status)


def number(contact: str) -> SafeString | str:
    """Return a number that keeps its direction among texts that run from right to left."""
    return format_html("<bdi>{}</bdi>", contact) if contact else ""


def text_block(text: str) -> SafeString | str:
    """Return a text of any script as a block that keeps its white space."""
    return format_html('<div class="cellcast-text" dir="auto">{}</div>', text) if text else ""


def description_of(status: str) -> str:
    """Return Cellcast's sentence about a status; empty for one that is not documented."""
    return str(Status(status).description) if status in Status.values else ""
