"""What a search term may mean, and how the right index finds its few rows among many."""

from functools import reduce
from operator import or_
from typing import Any

from django.db.models import QuerySet

from cellcast_django.models import contact_of

MAX_WORDS = 20
"""More words are ignored: each adds a condition, and databases limit those."""
QUOTES = " \"'“”"


def as_meant(term: str) -> str:
    """Return a term without what gets copied along: quotes, ``tel:``, capitals in an id."""
    return term.strip(QUOTES).lower().removeprefix("tel:")


MAX_KEYS = 1_000
"""With more matches, the conditions go into the statement instead of the keys."""


def narrow_to_any(queryset: QuerySet[Any], *parts: QuerySet[Any]) -> QuerySet[Any]:
    """Narrow to the rows in any of ``parts``, each of which an index finds quickly.

    The keys are looked up first. Given the conditions instead, a database may expect more matches
    than there are, and walk through the whole table in the order of the list to fill a page. With
    many matches a page fills quickly: then the conditions are used, of the parts that have rows.
    """
    keys: set[int] = set()
    found = []
    for part in parts:
        rows = part.using(queryset.db)
        if part_keys := rows.order_by().values_list("pk", flat=True)[: MAX_KEYS + 1]:
            keys.update(part_keys)
            found.append(rows)
    if len(keys) <= MAX_KEYS:
        return queryset.filter(pk__in=keys)
    return queryset & reduce(or_, found)


def spellings(number: str) -> set[str]:
    """Return how a number may be stored: normalised if it is valid, otherwise as written."""
    return {number, contact_of(number)}
