"""Reads an item of a list: its fields as text and times, the whole as the body of an event."""

import json
from datetime import UTC, datetime

from django.conf import settings
from django.utils import timezone

from cellcast_django.payloads import clean
from cellcast_django.recovery.client import Item


class ItemError(ValueError):
    """The item cannot be understood."""


def as_body(item: Item) -> str:
    """Return the item as JSON that every database can store."""
    return clean(json.dumps(item, ensure_ascii=False))


def read_text(item: Item, name: str, *, limit: int | None = None) -> str:
    """Return a string or an integer as text; ``""`` if it is missing. Raises ``ItemError``."""
    value = item.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ItemError
    text = clean(str(value))
    if limit is not None and len(text) > limit:
        raise ItemError
    return text


def read_time(item: Item, name: str) -> datetime:
    """Return a time as the models store it; without a zone it is UTC. Raises ``ItemError``."""
    try:
        time = datetime.fromisoformat(read_text(item, name))
        time = time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ItemError from None
    if settings.USE_TZ:
        return time
    return timezone.make_naive(time, timezone.get_default_timezone())
