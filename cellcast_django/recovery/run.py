"""What a recovery is asked to do, and what it has found so far."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """The three lists of the API."""

    REPLIES = "replies"
    STATUSES = "statuses"
    OPT_OUTS = "opt-outs"


@dataclass(slots=True)
class Findings:
    """What became of the items of one list."""

    kind: Kind
    seen: int = 0
    """Items of the list that were looked at."""
    missing: int = 0
    """Items that were not in the database."""
    stored: int = 0
    """Those of them that are now; others were stored by somebody else in the meantime."""
    waiting: int = 0
    """Replies so young that their webhook may be under way."""
    unreadable: int = 0
    """Items that could not be understood."""
    not_listed: int = 0
    """Opt-outs that stand here, and that Cellcast does not list."""
    ended: int = 0
    """Opt-outs that somebody has ended here, and that Cellcast lists."""
    error: str = ""
    """Why the list could not be read to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What to do, and whom to tell how far it is."""

    since: datetime
    """What is older is not stored."""
    now: datetime
    dry_run: bool = False
    """Change nothing; count what is missing."""
    progress: Callable[[Findings], None]
    """Called after each page that was read and each item that was stored."""
