"""What a search term may mean, and finding few rows among many by the right index."""

from functools import reduce
from operator import or_
from typing import Any

from django.db.models import QuerySet

from cellcast_django.models import contact_of

MAX_WORDS = 20
"""Words of a search that are looked for; each adds a condition, and databases limit those."""
QUOTES = " \"'“”"


def as_meant(term: str) -> str:
    """Return a term without what gets copied along: quotes, ``tel:``, capitals in an id."""
    return term.strip(QUOTES).lower().removeprefix("tel:")


MAX_KEYS = 1_000
"""Rows that are looked up by their keys; of more, the conditions go into the statement."""


def narrow_to_any(queryset: QuerySet[Any], *parts: QuerySet[Any]) -> QuerySet[Any]:
    """Narrow to the rows of all ``parts``, each of them few rows that an index leads to.

    Their keys are looked up first. Given the condition instead, a database may not expect so few
    matches, and walk through the whole table in the order of the list until it has a page full of
    them. If there are many matches after all, that page is full soon: then the conditions of the
    parts that have any rows are used.
    """
    keys: set[int] = set()
    found = []
    for part in parts:
        part_keys = _first_keys(part.using(queryset.db))
        if part_keys:
            keys.update(part_keys)
            found.append(part.using(queryset.db))
    if len(keys) <= MAX_KEYS:
        return queryset.filter(pk__in=keys)
    return queryset & reduce(or_, found)


def _first_keys(rows: QuerySet[Any]) -> list[int]:
    return list(rows.order_by().values_list("pk", flat=True)[: MAX_KEYS + 1])


def spellings(number: str) -> set[str]:
    """Return how a number may be stored: normalised if it is valid, otherwise as written."""
    return {number, contact_of(number)}
