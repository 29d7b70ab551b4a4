"""The pages of the status history."""

from collections.abc import Collection

from django.contrib import admin
from django.db.models import Q
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.badges import status_badge
from cellcast_django.admin.display.texts import ago, beginning, number_html, text_block
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin, spellings
from cellcast_django.models import Message, StatusChange

MAX_REASON_LENGTH = 80  # characters of a reason in the list
MAX_MESSAGES = 200  # newest messages of a contact whose history is searched


class StatusChangeAdmin(ReadOnlyAdmin):
    """Every reported status, in order of arrival."""

    list_display = [
        "when",
        "message_link",
        "shown_status",
        "reason_start",
        "shown_previous",
        "applied",
    ]
    ordering = ["-pk"]
    list_select_related = ["message"]
    list_defer = ["message__body", "message__original_body"]
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

    @admin.display(description=_("recorded at"))
    def when(self, change: StatusChange) -> SafeString:
        return ago(change.recorded_at, is_brief=True)

    @admin.display(description=_("message"))
    def message_link(self, change: StatusChange) -> str:
        message = change.message
        return self.link_to(change, message, number_html(message.contact) or message.cellcast_id)

    @admin.display(description=_("status"))
    def shown_status(self, change: StatusChange) -> SafeString:
        return status_badge(change.status)

    @admin.display(description=_("reason"))
    def reason_start(self, change: StatusChange) -> SafeString:
        return format_html("<bdi>{}</bdi>", beginning(change.reason, MAX_REASON_LENGTH))

    @admin.display(description=_("reason"))
    def reason_text(self, change: StatusChange) -> str:
        return text_block(change.reason) or self.get_empty_value_display()

    @admin.display(description=_("previous status"))
    def shown_previous(self, change: StatusChange) -> str:
        if not change.previous_status:
            return self.get_empty_value_display()
        return status_badge(change.previous_status)
