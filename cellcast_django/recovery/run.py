"""What a recovery has to do, what it has found so far, and how it stores what was missing."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import Endpoint, Payload
from cellcast_django.receiving import receive


class Kind(StrEnum):
    """The three lists of the API."""

    REPLIES = "replies"
    STATUSES = "statuses"
    OPT_OUTS = "opt-outs"


@dataclass(slots=True)
class Findings:
    """The results of reading one list."""

    kind: Kind
    seen: int = 0
    """Items read from the list."""
    missing: int = 0
    """Items that were not in the database."""
    stored: int = 0
    """Missing items that are stored now; the others arrived by webhook in the meantime."""
    waiting: int = 0
    """Replies so recent that their webhook may still be on its way."""
    unreadable: int = 0
    """Items that could not be understood."""
    not_listed: int = 0
    """Active opt-outs here that Cellcast does not list."""
    ended: int = 0
    """Opt-outs that were ended here but that Cellcast lists."""
    error: str = ""
    """Why the list could not be read to its end."""

    @property
    def is_read(self) -> bool:
        """Whether anything of the list could be read."""
        return not self.error or self.seen + self.unreadable > 0

    def summary(self) -> dict[str, Any]:
        """Return what to keep of the run: no text of Cellcast's."""
        return asdict(self) | {"error": bool(self.error), "is_read": self.is_read}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The options of one recovery."""

    since: datetime
    """Anything older is not stored."""
    now: datetime
    dry_run: bool = False
    """Store nothing, only count what is missing."""
    progress: Callable[[Findings], None]
    """Called after each page read and each item stored."""


def store(payload: Payload) -> WebhookEvent:
    """Store what the API listed, and run its handlers, as if a webhook had brought it."""
    [event] = receive([payload], endpoint=Endpoint.API, content_type="application/json")
    return event
