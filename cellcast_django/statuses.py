"""Cellcast's statuses, their order, and which of them are final."""

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Status(TextChoices):
    """The documented statuses, lowest first: the highest that a message has had is its status.

    Proof of delivery beats everything, and a specific reason beats a general one.
    Source: developer.cellcast.com/getting-started/setup-webhook.html
    """

    RECEIVED = "received", _("received")
    DEAD = "dead", _("dead")
    FAILED = "failed", _("failed")
    EXPIRED = "expired", _("expired")
    REJECTED = "rejected", _("rejected")
    DELIVERED = "delivered", _("delivered")

    @property
    def description(self) -> Promise:
        """Cellcast's own sentence about the status, translatable."""
        return _DESCRIPTIONS[self.value]


_DESCRIPTIONS: dict[str, Promise] = {
    "received": _("Message has been received"),
    "dead": _("Message has been deleted"),
    "failed": _("Message delivery status has failed"),
    "expired": _(
        "The carrier was unable to deliver the message in a specified amount of time, "
        "for instance when the phone was turned off"
    ),
    "rejected": _("The carrier rejected the message"),
    "delivered": _("Message has been delivered by the carrier transport"),
}

UNKNOWN_PRECEDENCE = 2
PRECEDENCE = {
    "": 0,
    "received": 1,
    "dead": 3,
    "failed": 4,
    "expired": 5,
    "rejected": 6,
    "delivered": 7,
}
FINAL = frozenset(Status.values) - {Status.RECEIVED.value}


def precedence(status: str) -> int:
    """The place of a status in the order: an unknown one beats only ``received`` and ``""``."""
    return PRECEDENCE.get(status, UNKNOWN_PRECEDENCE)


def supersedes(status: str, current: str) -> bool:
    """Whether a message whose status is ``current`` moves to ``status`` when it hears of it.

    Of two unknown statuses the later one wins: we cannot order words that we do not know.
    """
    if precedence(status) == precedence(current) == UNKNOWN_PRECEDENCE:
        return status != current
    return precedence(status) > precedence(current)


def is_final(status: str) -> bool:
    """Whether no other status is expected to follow."""
    return status in FINAL
