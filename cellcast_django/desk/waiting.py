"""Who waits for an answer: the customers with a reply that nobody has dealt with.

The newest waiting replies are read, in one statement without a join; customers, their order, pages
and counts are made of them in Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from operator import gt, lt
from typing import Any, NamedTuple, Self

from django.contrib.admin.views.main import SEARCH_VAR
from django.http import HttpRequest
from django.utils.http import urlencode

from cellcast_django.admin.day_range import range_of
from cellcast_django.admin.display.texts import grouped
from cellcast_django.admin.lists.paging import CappedPaginator
from cellcast_django.admin.lists.search import Note
from cellcast_django.admin.messages import MessageSearch
from cellcast_django.admin.viewer import Viewer
from cellcast_django.days import midnight
from cellcast_django.health import MAX_WAITING, wishes_to_stop
from cellcast_django.models import Message
from cellcast_django.payloads import clean

LIMIT = MAX_WAITING + 1  # replies: with that many there are more than are shown


@dataclass(frozen=True, repr=False)
class Choice:
    """Which customers the list shows, and in which order, as its address says."""

    longest_first: bool = False
    days: tuple[date | None, date | None] = (None, None)
    own_number: str = ""
    may_want_to_stop: bool = False
    search: str = ""
    page: str = ""

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """Read the query string, where anything unknown means nothing."""
        query = request.GET
        return cls(
            longest_first=query.get("order") == "longest",
            days=range_of(query),
            own_number=clean(query.get("own", "")),
            may_want_to_stop="stop" in query,
            search=clean(query.get(SEARCH_VAR, "")).strip(),
            page=clean(query.get("p", "")),
        )

    def query(self, **changes: Any) -> str:
        """Return the query string of this choice with some changes; empty for the default."""
        first, last = (each.isoformat() if each else "" for each in self.days)
        values = {
            "order": "longest" if self.longest_first else "",
            "from": first,
            "to": last,
            "own": self.own_number,
            "stop": "1" if self.may_want_to_stop else "",
            SEARCH_VAR: self.search,
            "p": self.page,
        }
        chosen = urlencode({name: value for name, value in (values | changes).items() if value})
        return f"?{chosen}" if chosen else ""

    @property
    def is_narrowed(self) -> bool:
        return any((self.search, self.own_number, self.may_want_to_stop, *self.days))


class WaitingReply(NamedTuple):
    """A reply that nobody has dealt with."""

    created_at: datetime
    pk: int
    contact: str
    own_number: str


@dataclass(frozen=True, repr=False)
class WaitingCustomer:
    """A customer who waits; each reply without a number counts as another customer's."""

    replies: list[WaitingReply]
    """The newest first."""

    @property
    def newest(self) -> WaitingReply:
        return self.replies[0]

    @property
    def oldest(self) -> WaitingReply:
        return self.replies[-1]

    @property
    def key(self) -> str | int:
        return self.newest.contact or self.newest.pk

    def place(self, choice: Choice) -> tuple[datetime, int]:
        """Return what the list is ordered by."""
        reply = self.oldest if choice.longest_first else self.newest
        return reply.created_at, reply.pk


@dataclass(frozen=True)
class Waiting:
    """How many customers wait for an answer."""

    customers: int
    is_complete: bool
    """Whether all waiting replies were read, not only the newest."""
    newest: int
    """The highest key of a waiting reply."""
    new: int = 0
    """How many of the customers have written since some moment."""

    def __str__(self) -> str:
        return grouped(self.customers) if self.is_complete else f"{grouped(self.customers)}+"


class Neighbours(NamedTuple):
    """Who waits beside a customer, by the keys of their newest replies; ``None`` if nobody does."""

    following: int | None
    """Whom to go on with: the next in the list, or after the last the first."""
    closest: int | None
    """Whose row to return to: the next in the list, or after the last the one before it."""


