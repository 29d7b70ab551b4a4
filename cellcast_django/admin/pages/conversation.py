"""The conversation with a contact as a thread, opened at the newest message.

Its URL names a message, never a phone number: URLs end up in the logs of web servers.
"""

import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from django.contrib import messages as notices
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, ngettext

from cellcast_django.admin.contacts import Customer, customer_of
from cellcast_django.admin.display.badges import opt_out_badge, status_badge
from cellcast_django.admin.display.texts import (
    DAY,
    beginning,
    customer_label,
    localised,
    media_links,
)
from cellcast_django.admin.lists.paging import is_key, newer_than, older_than
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.conf import conf
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.models import Direction, Message
from cellcast_django.sending import NotRecordedError, OptedOutError, send

logger = logging.getLogger("cellcast_django")

TICKET = re.compile(r"[\w-]{22}", re.ASCII)

# The alphabet of SMS: 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1.
BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = "^{}\\[~]|€"  # characters that take up two places


def segments(text: str) -> int:
    """Return how many SMS a text takes: 160 places each, or 70 with any other character."""
    if set(text) <= set(BASIC + EXTENDED):
        places, alone, joined = len(text) + sum(each in EXTENDED for each in text), 160, 153
    else:
        places, alone, joined = len(text.encode("utf-16-le")) // 2, 70, 67
    return 1 if places <= alone else -(-places // joined)


class Sent(NamedTuple):
    """The reply has been sent, now or by an earlier click."""

    level: int
    sentence: str


@dataclass
class ReplyForm:
    """The form on the page of a conversation."""

    model_admin: ReadOnlyAdmin
    customer: Customer
    text: str = ""
    ticket: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    """Valid for one message: a second click, or going back, sends nothing."""

    basic = BASIC
    extended = EXTENDED

    def is_available(self, request: HttpRequest) -> bool:
        """Whether replies can be sent to this customer, and by this person."""
        can_send = bool(conf.send_with and self.customer.contact)
        return can_send and self.model_admin.may(request, "answer")

    @property
    def is_refused(self) -> bool:
        """Whether the customer has opted out: the Spam Act 2003 forbids texting them."""
        return self.customer.opted_out_since is not None

    def send(self, request: HttpRequest, messages: QuerySet[Any]) -> Sent | str:
        """Send and record the reply, or return why not."""
        self.text = request.POST.get("text", "").replace("\r\n", "\n").strip()
        ticket = request.POST.get("ticket", "")
        if not self.text:
            return _("Not sent: write something first.")
        if not TICKET.fullmatch(ticket):
            return _("Not sent: the form was incomplete. Try again.")
        if not cache.add(f"cellcast_django.reply.{ticket}", 1, timeout=DAY):
            return Sent(notices.WARNING, _("Already sent, so it was not sent again."))
        return self._send_now(request, _answered(request, messages))

    def _send_now(self, request: HttpRequest, answered: Message | None) -> Sent | str:
        username = request.user.get_username()
        own_number = answered.own_number if answered else ""
        try:
            sent = send(self.customer.contact, self.text, sender=own_number, username=username)
        except OptedOutError:
            return _("Not sent: this customer has opted out.")
        except NotRecordedError as error:
            return str(error)
        except Exception as error:  # the host's code may raise anything
            logger.error("CELLCAST_SEND_WITH failed: %s.", type(error).__qualname__)
            problem = f"{type(error).__qualname__}: {error}"
            return _(
                "May not have been sent, and was not recorded: %(problem)s. Check before you send "
                "it again."
            ) % {"problem": problem}
        if answered is not None:
            shown = self.model_admin.get_queryset(request)
            answered.mark_handled(username=username, within=shown)
        self.model_admin.log_change(request, sent, "Sent it from the conversation.")
        count = segments(self.text)
        sentence = ngettext("Sent as %(count)d SMS.", "Sent as %(count)d SMS.", count)
        return Sent(notices.SUCCESS, sentence % {"count": count})


def _answered(request: HttpRequest, messages: QuerySet[Any]) -> Message | None:
    """Return the newest reply that the person saw."""
    key = request.POST.get("answers", "")
    replies = messages.filter(direction=Direction.INBOUND)
    return replies.filter(pk=int(key)).first() if is_key(key) else None


TEMPLATE = "message/conversation.html"
PER_PAGE = 50
AROUND = 3  # messages before and after the one that the page is about
MAX_QUOTE_LENGTH = 80  # characters of the text that a reply answers


class Bubble(NamedTuple):
    """A message in the thread."""

    message: Message
    url: str
    day: date
    media: SafeString | str
    badge: SafeString | None
    """The status of a sent message; that of a reply says only that it arrived."""
    reason: str
    quote: str
    is_current: bool


class Conversation:
    """The messages with the contact of one message, on one admin site."""

    def __init__(
        self, model_admin: ReadOnlyAdmin, messages: QuerySet[Any], message: Message
    ) -> None:
        self.admin = model_admin
        self.message = message
        same = {"contact": message.contact} if message.contact else {"pk": message.pk}
        self.messages = messages.filter(**same)

    @property
    def url(self) -> str:
        return self.admin.url_of(Message, "conversation", self.message.pk)

    def page(self, before: str) -> dict[str, Any]:
        """Return the newest messages, or those before the one with this key."""
        messages = self.messages
        first = self.messages.filter(pk=int(before)).first() if is_key(before) else None
        if first is not None:
            messages = older_than(messages, "created_at", first.created_at, first.pk)
        found = list(messages.order_by("-created_at", "-pk")[: PER_PAGE + 1])
        shown = found[:PER_PAGE]
        return {
            "bubbles": self._bubbles(reversed(shown)),
            "older_url": f"{self.url}?before={shown[-1].pk}" if len(found) > PER_PAGE else None,
            "newest_url": self.url if first is not None else None,
        }

    def around(self, message: Message) -> dict[str, Any]:
        """Return the message with a few before and after it."""
        place = ("created_at", message.created_at, message.pk)
        before = older_than(self.messages, *place).order_by("-created_at", "-pk")[:AROUND]
        after = newer_than(self.messages, *place).order_by("created_at", "pk")[:AROUND]
        thread = [*reversed(before), message, *after]
        return {"bubbles": self._bubbles(thread, current=message), "url": self.url}

    def newest_unhandled_reply(self) -> Message | None:
        """Return the newest reply that nobody has dealt with."""
        replies: Any = self.messages
        return replies.unhandled().order_by("-created_at", "-pk").first()  # type: ignore[no-any-return]

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
                quote=beginning(message.original_body, MAX_QUOTE_LENGTH),
                is_current=message == current,
            )
            for message in messages
        ]


