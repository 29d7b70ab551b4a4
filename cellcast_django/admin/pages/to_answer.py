"""Replies waiting for an answer: the page *To answer*, and marking them as done."""

from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.contacts import attach_customers, customer_of
from cellcast_django.admin.display.texts import ago, beginning, customer_html, figure
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.models import Direction, Message

PER_PAGE = 100  # customers on the page, longest wait first
MAX_SELECTED = 1_000  # replies that can be marked at once
MAX_TEXT_LENGTH = 200
MAX_REPLIES = 1_000  # unhandled replies that are read: they pile up where nobody handles any


class Reply(NamedTuple):
    """When an unhandled reply came, and its id."""

    created_at: datetime
    pk: int


class Waiting(NamedTuple):
    """The customers who wait, by contact, with their unhandled replies; longest wait first."""

    customers: dict[str, list[Reply]]
    is_complete: bool
    """Whether all unhandled replies were read, not only the oldest."""


class ToAnswerAdmin(ReadOnlyAdmin):
    """Messages, with the page *To answer* and the action that marks replies as done."""

    actions = ["mark_done"]

    def get_urls(self) -> list[URLPattern]:
        """Add the page, and the target of its buttons."""
        return [
            self.page_pattern("to-answer/", self.to_answer_view, "to_answer"),
            self.page_pattern("<int:pk>/handle/", self.handle_view, "handle"),
            *super().get_urls(),
        ]

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "handle")

    def waiting(self, request: HttpRequest) -> dict[str, Any]:
        """Return how many customers wait for an answer, and since when."""
        waiting = self._customers(request)
        oldest = next((replies[0] for replies in waiting.customers.values()), None)
        count = len(waiting.customers)
        return {
            "count": count,
            "formatted_count": figure(count) if waiting.is_complete else f"{figure(count)}+",
            "oldest": ago(oldest.created_at) if oldest else None,
            "url": self.url_of(Message, "to_answer"),
        }

    def _customers(self, request: HttpRequest) -> Waiting:
        messages: Any = self.get_queryset(request)
        # handled_at is null in all of them, but PostgreSQL reads its index in order only if told.
        oldest = messages.unhandled().order_by("handled_at", "created_at")
        rows = list(oldest.values_list("contact", "created_at", "pk")[: MAX_REPLIES + 1])
        customers: dict[str, list[Reply]] = {}
        for contact, created_at, pk in rows[:MAX_REPLIES]:
            customers.setdefault(contact, []).append(Reply(created_at, pk))
        return Waiting(customers, is_complete=len(rows) <= MAX_REPLIES)

    def to_answer_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.longest_waiting(request, PER_PAGE)
        return self.render_page(request, "message/to_answer.html", title=_("To answer"), **rows)

    def longest_waiting(self, request: HttpRequest, count: int) -> dict[str, Any]:
        """Return a row for each of the customers who wait longest, and whether there are more."""
        waiting = self._customers(request)
        shown = dict(islice(waiting.customers.items(), count))
        newest = self._newest_replies(request, [replies[0].pk for replies in shown.values()])
        has_more = len(waiting.customers) > len(shown) or not waiting.is_complete
        rows = [
            self._row(newest[contact], replies[0], len(replies) if waiting.is_complete else None)
            for contact, replies in shown.items()
            if contact in newest
        ]
        return {
            "rows": rows,
            "more_than": len(shown) if has_more else None,
            "may_handle": self.may(request, "handle"),
        }

    def _newest_replies(self, request: HttpRequest, oldest: list[int]) -> dict[str, Any]:
        """Return the newest unhandled replies by contact, given the ids of the oldest."""
        messages: Any = self.get_queryset(request)
        same_contact = messages.unhandled().filter(contact=OuterRef("contact"))
        newest = same_contact.order_by("-created_at", "-pk").values("pk")[:1]
        found = messages.filter(pk__in=oldest).order_by().values_list(Subquery(newest))
        replies = messages.in_bulk([pk for (pk,) in found])
        attach_customers(replies.values())
        return {reply.contact: reply for reply in replies.values()}

    def _row(self, message: Any, oldest: Reply, count: int | None) -> dict[str, Any]:
        return {
            "customer": customer_html(customer_of(message)) or gettext("(no number)"),
            "conversation_url": self.url_of(Message, "conversation", message.pk),
            "handle_url": self.url_of(Message, "handle", message.pk),
            "text": beginning(message.body, MAX_TEXT_LENGTH),
            "replies": count,
            "waiting": ago(oldest.created_at),
        }

    def handle_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Mark a reply and the customer's earlier ones as handled."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.require(request, "handle")
        message = get_object_or_404(self.get_queryset(request), direction=Direction.INBOUND, pk=pk)
        self._mark_done(request, message)
        self.message_user(request, gettext("Marked as done."), messages.SUCCESS)
        page = request.POST.get("back", "")
        if page in ("change", "conversation"):
            return HttpResponseRedirect(self.url_of(Message, page, pk))
        return HttpResponseRedirect(self.url_of(Message, "to_answer"))

    def _mark_done(self, request: HttpRequest, message: Message) -> None:
        message.mark_handled()
        self.log_change(request, message, "Marked it as handled.")

    @admin.action(permissions=["handle"], description=_("Mark as done"))
    def mark_done(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Mark the selected replies and the customers' earlier ones as handled."""
        replies = queryset.filter(direction=Direction.INBOUND, handled_at=None)
        count = 0
        for message in replies.order_by("-created_at", "-pk")[:MAX_SELECTED]:
            self._mark_done(request, message)
            count += 1
        sentence = ngettext(
            "%(count)d reply marked as done.", "%(count)d replies marked as done.", count
        )
        self.message_user(request, sentence % {"count": count}, messages.SUCCESS)
