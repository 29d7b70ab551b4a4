"""The pages of webhook events."""

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.contacts import customer_of
from cellcast_django.admin.display.badges import (
    announcement_badge,
    opt_out_badge,
    outcome_badge,
)
from cellcast_django.admin.display.bodies import lay_out
from cellcast_django.admin.display.texts import ago, customer_text, number
from cellcast_django.admin.display.timeline import handler_rows
from cellcast_django.admin.lists.event_filters import (
    HandlerFilter,
    KindFilter,
    OutcomeFilter,
    ReceivedFilter,
)
from cellcast_django.admin.lists.export import ExportAdmin, columns
from cellcast_django.admin.lists.keyset import is_key
from cellcast_django.admin.lists.read_only import spellings
from cellcast_django.admin.pages.registry import PagesAdmin
from cellcast_django.admin.replay.actions import ReplayAdmin
from cellcast_django.models import WebhookEvent


class WebhookEventAdmin(PagesAdmin, ReplayAdmin, ExportAdmin):
    """Everything that Cellcast said, as it came, and what became of it."""

    list_display = ["when", "kind", "state", "customer_link", "trouble"]
    list_filter = [OutcomeFilter, KindFilter, HandlerFilter, ReceivedFilter]
    list_select_related = ["message"]
    list_defer = ["body", "message__body", "message__original_body"]
    search_fields = ["contact", "cellcast_id"]
    search_help_text = _(
        "The customer's number in any spelling, a Cellcast id, or the number of an event."
    )
    export_columns = (
        columns("id", "received_at", "endpoint", "kind", "outcome", "error")
        | {
            "announcement": lambda event: event.state,
            "failing_handlers": lambda event: ", ".join(event.handler_errors()),
        }
        | columns("announced_at", "announce_due_at", "announce_attempts")
        | columns("contact", "cellcast_id", "message_id", "username", "content_type", "body")
    )
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("log_number", "received_at", "endpoint", "kind"),
                    ("outcome_word", "error"),
                    ("message", "customer_state", "cellcast_id"),
                    ("username", "content_type"),
                ]
            },
        ),
        (
            _("Announcement"),
            {
                "fields": [
                    ("announcement_word", "announced_at"),
                    ("announce_attempts", "announce_due_at"),
                ]
            },
        ),
    ]

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return the order of time, in the words of the index that serves the request."""
        by_state = request.GET.get(OutcomeFilter.parameter_name) in {"duplicate", "invalid"}
        return ["-pk"] if by_state else ["-received_at", "-pk"]

    def meanings(self, term: str) -> list[Q]:
        """Find by number, by the message's id, and by the number of the event in the log."""
        by_pk = [Q(pk=int(term))] if is_key(term) else []
        contacts = [Q(contact=each) for each in spellings(term)]
        return [Q(message__cellcast_id=term), *contacts, *by_pk]

    # What is shown

    @admin.display(description=_("received"))
    def when(self, event: WebhookEvent) -> SafeString:
        """Return how long ago it came in."""
        return ago(event.received_at)

    @admin.display(description=_("number"))
    def log_number(self, event: WebhookEvent) -> str:
        """Return the number by which the log speaks of it."""
        return f"#{event.pk}"

    @admin.display(description=_("outcome"))
    def outcome_word(self, event: WebhookEvent) -> SafeString:
        """Return the outcome as a badge."""
        return outcome_badge(event)

    @admin.display(description=_("outcome"))
    def state(self, event: WebhookEvent) -> SafeString:
        """Return how far the announcement is, or why there is none, as a badge."""
        return announcement_badge(event) or outcome_badge(event)

    @admin.display(description=_("announcement"))
    def announcement_word(self, event: WebhookEvent) -> str:
        """Return how far the announcement is, as a badge."""
        return announcement_badge(event) or self.get_empty_value_display()

    @admin.display(description=_("contact"))
    def customer(self, event: WebhookEvent) -> str:
        """Return the customer's number."""
        return number(event.contact) or self.get_empty_value_display()

    @admin.display(description=_("contact"))
    def customer_state(self, event: WebhookEvent) -> str:
        """Return the customer's number and name, and whether they have opted out."""
        customer = customer_of(event)
        words = customer_text(customer) or self.get_empty_value_display()
        return format_html("{} {}", words, opt_out_badge(customer.opted_out_since))

    @admin.display(description=_("contact"))
    def customer_link(self, event: WebhookEvent) -> str:
        """Return the customer's number as a link to the message, where there is one."""
        if event.message is None:
            return self.customer(event)
        return self.link_to(event.message, self.customer(event))

    @admin.display(description=_("trouble"), empty_value="")
    def trouble(self, event: WebhookEvent) -> str:
        """Return why it could not be understood, or which handlers raised."""
        return event.error or ", ".join(event.handler_errors())

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return the body laid out, each handler's outcome, and what can be done."""
        return {
            "laid_out": lay_out(obj.body, obj.content_type),
            "events": [{"handlers": handler_rows(obj)}],
            "replays": self.replays_of(request, obj),
        }
