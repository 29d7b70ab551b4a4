"""Sends what somebody has typed, once however often it is posted, and says what became of it."""

import logging
from abc import ABC, abstractmethod
from dataclasses import field
from datetime import timedelta
from itertools import islice
from typing import Any, Literal, NamedTuple

from django.contrib import messages as notices
from django.http import QueryDict
from django.utils.crypto import salted_hmac
from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from cellcast_django.admin.customers import HostDirectory, host_code
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.contacts import is_phone_number
from cellcast_django.models import Claim, Message
from cellcast_django.models.claim import TICKET, TICKET_LASTS, new_ticket
from cellcast_django.models.message import MAX_NOTE_LENGTH
from cellcast_django.payloads import clean
from cellcast_django.sending import NotSentError, OptedOutError, send

logger = logging.getLogger("cellcast_django")

SENDING_LASTS = timedelta(minutes=2)
"""After this long somebody else may text the customer, whatever became of the first."""
DOUBT_LASTS = timedelta(days=1)  # colleagues are warned this long that a text may have been sent
MAX_LENGTH = 1_600  # characters of a text
MAX_OFFERED = 20  # texts to choose from

# The alphabet of SMS: 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1.
BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = "^{}\\[~]|€"  # characters that take up two places


class Notice(NamedTuple):
    """What became of a text, in words. If it is not known to be sent, it is still in the form."""

    level: int
    sentence: str
    leads_to: Message | None = None
    """Where to go on: at what has been sent, now or by an earlier click."""
    is_kept: bool = False
    """Whether the form there goes on with the text."""

    @classmethod
    def not_sent(cls, reason: str) -> "Notice":
        return cls(notices.ERROR, _("Not sent: %(reason)s") % {"reason": reason})


def doubt_about(contact: str) -> str:
    """Return the name of the claim: this contact may have been sent a text we have no record of."""
    return f"doubt {contact}"


def draft_key(viewer: Viewer, contact: str) -> str:
    """Return the name under which a tab keeps what this person has typed for a customer.

    A digest: it is in pages and addresses, which must name neither the person nor the customer.
    """
    value = f"{viewer.request.user.pk}\0{contact}"
    return salted_hmac("cellcast_django.draft", value, algorithm="sha256").hexdigest()[:24]


def typed(form: QueryDict, name: str) -> str:
    """Return what somebody has typed into a field."""
    return clean(form.get(name, "")).replace("\r\n", "\n").strip()


def texts_to_choose_from(directory: HostDirectory, contact: str) -> list[str]:
    """Return what the host project offers as answers; an error costs itself and what follows it.

    The log has one line and a transaction one savepoint, however many are left out.
    """
    texts: list[str] = []
    with host_code("answers"):
        offered = directory.own.answers(contact) if hasattr(directory.own, "answers") else None
        if isinstance(offered, str | Promise):  # whose letters would be texts
            raise TypeError
        mistake: Exception | None = None
        for each in islice(() if offered is None else offered, MAX_OFFERED):
            try:
                texts.append(_text_of(each))
            except Exception as error:  # one of a wrong shape costs itself and no other
                mistake = error
        if mistake is not None:
            raise mistake
    return [text for text in texts if text]


def _text_of(offered: Any) -> str:
    """Return a text as the form reads it. Raises for what is no text, or too long to be sent."""
    if not isinstance(offered or "", str | Promise):
        raise TypeError
    text = clean(str(offered or "")).replace("\r\n", "\n").strip()
    if len(text) > MAX_LENGTH:
        raise ValueError
    return text


def can_send_to(contact: str) -> bool:
    """Whether the site sends, and the contact can be sent to."""
    return bool(conf.send_with) and is_phone_number(contact, conf.default_region)


@shown
class TextForm:
    """A form for a text: what was typed, and what a script needs to count its SMS."""

    text: str
    draft: str
    """The name under which the browser's tab keeps what has been typed."""
    again: str = ""
    """The message with the same text about which this form asks."""
    note: str = ""
    """For colleagues: it goes with *Done*."""
    ticket: str = field(default_factory=new_ticket)
    """Valid for one message: a second click does not send it twice."""

    basic = BASIC
    extended = EXTENDED
    max_length = MAX_LENGTH
    max_note_length = MAX_NOTE_LENGTH

    def fragment(self, what: Literal["sent", "moved", "done"]) -> str:
        """Return a URL's fragment, which tells the script there what has become of the draft.

        A text that was ``sent`` is dropped, one that has ``moved`` is used; a note is ``done``.
        """
        return f"#cellcast-{what}-{self.draft}"


