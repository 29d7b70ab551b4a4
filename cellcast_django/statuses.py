"""Cellcast's statuses, their order, and which of them are final."""

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Status(TextChoices):
    """The statuses that we know, lowest first: the highest that a message has had is its status.

    Proof of delivery beats everything, and a specific reason beats a general one. Six stand on
    Cellcast's page about webhooks (developer.cellcast.com/getting-started/setup-webhook.html), the
    others in its report API and in the documentation of its sibling platform
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
        """What the status means, in Cellcast's own words where it has any; translatable."""
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
    "aborted": _("Sending the message was broken off"),
    "canceled": _("Sending the message was canceled"),
    "expired": _(
        "The carrier was unable to deliver the message in a specified amount of time, "
        "for instance when the phone was turned off"
    ),
    "rejected": _("The carrier rejected the message"),
    "blocked": _("The gateway stopped the message, often because the number has opted out"),
    "delivered": _("Message has been delivered by the carrier transport"),
}

PRECEDENCE = {status: 2 * place for place, status in enumerate(["", *Status.values])}
"""The place of each status in the order, for Python and for SQL; ``""`` is to have none yet."""

UNKNOWN_PRECEDENCE = PRECEDENCE[Status.RECEIVED.value] + 1
"""The place of every other word: above what is never final, and below what always is."""

FINAL = frozenset(word for word, place in PRECEDENCE.items() if place > UNKNOWN_PRECEDENCE)
UNDELIVERED = FINAL - {Status.DELIVERED.value}
"""The statuses of a message that has ended, and not with its delivery."""


def supersedes(status: str, current: str) -> bool:
    """Whether a message whose status is ``current`` moves to ``status`` when that is reported.

    Of two statuses that we do not know, the later by code point wins: a rule without a reason
    other than that the order of arrival must not decide.
    """
    return _rank(status) > _rank(current)


def _rank(status: str) -> tuple[int, str]:
    if status in PRECEDENCE:
        return PRECEDENCE[status], ""
    return UNKNOWN_PRECEDENCE, status


def is_final(status: str) -> bool:
    """Whether no other status is expected to follow."""
    return status in FINAL
