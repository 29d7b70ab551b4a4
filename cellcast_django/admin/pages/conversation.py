"""All messages with one contact as a thread, which begins where it ends: with the newest."""

from collections.abc import Iterable
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from cellcast_django.admin.display.badges import status_badge
from cellcast_django.admin.display.media import media_links
from cellcast_django.admin.display.texts import beginning, localised
from cellcast_django.admin.lists.keyset import is_key, newer_than, older_than
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin, spellings
from cellcast_django.models import Direction, Message
from cellcast_django.payloads import clean

PER_PAGE = 50
AROUND = 3
"""Messages before and after the one whose page shows them."""
QUOTED = 80
"""Characters of the text that a reply answers."""


class Bubble(NamedTuple):
    """A message as the thread shows it."""

    message: Message
    url: str
    day: date
    media: SafeString | str
    badge: SafeString | None
    """Of what was sent: a reply's status says nothing but that it came."""
    reason: str
    quote: str
    is_current: bool


class Conversation:
    """The messages with one contact, on one admin site."""

    def __init__(
        self, model_admin: ReadOnlyAdmin, messages: QuerySet[Message], contact: str
    ) -> None:
        self.admin = model_admin
        self.contact = contact
        self.messages = messages.filter(contact=contact)

    def url(self, **query: Any) -> str:
        """Return the address of the page; the number is a parameter, for it may hold a slash."""
        address = self.admin.url_of(Message, "conversation")
        return f"{address}?{urlencode({'contact': self.contact} | query)}"

    def page(self, before: str) -> dict[str, Any]:
        """Return the newest messages, or those before the one that has this key."""
        messages = self.messages
        first = self.messages.filter(pk=int(before)).first() if is_key(before) else None
        if first is not None:
            messages = older_than(messages, "created_at", first.created_at, first.pk)
        found = list(messages.order_by("-created_at", "-pk")[: PER_PAGE + 1])
        shown = found[:PER_PAGE]
        return {
            "bubbles": self._bubbles(reversed(shown)),
            "older_url": self.url(before=shown[-1].pk) if len(found) > PER_PAGE else None,
            "newest_url": self.url() if first is not None else None,
        }

    def around(self, message: Message) -> dict[str, Any]:
        """Return the message with the few that stand around it."""
        place = ("created_at", message.created_at, message.pk)
        before = older_than(self.messages, *place).order_by("-created_at", "-pk")[:AROUND]
        after = newer_than(self.messages, *place).order_by("created_at", "pk")[:AROUND]
        thread = [*reversed(before), message, *after]
        return {"bubbles": self._bubbles(thread, current=message), "url": self.url()}

    def _bubbles(self, messages: Iterable[Any], current: Message | None = None) -> list[Bubble]:
        return [
            Bubble(
                message=message,
                url=self.admin.url_of(Message, "change", message.pk),
                day=localised(message.created_at).date(),
                badge=(
                    status_badge(message.status)
                    if message.direction == Direction.OUTBOUND
                    else None
                ),
                media=media_links(message.media),
                reason=message.reason or "",
                quote=beginning(message.original_body, QUOTED),
                is_current=message == current,
            )
            for message in messages
        ]


class ConversationView:
    """The page of a conversation: ``?contact=…``, in any spelling, and ``&before=…``."""

    def __init__(self, model_admin: ReadOnlyAdmin) -> None:
        self.admin = model_admin

    @classmethod
    def pattern(cls, model_admin: ReadOnlyAdmin) -> URLPattern:
        """Return the address of the page."""
        options = model_admin.opts
        name = f"{options.app_label}_{options.model_name}_conversation"
        view = model_admin.admin_site.admin_view(cls(model_admin))
        return path("conversation/", view, name=name)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Show the thread to those who may view messages."""
        if not self.admin.has_view_permission(request):
            raise PermissionDenied
        messages = self.admin.get_queryset(request)
        contact = self._contact(request, messages)
        conversation = Conversation(self.admin, messages, contact)
        site = self.admin.admin_site
        request.current_app = site.name
        context = {
            **site.each_context(request),
            **conversation.page(request.GET.get("before", "")),
            "title": _("Conversation"),
            "contact": contact,
            "opts": self.admin.opts,
            "media": self.admin.media,
            "list_url": f"{self.admin.url_of(Message, 'changelist')}?{urlencode({'q': contact})}",
        }
        return TemplateResponse(request, "admin/cellcast_django/message/conversation.html", context)

    def _contact(self, request: HttpRequest, messages: QuerySet[Message]) -> str:
        """Return the number as it is kept. Raises ``Http404`` for one that nobody wrote from."""
        written = clean(request.GET.get("contact", ""))
        term = written.strip()
        for spelling in dict.fromkeys([written, term, *spellings(term)]):
            if spelling and messages.filter(contact=spelling).exists():
                return spelling
        raise Http404
