"""The pages of the status history, which each message leads to."""

from collections.abc import Collection, Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.customers import Customer
from cellcast_django.admin.display.badges import status_badge
from cellcast_django.admin.display.texts import ago, beginning
from cellcast_django.admin.lists.columns import Columns
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.lists.search import Search, spellings
from cellcast_django.models import Message, StatusChange

MAX_REASON_SHOWN = 80  # characters of a reason in the list
MAX_MESSAGES = 200  # newest messages of a contact whose history is searched


class StatusChangeColumns(Columns):
    """Status changes in their list."""

    def contacts(self) -> Iterable[str]:
        return (change.message.contact for change in self.rows)

    def customer(self, row: Any) -> Customer:
        return super().customer(row.message)

    @admin.display(description=_("recorded at"))
    def when(self, change: StatusChange) -> SafeString:
        return ago(change.recorded_at)

    @admin.display(description=_("contact"))
    def contact(self, change: StatusChange) -> str:
        message = change.message
        if self.hides_message(change):
            return message.cellcast_id
        return self.link(change, message, self.customer(change).html or message.cellcast_id)

    @admin.display(description=_("status"))
    def state(self, change: StatusChange) -> SafeString:
        return status_badge(change.status)

    @admin.display(description=_("reason"))
    def reason(self, change: StatusChange) -> SafeString:
        return format_html("<bdi>{}</bdi>", beginning(change.reason, MAX_REASON_SHOWN))

    @admin.display(description=_("effect"))
    def effect(self, change: StatusChange) -> SafeString | str:
        if not change.previous_status:
            return gettext("first report")
        words = gettext("was") if change.applied else gettext("came late: it stays")
        return format_html("{} {}", words, status_badge(change.previous_status))

    @admin.display(description=_("reason"))
    def whole_reason(self, change: StatusChange) -> str:
        if not change.reason:
            return self.nothing
        return format_html('<div class="cellcast-text" dir="auto">{}</div>', change.reason)


class StatusChangeSearch(Search):
    """Finds status changes by their messages: those that the site shows to this person."""

    def meanings(self, term: str) -> list[Q]:
        return [Q(message__cellcast_id=term), self.about(spellings(term))]

    def about(self, contacts: Collection[str]) -> Q:
        has_list = self.viewer.site.is_registered(Message)
        messages = self.viewer.rows(Message) if has_list else Message.objects.fresh()
        newest = messages.filter(contact__in=contacts).order_by("-created_at")
        keys = newest.values_list("pk", flat=True)[:MAX_MESSAGES]
        return Q(message__in=list(keys))  # read here: MariaDB has no LIMIT in such a subquery


class StatusChangeAdmin(ReadOnlyAdmin):
    """Every reported status, in order of arrival."""

    rows_type = StatusChangeColumns
    search_type = StatusChangeSearch
    list_display = [
        StatusChangeColumns.when,
        StatusChangeColumns.contact,
        StatusChangeColumns.state,
        StatusChangeColumns.reason,
        StatusChangeColumns.effect,
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
        (StatusChangeColumns.state, StatusChangeColumns.effect),
        StatusChangeColumns.whole_reason,
        ("message", "event"),
    ]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Leave it out of the menu: people come here from a message."""
        return False