class Sending(ABC):
    """One post of a form that has a text for a customer."""

    def __init__(
        self, viewer: Viewer, contact: str, *, shown: int | None, sender: str = "", label: str
    ) -> None:
        """Take the form out of the request.

        ``shown`` is the highest key of the messages on its page, or 0; ``None`` if it names none.
        Without a ``sender``, any of your numbers sends. The person calls the customer ``label``.
        """
        self.viewer = viewer
        self.label = label
        self.contact = contact
        self.shown = shown
        self.sender = sender
        # Taken away: error trackers report it with each error that is logged, the host's too.
        self.form, viewer.request.POST = viewer.request.POST, QueryDict()
        self.text = typed(self.form, "text")
        self.may_be_sent = False
        """Whether the host's function has been called, and has not said that it did not send."""

    @abstractmethod
    def refusal(self) -> Notice | None:
        """Return why it is not to be sent, now that nobody else is sending to the customer."""

    @abstractmethod
    def has_sent(self, sent: Message) -> None:
        """Record who has sent it, and what is done by that."""

    @abstractmethod
    def log_loss(self, sentence: str) -> None:
        """Record what may have been sent although there is no message."""

    def send(self) -> Notice:
        """Claim the form and the customer, and send.

        The claims are rows that commit at once: no lock is held while the host's function runs.
        The form's is kept only for what may have been sent, so that the same form may be sent again
        whatever else came between.
        """
        if (mistake := self._mistake()) is not None:
            return mistake
        # For one customer: posted again for another number, it must tell nothing of the first.
        form = Claim.take(f"form {self.form['ticket']} {self.contact}", TICKET_LASTS)
        if form is None:
            return self._outcome_before()
        try:
            return self._send_alone()
        finally:
            if not self.may_be_sent:
                form.release()

    def _mistake(self) -> Notice | None:
        if not can_send_to(self.contact):
            return Notice.not_sent(_("this is not a phone number."))
        if not self.text:
            return Notice.not_sent(_("write something first."))
        if len(self.text) > MAX_LENGTH:
            words = _("the text has %(count)d characters, and the limit is %(limit)d.")
            return Notice.not_sent(words % {"count": len(self.text), "limit": MAX_LENGTH})
        if not TICKET.fullmatch(self.form.get("ticket", "")) or self.shown is None:
            return Notice.not_sent(_("the form was incomplete. Try again."))
        try:
            import_string(conf.send_with)
        except Exception as error:  # the host's module may raise anything
            logger.error("CELLCAST_SEND_WITH cannot be imported: %s.", type(error).__qualname__)
            return Notice.not_sent(_("the site cannot send. Tell whoever set it up."))
        return None

    def _outcome_before(self) -> Notice:
        """Return what is known of the form's first post: only what was recorded is called sent.

        By this person: whoever may not look at messages must not learn of others' texts.
        """
        sent_to = Message.objects.fresh().outbound().filter(contact=self.contact)
        by_person = sent_to.filter(sent_by=self.viewer.username, recorded_at__isnull=False)
        since = by_person.filter(pk__gt=self.shown).order_by("pk")
        sent = next((row for row in since if row.body == self.text), None)  # MariaDB ignores case
        if sent is not None:
            return Notice(notices.WARNING, _("Already sent, so it was not sent again."), sent)
        words = _(
            "Not sent: this form was sent before, with this text or another. If that is not in the "
            "conversation, look in Cellcast’s list of sent messages, or ask the customer."
        )
        return Notice(notices.ERROR, words)

    def _send_alone(self) -> Notice:
        claim = Claim.take(f"customer {self.contact}", SENDING_LASTS)
        if claim is None:
            words = _(
                "Not sent: somebody is sending this customer an answer at this moment. Read theirs "
                "first: yours is kept below."
            )
            return Notice(notices.WARNING, words)
        try:
            return self.refusal() or self._send_now()
        finally:
            claim.release()

    def _send_now(self) -> Notice:
        """Call the host's function; until it has said what became of it, colleagues are warned."""
        doubt = Claim.take(doubt_about(self.contact), DOUBT_LASTS)
        self.may_be_sent = True
        sent: Message | None = None
        why_not = ""
        try:
            sent = send(self.contact, self.text, sender=self.sender, username=self.viewer.username)
        except OptedOutError:
            why_not = _("this customer has opted out.")
        except NotSentError as error:
            words = _("%(reason)s. If this goes on, tell whoever set up Cellcast.")
            why_not = words % {"reason": clean(str(error.reason)).rstrip(" .")}
        except Exception as error:  # the host's code may raise anything
            return self._loss(error)
        if doubt is not None:  # else it is about an earlier text
            doubt.release()
        if sent is None:
            self.may_be_sent = False
            return Notice.not_sent(why_not)
        self.has_sent(sent)
        sentence = _("Sent to %(customer)s.") % {"customer": self.label}
        return Notice(notices.SUCCESS, sentence, sent)

    def _loss(self, error: Exception) -> Notice:
        """Say so to the person, and in the log: there is no message."""
        kind = type(error).__qualname__
        logger.error("CELLCAST_SEND_WITH failed: %s.", kind)
        size = f"{len(self.text)} characters"
        self.log_loss(f"A text of {size} may have been sent, and was not recorded: {kind}.")
        return Notice(notices.ERROR, _("This may have been sent."))  # what to do is by the form
