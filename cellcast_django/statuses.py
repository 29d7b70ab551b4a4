"""Cellcast's statuses, one row each, and the reasons that come with some of them."""

import re
from collections.abc import Iterable
from typing import Any, Self

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Status(TextChoices):
    """The statuses we know, lowest first: a message has the highest that was ever reported.

    Each row: Cellcast's word, what it means and what to do, and the word that people read. Those
    after ``RECEIVED`` are final. Proof of delivery beats everything, and a specific reason beats a
    general one. Six come from Cellcast's page on webhooks
    (developer.cellcast.com/getting-started/setup-webhook.html), the others from its report API and
    from the documentation of its sibling platform (guniteam.github.io/sms-api).
    """

    # After the first release, a new row needs a migration: "A word that becomes known" in the docs.

    SCHEDULED = (
        "scheduled",
        _("Cellcast will send it at the time that was set. Nothing to do."),
        _("scheduled"),
    )
    PENDING = (
        "pending",
        _("Cellcast has accepted it and will send it soon. Nothing to do yet."),
        _("pending"),
    )
    QUEUED = (
        "queued",
        _("It is waiting at Cellcast to be sent. Nothing to do yet."),
        _("queued"),
    )
    DISPATCHED = (
        "dispatched",
        _("It is on its way to the phone company. Nothing to do yet."),
        _("dispatched"),
    )
    SENT = (
        "sent",
        _(
            "The phone company has it, and has not said yet whether it arrived. If it is urgent, "
            "phone them."
        ),
        _("sent"),
    )
    RECEIVED = (
        "received",
        _(
            "Somebody on the way has it; Cellcast does not say whether the customer does. If it is "
            "urgent, phone them."
        ),
        _("received"),
    )
    DEAD = (
        "dead",
        _("It was deleted before it was delivered. If it still matters, send it again."),
        _("deleted before sending"),
    )
    FAILED = (
        "failed",
        _("It could not be delivered. Check the number, or phone them."),
        _("delivery failed"),
    )
    ABORTED = (
        "aborted",
        _("Sending broke off, so it did not arrive. If it still matters, send it again."),
        _("sending aborted"),
    )
    CANCELED = (
        "canceled",
        _("It was called off before it was sent. If it still matters, send it again."),
        _("sending canceled"),
    )
    EXPIRED = (
        "expired",
        _("The phone was off or out of reach for too long. Phone them, or send it again later."),
        _("phone off or out of reach"),
    )
    REJECTED = (
        "rejected",
        _("The phone company refused it. Check the number and the words, or phone them."),
        _("refused by the carrier"),
    )
    BLOCKED = (
        "blocked",
        _(
            "Cellcast did not send it, often because this customer has opted out. Phone them "
            "before you text them again."
        ),
        _("blocked by the gateway"),
    )
    DELIVERED = (
        "delivered",
        _("It has arrived on the customer’s phone. Nothing to do."),
        _("delivered"),
    )

    final: bool
    description: Promise
    """What it means for a message that was sent, and what to do; translatable."""
    rank: int

    def __new__(cls, word: str, description: Any = "") -> Self:
        self = str.__new__(cls, word)
        self._value_ = word
        self.final = "RECEIVED" in cls.__members__
        self.description = description
        self.rank = 2 * (len(cls.__members__) + 1)
        return self


PRECEDENCE = {"": 0} | {status.value: status.rank for status in Status}
"""The rank of each status, for Python and for SQL; ``""`` means no status yet."""

UNKNOWN_PRECEDENCE = 1 + max(status.rank for status in Status if not status.final)
"""The rank of every other word: above the statuses that are never final, below the final ones."""

FINAL = frozenset(status.value for status in Status if status.final)
UNDELIVERED = FINAL - {Status.DELIVERED.value}
"""The final statuses of a message that was not delivered."""


