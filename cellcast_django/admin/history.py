"""The pages of the status history."""

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.contacts import attach_customers, customer_of
from cellcast_django.admin.display.badges import status_badge, test_badge
from cellcast_django.admin.display.texts import beginning, brief_ago, own_number_html
from cellcast_django.admin.lists.filters import OwnNumberOfMessageFilter
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin, spellings
from cellcast_django.models import Message, StatusChange

MAX_REASON_SHOWN = 80  # characters of a reason in the list
MAX_MESSAGES = 200  # newest messages of a contact whose history is searched


class StatusChangeAdmin(ReadOnlyAdmin):
    """Every reported status, in order of arrival."""

    list_display = ["when", "message_link", "state", "reason_start", "effect"]
    list_filter = [OwnNumberOfMessageFilter]
    ordering = ["-pk"]
    list_select_related = ["message", "event"]
    list_defer = ["message__body", "message__original_body", "event__body"]
    search_fields = ["message__contact", "message__cellcast_id"]
    search_help_text = _(
        "Phone number (any format) or Cellcast id. For a number, the latest 200 messages are "
        "searched."
    )
    fields = [
        "recorded_at",
        ("shown_status", "shown_previous", "applied"),
        "reason_text",
        ("message", "event"),
    ]

    def meanings(self, term: str) -> list[Q]:
        return [Q(message__cellcast_id=term), self.about(spellings(term))]

    def about(self, contacts: Collection[str]) -> Q:
        newest = Message.objects.filter(contact__in=contacts).order_by("-created_at")
        return Q(message__in=list(newest.values_list("pk", flat=True)[:MAX_MESSAGES]))

    def prefetch(self, rows: Any) -> None:
        attach_customers(change.message for change in rows)

    @admin.display(description=_("recorded at"))
    def when(self, change: StatusChange) -> SafeString:
        return brief_ago(change.recorded_at)

    @admin.display(description=_("message"))
    def message_link(self, change: Any) -> str:
        message = change.message
        if change.hides_message:
            return str(message.cellcast_id)
        who = customer_of(message).html or message.cellcast_id
        own = own_number_html(message) if getattr(change, "has_several", False) else ""
        return format_html("{} {}", self.link_to(change, message, who), own)

    @admin.display(description=_("status"))
    def state(self, change: StatusChange) -> SafeString:
        is_test = change.event is not None and change.event.is_test
        return format_html("{} {}", status_badge(change.status), test_badge(is_test))

    @admin.display(description=_("effect"))
    def effect(self, change: StatusChange) -> SafeString | str:
        if not change.previous_status:
            return gettext("first report")
        words = gettext("was") if change.applied else gettext("came late: it stays")
        return format_html("{} {}", words, status_badge(change.previous_status))

    @admin.display(description=_("status"))
    def shown_status(self, change: StatusChange) -> SafeString:
        return status_badge(change.status)

    @admin.display(description=_("reason"))
    def reason_start(self, change: StatusChange) -> SafeString:
        return format_html("<bdi>{}</bdi>", beginning(change.reason, MAX_REASON_SHOWN))

    @admin.display(description=_("reason"))
    def reason_text(self, change: StatusChange) -> str:
        if not change.reason:
            return self.get_empty_value_display()
        return format_html('<div class="cellcast-text" dir="auto">{}</div>', change.reason)

    @admin.display(description=_("previous status"))
    def shown_previous(self, change: StatusChange) -> str:
        if not change.previous_status:
            return self.get_empty_value_display()
        return status_badge(change.previous_status)
