"""Cellcast's statuses, one row each."""

from collections.abc import Iterable
from typing import Any, Self, cast

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


def choice(word: str, *others: Any) -> str:
    """Return a row of ``TextChoices`` whose value type checkers take for text, not for a tuple."""
    return cast("str", (word, *others))


class Status(TextChoices):
    """The statuses we know, lowest first: a message has the highest that was ever reported.

    Each row: Cellcast's word, what it means and what to do, and the word that people read. Those
    after ``RECEIVED`` are final. Proof of delivery beats everything, and a specific reason beats a
    general one. Six come from Cellcast's page on webhooks
    (developer.cellcast.com/getting-started/setup-webhook.html), the others from its report API and
    from the documentation of its sibling platform (guniteam.github.io/sms-api).
    """

    # A new row needs a migration that computes messages anew which had its word as an unknown one.

    SCHEDULED = choice(
        "scheduled", _("Cellcast sends it at the time that was set. Nothing to do."), _("scheduled")
    )
    PENDING = choice("pending", _("Cellcast will send it soon. Nothing to do yet."), _("pending"))
    QUEUED = choice("queued", _("It waits at Cellcast to be sent. Nothing to do yet."), _("queued"))
    DISPATCHED = choice(
        "dispatched", _("It is on its way to the phone company. Wait a little."), _("dispatched")
    )
    SENT = choice(
        "sent",
        _("The phone company has it; whether it arrived is not known. If urgent, phone them."),
        _("sent"),
    )
    RECEIVED = choice(
        "received",
        _("Somebody on the way has it, perhaps not the customer. If urgent, phone them."),
        _("received"),
    )
    DEAD = choice(
        "dead",
        _("It was deleted before it was delivered. If it still matters, send it again."),
        _("deleted before sending"),
    )
    FAILED = choice(
        "failed",
        _("Could not be delivered. Check the number, or phone them."),
        _("delivery failed"),
    )
    ABORTED = choice(
        "aborted",
        _("Sending broke off, so it did not arrive. If it still matters, send it again."),
        _("sending aborted"),
    )
    CANCELED = choice(
        "canceled",
        _("It was called off before it was sent. If it still matters, send it again."),
        _("sending canceled"),
    )
    EXPIRED = choice(
        "expired",
        _("The phone was off or out of reach for too long. Phone them, or send it again later."),
        _("phone off or out of reach"),
    )
    REJECTED = choice(
        "rejected",
        _("The phone company refused it. Check the number and the words, or phone them."),
        _("refused by the carrier"),
    )
    BLOCKED = choice(
        "blocked",
        _("Cellcast did not send it, often because they opted out. Phone before you text again."),
        _("blocked by the gateway"),
    )
    DELIVERED = choice(
        "delivered", _("It has arrived on the customer’s phone. Nothing to do."), _("delivered")
    )

    final: bool
    description: Promise
    """What it means for a message that was sent, and what to do; translatable."""
    rank: int

    def __new__(cls, word: str, description: Any = "") -> Self:
        self = str.__new__(cls, word)
        self._value_ = word
        rows_before = cls.__members__
        self.final = "RECEIVED" in rows_before
        self.description = description
        self.rank = 2 * (len(rows_before) + 1)  # an odd one is for words that we do not know
        return self


PRECEDENCE = {"": 0} | {status.value: status.rank for status in Status}
"""The rank of each status; ``""`` means no status yet."""

UNKNOWN_PRECEDENCE = 1 + max(status.rank for status in Status if not status.final)
"""The rank of every other word: above the statuses that are never final, below the final ones."""

FINAL = frozenset(status.value for status in Status if status.final)
UNDELIVERED = FINAL - {Status.DELIVERED.value}
"""The final statuses of a message that was not delivered."""


def supersedes(status: str, current: str) -> bool:
    """Whether a message moves from ``current`` to ``status`` when that is reported."""
    return _rank(status) > _rank(current)


def highest(statuses: Iterable[str]) -> str:
    """Return the status of a message with this history; ``""`` if that is empty."""
    return max(statuses, key=_rank, default="")


def _rank(status: str) -> tuple[int, str]:
    if status in PRECEDENCE:
        return PRECEDENCE[status], ""
    # By code point: an arbitrary rule, so that the order of arrival does not decide.
    return UNKNOWN_PRECEDENCE, status


def description_of(status: str, *, is_reply: bool = False) -> str | Promise:
    """Return what a status means and what to do; ``""`` for one that we do not know.

    Cellcast gives a customer's reply a status too, often ``delivered``: it has reached you.
    """
    if status not in PRECEDENCE or not status:
        return ""
    return _("The customer’s reply has reached you.") if is_reply else Status(status).description
