"""Replies waiting for an answer: the page *To answer*, and marking them as done."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Min, QuerySet
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
        messages: Any = self.get_queryset(request)
        unhandled = messages.unhandled().order_by()
        found = unhandled.aggregate(count=Count("contact", distinct=True), oldest=Min("created_at"))
        return {
            "count": found["count"],
            "formatted_count": figure(found["count"]),
            "oldest": ago(found["oldest"]) if found["oldest"] else None,
            "url": self.url_of(Message, "to_answer"),
        }

    def to_answer_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.longest_waiting(request, PER_PAGE)
        return self.render_page(request, "message/to_answer.html", title=_("To answer"), **rows)

    def longest_waiting(self, request: HttpRequest, count: int) -> dict[str, Any]:
        """Return a row for each of the customers who wait longest, and whether there are more."""
        rows = self._customers(request, count + 1)
        return {
            "rows": rows[:count],
            "more_than": count if len(rows) > count else None,
            "may_handle": self.may(request, "handle"),
        }

    def _customers(self, request: HttpRequest, count: int) -> list[dict[str, Any]]:
        messages: Any = self.get_queryset(request)
        by_contact = (
            messages.unhandled()
            .order_by()
            .values("contact")
            .annotate(oldest=Min("created_at"), newest=Max("pk"), replies=Count("pk"))
        )
        found = list(by_contact.order_by("oldest", "newest")[:count])
        newest = messages.in_bulk([each["newest"] for each in found])
        attach_customers(newest.values())
        return [
            self._row(newest[each["newest"]], each) for each in found if each["newest"] in newest
        ]

    def _row(self, message: Any, waiting: dict[str, Any]) -> dict[str, Any]:
        return {
            "customer": customer_html(customer_of(message)) or gettext("(no number)"),
            "conversation_url": self.url_of(Message, "conversation", message.pk),
            "handle_url": self.url_of(Message, "handle", message.pk),
            "text": beginning(message.body, MAX_TEXT_LENGTH),
            "replies": waiting["replies"],
            "waiting": ago(waiting["oldest"]),
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
