"""What a report, a reply or a recorded sending does to a message: values in, values out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from cellcast_django.conf import conf
from cellcast_django.contacts import spelt
from cellcast_django.statuses import choice, supersedes

Values = Mapping[str, Any]
"""Columns of a row, by name."""


class Direction(TextChoices):
    """Which way a message went."""

    INBOUND = choice("inbound", _("inbound"))
    OUTBOUND = choice("outbound", _("outbound"))


def message_key(direction: Direction, *identity: str) -> str:
    """Return a digest of what identifies a message: every database compares it exactly."""
    return sha256("\0".join([direction.value, *identity]).encode()).hexdigest()[:32]


_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


def submission_time(cellcast_id: str) -> datetime | None:
    """Return the creation time inside a MongoDB ObjectId; ``None`` for other ids.

    Its first four bytes are Unix seconds: mongodb.com/docs/manual/reference/bson-types/#objectid
    """
    if not _OBJECT_ID.fullmatch(cellcast_id):
        return None
    return datetime.fromtimestamp(int(cellcast_id[:8], 16), tz=UTC)


def values_of(
    direction: Direction,
    *,
    cellcast_id: str,
    sender: str,
    receiver: str,
    body: str = "",
    media: Sequence[str] = (),
    **others: Any,
) -> dict[str, Any]:
    """Return a message's columns: these parts, which are clean, and what follows from them.

    An outbound message is identified by its id; an inbound one by id, sender, receiver, text and
    media, since Cellcast may give a reply the id of the message it answers.
    """
    outbound = direction == Direction.OUTBOUND
    identity = [cellcast_id] if outbound else [cellcast_id, sender, receiver, body, *media]
    own_number, contact = (sender, receiver) if outbound else (receiver, sender)
    region = conf.default_region
    return {
        "key": message_key(direction, *identity),
        "direction": direction.value,
        "cellcast_id": cellcast_id,
        "sender": sender,
        "receiver": receiver,
        "own_number": spelt(own_number, region),
        "contact": spelt(contact, region),
        "body": body,
        "media": list(media),
        "submitted_at": submission_time(cellcast_id) if outbound else None,
        **others,
    }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Said:
    """What a report, a reply or a recorded sending says of a message."""

    values: Values
    """Columns of the message; an empty one says nothing."""
    at: datetime
    """When it happened."""
    status: str = ""
    details: Values = field(default_factory=dict)
    """Columns of the history row, such as the reason."""
    is_recorded: bool = False
    """``record_sent`` says so: what the sending side knows beats what a report has claimed."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Known:
    """A message as it is known."""

    values: Values
    status: str = ""
    """The highest in ``history``."""
    status_changed_at: datetime | None = None
    history: frozenset[str] = frozenset()
    recorded_at: datetime | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the message that follow from this."""
        return {
            **self.values,
            "status": self.status,
            "status_changed_at": self.status_changed_at,
            "recorded_at": self.recorded_at,
        }


def fold(known: Known | None, said: Said) -> tuple[Known, Values | None]:
    """Return the message after this was said, and the columns of its history's new row, if any."""
    if said.is_recorded:
        return _record(known, said), None
    known = Known(values=said.values) if known is None else _fill_in(known, said)
    if said.status in known.history:
        return known, None
    applied = supersedes(said.status, known.status)
    change = {
        **said.details,
        "status": said.status,
        "previous_status": known.status,
        "applied": applied,
        "recorded_at": said.at,
    }
    moved: Any = {"status": said.status, "status_changed_at": said.at} if applied else {}
    return replace(known, history=known.history | {said.status}, **moved), change


def _fill_in(known: Known, said: Said) -> Known:
    """Fill in what is empty: what was said first stands."""
    values = known.values
    # Nobody gets a text that was sent to somebody else, and a redacted message, which has no
    # contact, does not get its own back.
    is_theirs = values["contact"] != "" and values["contact"] == said.values.get("contact")
    # The text of a recorded message is what ``record_sent`` said, also if that was nothing.
    keeps_text = known.recorded_at is not None or not is_theirs
    new = {
        name: value
        for name, value in said.values.items()
        if value and not values.get(name) and not (keeps_text and name == "body")
    }
    return replace(known, values={**values, **new}) if new else known


def _record(known: Known | None, said: Said) -> Known:
    """Overwrite with what is said, unless that is empty; the status is for reports alone."""
    if known is None:
        return Known(values=said.values, recorded_at=said.at)
    new = {name: value for name, value in said.values.items() if value}
    recorded_at = known.recorded_at or said.at
    return replace(known, values={**known.values, **new}, recorded_at=recorded_at)
