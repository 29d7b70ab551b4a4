"""Your own numbers and names: which there are to choose from."""

from collections.abc import Collection
from typing import Any

from django.db.models import QuerySet

from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact

MAX_VALUES = 30  # of a column, in a filter
OTHER = "-"
"""Stands for all numbers and names that are not known to be yours, and for none."""


def senders(messages: Any) -> list[str]:
    """Return your numbers and the names that you send from, which nobody can write to.

    Empty unless there are several. Last, ``OTHER`` if there are messages of any other, so that
    those of all add up.
    """
    found = configured_own_numbers() or recorded_own_numbers(messages)
    if len(found) < 2:
        return []
    others = set(values_in_use(messages, "own_number")) - set(found)
    return [*found, OTHER] if others or messages.filter(own_number="").exists() else found


def narrow_to_sender(messages: Any, sender: str, known: Collection[str]) -> Any:
    """Narrow to the messages of one of the ``known`` ones, from ``senders``; all for ``""``."""
    if not sender:
        return messages
    if sender == OTHER:
        return messages.exclude(own_number__in=known)
    return messages.filter(own_number=sender)


def configured_own_numbers() -> list[str]:
    """Return ``CELLCAST_OWN_NUMBERS`` as the column ``own_number`` holds them, each once."""
    return list(dict.fromkeys(filter(None, map(to_contact, conf.own_numbers))))


def recorded_own_numbers(messages: Any) -> list[str]:
    """Return what you have recorded messages as sent from."""
    return values_in_use(messages.filter(recorded_at__isnull=False), "own_number")


def values_in_use(rows: QuerySet[Any], column: str) -> list[str]:
    """Return the first texts in a column, in their order.

    Hops through its index from one to the next: ``DISTINCT`` would read the whole table.
    """
    found = [""]
    texts = rows.order_by(column).values_list(column, flat=True)
    while len(found) <= MAX_VALUES:
        text = texts.filter(**{f"{column}__gt": found[-1]}).first()
        if text is None:
            break
        found.append(text)
    return found[1:]
