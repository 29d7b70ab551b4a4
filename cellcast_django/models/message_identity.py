"""What identifies a message, and the fields derived from it: key, contact, submission time."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cellcast_django.conf import conf
from cellcast_django.contacts import normalise
from cellcast_django.payloads import clean


class Direction(models.TextChoices):
    """Which way a message went."""

    INBOUND = "inbound", _("inbound")
    OUTBOUND = "outbound", _("outbound")


def message_values(
    direction: Direction,
    *,
    cellcast_id: str,
    sender: str,
    receiver: str,
    body: str = "",
    original_body: str = "",
    media: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the fields of a message: these parts, and the fields derived from them.

    An outbound message is identified by its id; an inbound one by id, sender, receiver, text and
    media, since Cellcast may give a reply the id of the message it answers.
    """
    outbound = direction == Direction.OUTBOUND
    identity = [cellcast_id] if outbound else [cellcast_id, sender, receiver, body, *media]
    return {
        "key": message_key(direction, *identity),
        "direction": direction.value,
        "cellcast_id": cellcast_id,
        "sender": sender,
        "receiver": receiver,
        "contact": contact_of(receiver if outbound else sender),
        "body": body,
        "original_body": original_body,
        "media": list(media),
        "submitted_at": submission_time(cellcast_id) if outbound else None,
    }


def contact_of(number: str) -> str:
    """Return the number as the ``contact`` columns hold it: in E.164 if it is a phone number.

    An object of a phone number library will do: its text is what counts.
    """
    return normalise(clean(str(number)), conf.default_region)


def message_key(direction: Direction, *identity: str) -> str:
    """Return a digest of what identifies a message: every database compares it exactly."""
    return sha256("\0".join([direction.value, *identity]).encode()).hexdigest()[:32]


_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


def submission_time(cellcast_id: str) -> datetime | None:
    """Return the creation time inside a MongoDB ObjectId, to the second; ``None`` for other ids.

    Its first four bytes are Unix seconds. With ``USE_TZ = False`` the result is naive, in the
    default time zone. Source: mongodb.com/docs/manual/reference/bson-types/#objectid
    """
    if not _OBJECT_ID.fullmatch(cellcast_id):
        return None
    time = datetime.fromtimestamp(int(cellcast_id[:8], 16), tz=UTC)
    if settings.USE_TZ:
        return time
    return timezone.make_naive(time, timezone.get_default_timezone())
