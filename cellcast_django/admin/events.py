"""The pages of webhook events, and the two things that a person can do with them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _, ngettext_lazy

from cellcast_django import announcements, inbox, tasks
from cellcast_django.admin.badges import (
    announcement_badge,
    announcement_state,
    handler_badge,
    outcome_badge,
)
from cellcast_django.admin.filters import (
    KindFilter,
    OutcomeFilter,
    ReceivedFilter,
)
from cellcast_django.admin.messages import number
from cellcast_django.admin.pages import PagesAdmin
from cellcast_django.admin.read_only import keys_of, spellings
from cellcast_django.models import Message, WebhookEvent

MAX_SELECTED = 1_000
"""Events for one action: each of them calls handlers, while a person waits."""


class WebhookEventAdmin(PagesAdmin):
    """Everything that Cellcast said, as it came, and what became of it."""

    actions = ["announce_again", "process_again"]
    list_display = ["received_at", "kind", "state", "customer_link", "trouble"]
    list_filter = [OutcomeFilter, KindFilter, ReceivedFilter]
    list_select_related = ["message"]
    list_defer = ["body", "message__body", "message__original_body"]
    search_fields = ["contact", "cellcast_id"]
    search_help_text = _(
        "The customer's number in any spelling, a Cellcast id, or the number of an event."
    )
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("received_at", "endpoint", "kind"),
                    ("outcome_word", "error"),
                    ("message", "customer", "cellcast_id"),
                    "raw",
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

    def get_urls(self) -> list[URLPattern]:
        """Keep the pages out of a host project's ``ATOMIC_REQUESTS``, on every database.

        What the actions store has to be committed before it is announced.
        """
        patterns = super().get_urls()
        for pattern in patterns:
            for alias in connections:
                transaction.non_atomic_requests(using=alias)(pattern.callback)
        return patterns

    def has_announce_permission(self, request: HttpRequest) -> bool:
        """Whether this person may announce events again."""
        return self._has_permission(request, "announce")

    def has_reprocess_permission(self, request: HttpRequest) -> bool:
        """Whether this person may process invalid events again."""
        return self._has_permission(request, "reprocess")

    def _has_permission(self, request: HttpRequest, action: str) -> bool:
        codename = get_permission_codename(action, self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return the order of time, in the words of the index that serves the request."""
        by_state = request.GET.get(OutcomeFilter.parameter_name) in {"duplicate", "invalid"}
        return ["-pk"] if by_state else ["-received_at", "-pk"]

    def condition(self, term: str) -> Q:
        """Find by number, by the message's id, and by the number of the event in the log."""
        contacts = Q(contact__in=spellings(term))
        messages = Q(message__in=keys_of(Message.objects.filter(cellcast_id=term)))
        event = Q(pk=int(term)) if term.isdecimal() else Q()
        return contacts | messages | event

    # What is shown

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
    def customer_link(self, event: WebhookEvent) -> str:
        """Return the customer's number as a link to the message, where there is one."""
        if event.message is None:
            return self.customer(event)
        return self.link_to(event.message, self.customer(event))

    @admin.display(description=_("trouble"))
    def trouble(self, event: WebhookEvent) -> str:
        """Return why it could not be understood, or which handlers raised."""
        return event.error or ", ".join(event.handler_errors())

    @admin.display(description=_("body"))
    def raw(self, event: WebhookEvent) -> SafeString:
        """Return the body as it came."""
        return format_html('<pre class="cellcast-raw">{}</pre>', event.body)

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return each handler's outcome."""
        return {
            "handlers": [
                {
                    "name": name,
                    "badge": handler_badge(outcome["error"]),
                    "error": outcome["error"],
                    "at": parse_datetime(outcome["at"]),
                }
                for name, outcome in obj.announcements.items()
            ]
        }

    # What can be done

    @admin.action(
        permissions=["announce"],
        description=_("Announce again to the handlers that have not finished"),
    )
    def announce_again(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> None:
        """Call the handlers that have not finished with the selected events."""
        selected = self._selected(request, queryset)
        events = list(announcements.announce_again(selected))
        self._say_what_handlers_did(request, events)
        self._say(request, messages.INFO, NOTHING_LEFT, len(selected) - len(events))

    @admin.action(permissions=["reprocess"], description=_("Process invalid events again"))
    def process_again(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> None:
        """Read the selected events again; what is understood now is stored and announced."""
        results: list[WebhookEvent] = []
        not_invalid = 0
        for pk in self._selected(request, queryset):
            event = WebhookEvent.objects.using(queryset.db).invalid().filter(pk=pk).first()
            read_again = inbox.reprocess(event) if event else []
            tasks.announce(read_again)
            results += read_again
            not_invalid += not read_again
        still_invalid = sum(e.outcome == WebhookEvent.Outcome.INVALID for e in results)
        self._say(request, messages.SUCCESS, UNDERSTOOD, len(results) - still_invalid)
        self._say(request, messages.WARNING, STILL_INVALID, still_invalid)
        self._say(request, messages.INFO, NOT_INVALID, not_invalid)
        self._say_what_handlers_did(request, results)

    def _selected(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> list[int]:
        """Return the keys of the selected events, oldest first; none where they are too many."""
        selected = list(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        if len(selected) > MAX_SELECTED:
            self._say(request, messages.ERROR, TOO_MANY, MAX_SELECTED)
            return []
        return sorted(selected)

    def _say_what_handlers_did(self, request: HttpRequest, events: Sequence[WebhookEvent]) -> None:
        states = Counter(announcement_state(event) for event in events)
        self._say(request, messages.SUCCESS, ANNOUNCED, states["announced"])
        self._say(request, messages.WARNING, WAITING, states["pending"])
        self._say(request, messages.ERROR, FAILED, states["failed"])
        if raised := sorted({name for event in events for name in event.handler_errors()}):
            sentence = gettext("Handlers that raised an error: %(names)s.")
            self.message_user(request, sentence % {"names": ", ".join(raised)}, messages.WARNING)

    def _say(self, request: HttpRequest, level: int, sentence: Any, count: int) -> None:
        if count:
            self.message_user(request, sentence % {"count": count}, level)


# Sentences about a number of events

ANNOUNCED = ngettext_lazy(
    "%(count)d event has been announced.", "%(count)d events have been announced.", "count"
)
WAITING = ngettext_lazy(
    "%(count)d event waits for its next announcement.",
    "%(count)d events wait for their next announcement.",
    "count",
)
FAILED = ngettext_lazy(
    "%(count)d event has failed: it waits for a person.",
    "%(count)d events have failed: they wait for a person.",
    "count",
)
NOTHING_LEFT = ngettext_lazy(
    "%(count)d event has nothing left to announce.",
    "%(count)d events have nothing left to announce.",
    "count",
)
UNDERSTOOD = ngettext_lazy(
    "%(count)d event has been understood.", "%(count)d events have been understood.", "count"
)
STILL_INVALID = ngettext_lazy(
    "%(count)d event still cannot be understood.",
    "%(count)d events still cannot be understood.",
    "count",
)
NOT_INVALID = ngettext_lazy(
    "%(count)d event is not invalid: there is nothing to process again.",
    "%(count)d events are not invalid: there is nothing to process again.",
    "count",
)
TOO_MANY = ngettext_lazy(
    "Nothing was done: no more than %(count)d event can be selected.",
    "Nothing was done: no more than %(count)d events can be selected.",
    "count",
)