class WaitingList:
    """The newest waiting replies that one person sees on one site."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    @property
    def _newest_first(self) -> Any:
        # handled_at is null in all of them, but the databases use its index only if told.
        unhandled = self.viewer.latest_rows(Message).unhandled()
        return unhandled.order_by("-handled_at", "-created_at", "-pk")

    @cached_property
    def _read(self) -> list[WaitingReply]:
        rows = self._newest_first.values_list(*WaitingReply._fields)
        return [WaitingReply(*row) for row in rows[:LIMIT]]

    @property
    def replies(self) -> list[WaitingReply]:
        return self._read[:MAX_WAITING]

    @cached_property
    def wishes(self) -> set[int]:
        """The keys of the replies that may ask for no more messages."""
        return {wish.pk for wish in wishes_to_stop(self.viewer.latest_rows(Message).unhandled())}

    def find(self, choice: Choice) -> tuple[list[WaitingCustomer], Sequence[Note]]:
        """Return the customers in the order of the list, and what is said of the search."""
        found = customers_of(self._replies_of(choice))
        notes: Sequence[Note] = ()
        if choice.may_want_to_stop:
            found = [each for each in found if self.wish_of(each)]
        if choice.search:
            search = MessageSearch(self.viewer, self._newest_first, CappedPaginator.MAX_COUNT)
            matches = search.find(self._newest_first, choice.search).values_list("pk", flat=True)
            keys, notes = set(matches[:LIMIT]), search.notes
            found = [each for each in found if any(reply.pk in keys for reply in each.replies)]
        found.sort(key=lambda each: each.place(choice), reverse=not choice.longest_first)
        return found, notes

    def _replies_of(self, choice: Choice) -> list[WaitingReply]:
        """Return the replies of the chosen days to the chosen own number."""
        first, last = choice.days
        start = midnight(first) if first else None
        end = midnight(last + timedelta(days=1)) if last else None
        return [
            each
            for each in self.replies
            if choice.own_number in ("", each.own_number)
            and (start is None or each.created_at >= start)
            and (end is None or each.created_at < end)
        ]

    def wish_of(self, customer: WaitingCustomer) -> WaitingReply | None:
        """Return a customer's first reply that may ask for no more messages."""
        return next((each for each in customer.replies[::-1] if each.pk in self.wishes), None)

    def count(self, since: int | None = None) -> Waiting:
        """Count the customers who wait, and those of them with a reply that came after a key."""
        new = [each for each in self.replies if since is not None and each.pk > since]
        return Waiting(
            customers=len(customers_of(self.replies)),
            is_complete=len(self._read) <= MAX_WAITING,
            newest=max((each.pk for each in self.replies), default=0),
            new=len(customers_of(new)),
        )

    def count_wishes(self) -> int:
        """Count the customers who may want to stop."""
        return sum(self.wish_of(each) is not None for each in customers_of(self.replies))

    def neighbours(
        self, choice: Choice, message: Message, marked: Sequence[WaitingReply] = ()
    ) -> Neighbours:
        """Return who waits beside a message's customer, in the order of the list.

        ``marked`` are replies just marked as done: they say where the customer stood until then.
        """
        found, _notes = self.find(choice)
        key = message.contact or message.pk
        same = [each for each in [*customers_of(marked), *found] if each.key == key]
        here = same[0].place(choice) if same else (message.created_at, message.pk)
        others = [each for each in found if each.key != key]
        is_after = gt if choice.longest_first else lt
        after = [each for each in others if is_after(each.place(choice), here)]
        return Neighbours(
            following=next((each.newest.pk for each in after or others), None),
            closest=next((each.newest.pk for each in after or others[-1:]), None),
        )


def customers_of(replies: Sequence[WaitingReply]) -> list[WaitingCustomer]:
    """Gather replies by customer; each without a number is of somebody else."""
    found: dict[str | int, list[WaitingReply]] = {}
    for reply in replies:
        found.setdefault(reply.contact or reply.pk, []).append(reply)
    return [WaitingCustomer(each) for each in found.values()]
