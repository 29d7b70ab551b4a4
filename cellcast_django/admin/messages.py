"""The pages of messages."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Left
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.badges import (
    announcement_badge,
    description_of,
    outcome_badge,
    status_badge,
)
from cellcast_django.admin.display.media import media_links
from cellcast_django.admin.display.texts import ago, beginning, number, text_block
from cellcast_django.admin.display.timeline import handler_rows, steps
from cellcast_django.admin.lists.export import ExportAdmin, columns
from cellcast_django.admin.lists.filters import (
    AnswerFilter,
    CreatedFilter,
    DirectionFilter,
    StatusFilter,
    newest,
)
from cellcast_django.admin.lists.read_only import MAX_WORDS, CappedPaginator, found_first
from cellcast_django.admin.lists.stop_filter import StopFilter
from cellcast_django.admin.pages.conversation import Conversation, ConversationView
from cellcast_django.admin.pages.registry import PagesAdmin
from cellcast_django.models import Direction, Message, StatusChange, WebhookEvent

FIRST_WORDS = 60
"""Characters of a message's text in the list."""
REASON_WORDS = 40
"""Characters of a failure's reason in the list."""
MAX_CHANGES = 100
"""Rows of the history on a message's page: one for each word that Cellcast has for a status."""
MAX_EVENTS = 20
"""Events on a message's page, the newest; the others are a link away."""

ARROWS = {Direction.INBOUND.value: "↙", Direction.OUTBOUND.value: "↗"}


class MessageAdmin(PagesAdmin, ExportAdmin):
    """The SMS that came in and went out."""

    list_display = ["way", "customer", "first_words", "status_word", "when"]
    list_display_links = ["customer"]
    list_defer = ["body", "original_body"]
    list_filter = [DirectionFilter, StatusFilter, AnswerFilter, StopFilter, CreatedFilter]
    ordering = ["-created_at", "-pk"]
    search_fields = ["contact", "cellcast_id", "body"]
    search_help_text = _(
        "The customer's number in any spelling, a Cellcast id, or words of the text. "
        "Words are looked for in the newest 10,000 messages."
    )
    export_columns = {
        **columns(
            "id",
            "created_at",
            "direction",
            "contact",
            "status",
            "reason",
            "status_changed_at",
            "submitted_at",
            "body",
        ),
        "media": lambda message: "\n".join(message.media),
        **columns("original_body", "cellcast_id", "sender", "receiver"),
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Add the beginning of the text, all that the list shows of it, and why it has failed."""
        start = Left("body", FIRST_WORDS + 1)
        change = StatusChange.objects.filter(message=OuterRef("pk"), status=OuterRef("status"))
        more = {"beginning": start, "reason": Subquery(change.values("reason")[:1])}
        messages: QuerySet[Any] = super().get_queryset(request).annotate(**more)
        return messages

    def get_urls(self) -> list[URLPattern]:
        """Add the page of a conversation."""
        return [ConversationView.pattern(self), *super().get_urls()]

    def get_fieldsets(self, request: HttpRequest, obj: Message | None = None) -> Any:
        """Show of each direction what it can have."""
        is_inbound = obj is not None and obj.direction == Direction.INBOUND
        has_media = obj is not None and bool(obj.media)
        times = ("created_at", "status_changed_at")
        return [
            (
                None,
                {
                    "fields": [
                        ("way", "customer", "status_sentence"),
                        "text",
                        *(["pictures"] if has_media else []),
                        *(["original_text"] if is_inbound else []),
                        times if is_inbound else ("submitted_at", *times),
                    ]
                },
            ),
            (_("As Cellcast wrote it"), {"fields": [("cellcast_id", "sender", "receiver")]}),
        ]

    def find(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Find by number or id; where there is none, by words among the newest texts."""
        found = super().find(request, queryset, term)
        if found.exists():
            return found
        has_words = Q()
        for word in term.split()[:MAX_WORDS]:
            has_words &= Q(body__icontains=word)
        return found_first(queryset, newest(queryset, CappedPaginator.MAX_COUNT).filter(has_words))

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
        words = beginning(message.beginning, FIRST_WORDS)
        return format_html("<bdi>{}</bdi> {}", words, media_links(message.media))

    @admin.display(description=_("status"))
    def status_word(self, message: Any) -> SafeString:
        """Return the status as a badge, with the reason of a failure."""
        if not message.reason:
            return status_badge(message.status)
        words = beginning(message.reason, REASON_WORDS)
        return format_html('{} <bdi class="quiet">{}</bdi>', status_badge(message.status), words)

    @admin.display(description=_("created"))
    def when(self, message: Message) -> SafeString:
        """Return how long ago it was first heard of."""
        return ago(message.created_at)

    @admin.display(description=_("status"))
    def status_sentence(self, message: Any) -> SafeString:
        """Return the status as a badge, with the sentence about it and Cellcast's reason."""
        sentence = format_html(
            "{} {}", status_badge(message.status), description_of(message.status)
        )
        if not message.reason:
            return sentence
        return format_html("{}<br>{} <bdi>{}</bdi>", sentence, _("Reason:"), message.reason)

    @admin.display(description=_("text"))
    def text(self, message: Message) -> str:
        """Return the text with its line breaks."""
        return text_block(message.body) or self.get_empty_value_display()

    @admin.display(description=_("media"))
    def pictures(self, message: Message) -> str:
        """Return a link to each picture of an MMS."""
        return media_links(message.media) or self.get_empty_value_display()

    @admin.display(description=_("original text"))
    def original_text(self, message: Message) -> str:
        """Return the text that was replied to."""
        return text_block(message.original_body) or self.get_empty_value_display()

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return what happened and what was said around it, each to those who may view it."""
        details: dict[str, Any] = {}
        events: list[WebhookEvent] = []
        if self.may_view(request, WebhookEvent):
            events = list(obj.events.order_by("-pk")[: MAX_EVENTS + 1])
            details |= self._details_of_events(obj, events)
        if self.may_view(request, StatusChange):
            changes = obj.status_history.order_by("pk")[:MAX_CHANGES]
            details["timeline"] = steps(obj, changes, events[:MAX_EVENTS])
        if obj.contact:
            details["conversation"] = self._conversation(request, obj)
        return details

    def _conversation(self, request: HttpRequest, message: Message) -> dict[str, Any]:
        conversation = Conversation(self, self.get_queryset(request), message.contact)
        return conversation.around(message)

    def _details_of_events(self, message: Message, events: list[WebhookEvent]) -> dict[str, Any]:
        shown = events[:MAX_EVENTS]
        list_url = self.url_of(WebhookEvent, "changelist")
        return {
            "events": [
                {
                    "event": event,
                    "link": self.link_to(event, f"#{event.pk}"),
                    "outcome": outcome_badge(event),
                    "announcement": announcement_badge(event),
                    "handlers": handler_rows(event),
                }
                for event in shown
            ],
            "handlers_called": any(event.announcements for event in shown),
            "max_events": MAX_EVENTS if len(events) > MAX_EVENTS else None,
            "all_events_url": f"{list_url}?message__id__exact={message.pk}",
        }