def supersedes(status: str, current: str) -> bool:
    """Whether a message moves from ``current`` to ``status`` when that is reported.

    Of two unknown statuses the later by code point wins: an arbitrary rule, so that the order of
    arrival does not decide.
    """
    return _rank(status) > _rank(current)


def highest(statuses: Iterable[str]) -> str:
    """Return the status of a message with this history; ``""`` if that is empty."""
    return max(statuses, key=_rank, default="")


def _rank(status: str) -> tuple[int, str]:
    if status in PRECEDENCE:
        return PRECEDENCE[status], ""
    return UNKNOWN_PRECEDENCE, status


# For people


def description_of(status: str, *, is_reply: bool = False) -> str | Promise:
    """Return what a status means and what to do; ``""`` for one that we do not know.

    Cellcast gives a customer's reply a status too, often ``delivered``; it means no more than that
    the reply has reached you.
    """
    if status not in PRECEDENCE or not status:
        return ""
    return _("The customer’s reply has reached you.") if is_reply else Status(status).description


_WRONG = ("bad", "invalid", "unknown", "wrong")
_NUMBER = ("address", "destination", "msisdn", "number", "receiver", "recipient")

REASONS = (
    (
        "blacklist, blacklisted, black list, do not contact, unsubscribed, opt out, optout, "
        "opted out",
        _("This customer has opted out. Do not text them unless they ask for it."),
    ),
    (
        "absent, detached, no coverage, no paging, not reachable, switched off, unreachable",
        _("Their phone was off or had no coverage. Send it again later, or phone them."),
    ),
    (
        "content blocked, content filter, content rejected, blocked url, filtered, phishing, "
        "spam, url blocked",
        _("The words were taken for spam. Change them, above all links, or phone them."),
    ),
    (
        "fixed line, land line, landline",
        _("The number is a landline, which cannot receive texts. Phone them."),
    ),
    (
        "inactive subscriber, no such number, not in service, unallocated, unassigned, "
        "unknown subscriber, "
        + ", ".join(f"{which} {what}" for which in _WRONG for what in _NUMBER),
        _("The number is wrong or no longer in use. Ask the customer for their number."),
    ),
    (
        "barred, barring, incompatible, not provisioned",
        _("Their phone or plan does not accept this text. Phone them."),
    ),
    (
        "inbox full, inbox is full, memory capacity, memory full, storage full",
        _("Their phone has no room for messages. Phone them, or send it again later."),
    ),
    (
        "balance is too low, balance too low, low balance, not enough credit, not enough credits, "
        "no credit, no credits, out of credit, out of credits, insufficient balance, "
        "insufficient credit, insufficient credits, insufficient funds",
        _("Your Cellcast account has run out of credit. Top it up, then send it again."),
    ),
    (
        "invalid sender, originator, sender blocked, sender id, sender is not, sender name, "
        "sender not, senderid, source address, unknown sender",
        _("The name or number you sent from is not allowed. Tell whoever set up Cellcast."),
    ),
    (
        "expired, time out, timed out, timeout, validity period",
        _("It could not be delivered in time. Phone them, or send it again later."),
    ),
    (
        "congested, congestion, network error, network failure, system error, system failure, "
        "temporarily, temporary, throttled, throttling",
        _("The phone network had a problem. Send it again later."),
    ),
)
"""Phrases, any of which is enough, with what carriers mean by them, for whoever reads the status.

Whole words in lower case, separated by commas.
"""


def explain_reason(reason: str) -> str | Promise:
    """Return in plain words what a carrier's reason means and what to do.

    ``""`` if that is unknown, or unclear: people act on it, so a wrong sentence is worse than none.
    """
    words = " ".join(re.findall(r"[^\W_]+", reason.lower()))
    found = [
        meaning
        for phrases, meaning in REASONS
        if any(f" {phrase} " in f" {words} " for phrase in phrases.split(", "))
    ]
    return found[0] if len(found) == 1 else ""
