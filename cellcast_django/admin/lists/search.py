"""Finding rows: by a number in any spelling, by an id, or by a customer's name."""

from collections.abc import Collection
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet
from django.utils.translation import gettext

from cellcast_django.admin.customers import MAX_NAMED, contacts_ending_with, searches_names
from cellcast_django.admin.display.texts import grouped
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact

QUOTES = " \"'“”"


def as_meant(term: str) -> str:
    """Return a term without what gets copied along: quotes, ``tel:``, capitals in an id."""
    return term.strip(QUOTES).lower().removeprefix("tel:")


MAX_KEYS = 1_000  # with more matches, the conditions go into the statement instead of the keys


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
        part_keys = list(rows.order_by().values_list("pk", flat=True)[: MAX_KEYS + 1])
        if part_keys:
            keys.update(part_keys)
            found.append(rows)
    if len(keys) <= MAX_KEYS:
        return queryset.filter(pk__in=keys)
    return queryset & reduce(or_, found)


def spellings(number: str) -> set[str]:
    """Return how a number may be stored: in E.164 if it is valid, otherwise as written."""
    return {number, to_contact(number)}


class Note(NamedTuple):
    """What a list says of its search."""

    name: str
    sentence: str


def words_of(term: str) -> list[str]:
    """Return the words that a person has typed."""
    return term.strip(QUOTES).split()


class Search:
    """Finds rows of one model exactly: an index serves each condition."""

    finds_customers: bool = True  # by number and name

    def __init__(self, viewer: Viewer, rows: QuerySet[Any], max_count: int) -> None:
        """Take all rows that may be found, and how many of the newest a list pages through."""
        self.viewer = viewer
        self.rows = rows
        self.max_count = max_count
        self.notes: list[Note] = []

    def find(self, within: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Narrow ``within``, what a filter has left, to what the term finds among all rows."""
        named = self.named(term) if self.finds_customers else []
        conditions = [*self.exact(term), *named]
        return narrow_to_any(within, *(self.rows.filter(each) for each in conditions))

    def exact(self, term: str) -> list[Q]:
        """Return the numbers and ids that ``term`` may be."""
        # As stored, perhaps with white space at an end; as people type it; as they copy it.
        terms = dict.fromkeys([term, term.strip(), as_meant(term)])
        meanings = [meaning for each in terms for meaning in self.meanings(each)]
        ending = contacts_ending_with(as_meant(term))
        return [*meanings, self.about(ending)] if ending else meanings

    def named(self, term: str) -> list[Q]:
        """Return the conditions for customers whose name ``term`` may be."""
        contacts, has_more = self.viewer.directory.search(" ".join(words_of(term)))
        if has_more:
            sentence = gettext("More than %(count)s customers are called that: type more.")
            self.notes.append(Note("more", sentence % {"count": grouped(MAX_NAMED)}))
        return [self.about(contacts)] if contacts else []

    def meanings(self, term: str) -> list[Q]:
        """Return a condition for each thing that ``term`` may mean."""
        return [Q(cellcast_id=term), self.about(spellings(term))]

    def about(self, contacts: Collection[str]) -> Q:
        return Q(contact__in=contacts)


def nothing_found() -> str:
    """Return what a search that found nothing says."""
    if conf.default_region == "AU":
        numbers = gettext(
            "Of a phone number, the last six digits are enough; ids must be complete."
        )
    else:
        numbers = gettext("Phone numbers and ids must be complete.")
    names = "" if searches_names() else gettext("Names are not searched here: use the number.")
    return " ".join(filter(None, [gettext("Nothing found."), numbers, names]))