class ConversationAdmin(ReadOnlyAdmin):
    """Messages, each with a page of the conversation that it belongs to."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page, where replies are sent outside of ``ATOMIC_REQUESTS``."""
        view = self.conversation_view
        pattern = self.page_pattern("<int:pk>/conversation/", view, "conversation")
        outside_atomic_requests(pattern.callback)
        return [pattern, *super().get_urls()]

    def conversation_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the thread, or what precedes the message in ``?before=``; a POST sends a reply."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        messages = self.get_queryset(request)
        message = messages.filter(pk=pk).first()
        if message is None:
            return self.render_page(request, TEMPLATE, title=_("Conversation"))
        conversation = Conversation(self, messages, message)
        customer = customer_of(message)
        form = ReplyForm(self, customer)
        can_reply = form.is_available(request)
        if request.method == "POST":
            if not can_reply:
                raise PermissionDenied
            result = form.send(request, conversation.messages)
            if isinstance(result, Sent):
                self.message_user(request, result.sentence, result.level)
                return HttpResponseRedirect(conversation.url)
            self.message_user(request, result, notices.ERROR)
        newest = conversation.newest_unhandled_reply()
        context = conversation.page(request.GET.get("before", ""))
        words = customer_label(customer) or _("(no number)")
        return self.render_page(
            request,
            TEMPLATE,
            title=_("Conversation with %(customer)s") % {"customer": words},
            opted_out=opt_out_badge(customer.opted_out_since),
            form=form if can_reply else None,
            answers=_newest_reply_in(context["bubbles"]),
            waiting=newest,
            handle_url=newest and self.url_of(Message, "handle"),
            may_handle=self.may(request, "handle"),
            undo=self.pop_undo(request),  # type: ignore[attr-defined]
            **context,
        )


def _newest_reply_in(bubbles: list[Bubble]) -> int | None:
    replies = (each.message for each in reversed(bubbles))
    return next((each.pk for each in replies if each.direction == Direction.INBOUND), None)
