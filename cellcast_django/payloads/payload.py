"""What one element of a webhook reports: the dataclasses, and the limits of their fields."""

from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

MAX_ID_LENGTH = 128
MAX_NUMBER_LENGTH = 64
MAX_STATUS_LENGTH = 64
MAX_REASON_LENGTH = 1_000
MAX_MEDIA = 20
MAX_MEDIA_LENGTH = 2_000


class Endpoint(TextChoices):
    """Where an event came from: one of the three URLs in Cellcast's dashboard, or its API."""

    RECEIVE = "receive", _("Receive URL")
    STATUS = "status", _("Status URL")
    OPT_OUT = "opt_out", _("Opt-Out URL")
    API = "api", _("Cellcast’s API")

    @property
    def slug(self) -> str:
        """How commands and their output spell it: ``opt-out``."""
        return self.value.replace("_", "-")


WEBHOOK_ENDPOINTS = (Endpoint.RECEIVE, Endpoint.STATUS, Endpoint.OPT_OUT)
"""The URLs that Cellcast's dashboard has a field for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A customer's answer: ``sender`` is the customer, ``original_body`` the text they answered.

    ``media`` are the URLs of an MMS's pictures; its ``body`` is empty if it is a picture alone.
    """

    raw: str = field(repr=False)
    cellcast_id: str
    sender: str = field(repr=False)
    receiver: str = field(repr=False)
    status: str
    body: str = field(repr=False)
    original_body: str = field(repr=False)
    media: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredReply(Reply):
    """A reply as Cellcast's API lists it: it has no id, but a time.

    ``claimed`` are the primary keys of messages already matched with other replies in the list.
    """

    received_at: datetime
    claimed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """The status of a message you sent; ``reason`` is Cellcast's explanation, if it gives one."""

    raw: str = field(repr=False)
    cellcast_id: str
    sender: str = field(repr=False)
    receiver: str = field(repr=False)
    status: str
    reason: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredReport(StatusReport):
    """A status as Cellcast's API lists it: with the time of the change, if it is known."""

    happened_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """A customer who no longer wants messages. It has no id."""

    raw: str = field(repr=False)
    number: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """An element that could not be understood, with the reason for a person to read."""

    raw: str = field(repr=False)
    reason: str


Payload = Reply | StatusReport | OptOut | Invalid


class PayloadError(ValueError):
    """An element that cannot be understood; the text is the reason, for a person to read."""
