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
class Update:
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
class Snapshot:
    """What is known of a message."""

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


def fold(snapshot: Snapshot | None, update: Update) -> tuple[Snapshot, Values | None]:
    """Return the message after this update, and the columns of its history's new row, if any."""
    if update.is_recorded:
        return _record(snapshot, update), None
    snapshot = Snapshot(values=update.values) if snapshot is None else _fill_in(snapshot, update)
    if update.status in snapshot.history:
        return snapshot, None
    applied = supersedes(update.status, snapshot.status)
    change = {
        **update.details,
        "status": update.status,
        "previous_status": snapshot.status,
        "applied": applied,
        "recorded_at": update.at,
    }
    moved: Any = {"status": update.status, "status_changed_at": update.at} if applied else {}
    return replace(snapshot, history=snapshot.history | {update.status}, **moved), change


def _fill_in(snapshot: Snapshot, update: Update) -> Snapshot:
    """Fill in what is empty: the first update that has a value stands."""
    values = snapshot.values
    # Nobody gets a text that was sent to somebody else, and a redacted message, which has no
    # contact, does not get its own back.
    is_theirs = values["contact"] != "" and values["contact"] == update.values.get("contact")
    # The text of a recorded message is what ``record_sent`` said, also if that was nothing.
    keeps_text = snapshot.recorded_at is not None or not is_theirs
    new = {
        name: value
        for name, value in update.values.items()
        if value and not values.get(name) and not (keeps_text and name == "body")
    }
    return replace(snapshot, values={**values, **new}) if new else snapshot


def _record(snapshot: Snapshot | None, update: Update) -> Snapshot:
    """Overwrite with the update's values that are not empty; the status is for reports alone."""
    if snapshot is None:
        return Snapshot(values=update.values, recorded_at=update.at)
    new = {name: value for name, value in update.values.items() if value}
    recorded_at = snapshot.recorded_at or update.at
    return replace(snapshot, values={**snapshot.values, **new}, recorded_at=recorded_at)
