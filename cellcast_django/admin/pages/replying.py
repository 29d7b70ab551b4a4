"""The form for staff to reply to a customer, through the host's ``CELLCAST_SEND_WITH``."""

import logging
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.contrib import messages as notices
from django.core.cache import cache
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _, ngettext

from cellcast_django.admin.contacts import Customer
from cellcast_django.admin.display.texts import DAY
from cellcast_django.admin.lists.keyset import is_key
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.conf import conf
from cellcast_django.models import Direction, Message
from cellcast_django.opt_outs import is_opted_out

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
        if is_opted_out(self.customer.contact):
            return _("Not sent: this customer has opted out.")
        if not TICKET.fullmatch(ticket):
            return _("Not sent: the form was incomplete. Try again.")
        if not cache.add(f"cellcast_django.reply.{ticket}", 1, timeout=DAY):
            return Sent(notices.WARNING, _("Already sent, so it was not sent again."))
        return self._send_now(request, _answered(request, messages))

    def _send_now(self, request: HttpRequest, answered: Message | None) -> Sent | str:
        contact = self.customer.contact
        try:
            cellcast_id = import_string(conf.send_with)(contact, self.text)
        except Exception as error:  # noqa: BLE001  # the host's code may raise anything
            logger.error("CELLCAST_SEND_WITH failed: %s.", type(error).__qualname__)
            problem = f"{type(error).__qualname__}: {error}"
            return _(
                "May not have been sent, and was not recorded: %(problem)s. Check before you send "
                "it again."
            ) % {"problem": problem}
        try:
            sent = Message.objects.record_sent(
                cellcast_id, receiver=contact, body=self.text, answers=answered
            )
        except ValueError as error:
            return _("Sent, but not recorded: %(problem)s") % {"problem": error}
        self.model_admin.log_change(request, sent, "Sent it from the conversation.")
        count = segments(self.text)
        sentence = ngettext("Sent as %(count)d SMS.", "Sent as %(count)d SMS.", count)
        return Sent(notices.SUCCESS, sentence % {"count": count})


def _answered(request: HttpRequest, messages: QuerySet[Any]) -> Message | None:
    """Return the newest reply that the person saw."""
    key = request.POST.get("answers", "")
    replies = messages.filter(direction=Direction.INBOUND)
    return replies.filter(pk=int(key)).first() if is_key(key) else None
