"""Cellcast's statuses, their order, and which of them are final."""

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Status(TextChoices):
    """The statuses we know, lowest first: a message has the highest that was ever reported.

    Proof of delivery beats everything, and a specific reason beats a general one. Six come from
    Cellcast's page on webhooks (developer.cellcast.com/getting-started/setup-webhook.html), the
    others from its report API and from the documentation of its sibling platform
    (guniteam.github.io/sms-api).
    """

    SCHEDULED = "scheduled", _("scheduled")
    PENDING = "pending", _("pending")
    QUEUED = "queued", _("queued")
    DISPATCHED = "dispatched", _("dispatched")
    SENT = "sent", _("sent")
    RECEIVED = "received", _("received")
    DEAD = "dead", _("dead")
    FAILED = "failed", _("failed")
    ABORTED = "aborted", _("aborted")
    CANCELED = "canceled", _("canceled")
    EXPIRED = "expired", _("expired")
    REJECTED = "rejected", _("rejected")
    BLOCKED = "blocked", _("blocked")
    DELIVERED = "delivered", _("delivered")

    @property
    def description(self) -> Promise:
        """What the status means, in Cellcast's words where it has any; translatable."""
        return _DESCRIPTIONS[self.value]


_DESCRIPTIONS: dict[str, Promise] = {
    "scheduled": _("Message will be sent later"),
    "pending": _("Message has been accepted"),
    "queued": _("Message is waiting to be sent"),
    "dispatched": _("Message is on its way to the carrier"),
    "sent": _("Message has been handed to the carrier"),
    "received": _("Message has been received"),
    "dead": _("Message has been deleted"),
    "failed": _("Message delivery status has failed"),
    "aborted": _("Sending of the message was aborted"),
    "canceled": _("Sending of the message was canceled"),
    "expired": _(
        "The carrier was unable to deliver the message in a specified amount of time, "
        "for instance when the phone was turned off"
    ),
    "rejected": _("The carrier rejected the message"),
    "blocked": _("The gateway stopped the message, often because the number has opted out"),
    "delivered": _("Message has been delivered by the carrier transport"),
}

PRECEDENCE = {status: 2 * rank for rank, status in enumerate(["", *Status.values])}
"""The rank of each status, for Python and for SQL; ``""`` means no status yet."""

UNKNOWN_PRECEDENCE = PRECEDENCE[Status.RECEIVED.value] + 1
"""The rank of every other word: above the statuses that are never final, below the final ones."""

FINAL = frozenset(status for status, rank in PRECEDENCE.items() if rank > UNKNOWN_PRECEDENCE)
UNDELIVERED = FINAL - {Status.DELIVERED.value}
"""The final statuses of a message that was not delivered."""


def supersedes(status: str, current: str) -> bool:
    """Whether a message moves from ``current`` to ``status`` when that is reported.

    Of two unknown statuses the later by code point wins: an arbitrary rule, so that the order of
    arrival does not decide.
    """
    return _rank(status) > _rank(current)


def _rank(status: str) -> tuple[int, str]:
    if status in PRECEDENCE:
        return PRECEDENCE[status], ""
    return UNKNOWN_PRECEDENCE, status


def is_final(status: str) -> bool:
    """Whether no further status is expected."""
    return status in FINAL
