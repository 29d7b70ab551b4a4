"""To answer: a row for each customer with a reply that nobody has dealt with, and *Done*.

A row is the customer's newest waiting reply. Pages continue after a row, not after a number of
rows, so nobody is skipped while colleagues work on the same list.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from operator import ge, le
from typing import Any, NamedTuple, Self

from django.contrib import messages
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.contacts import Customer, customers
from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import (
    beginning,
    counted,
    duration,
    grouped,
    media_links,
    own_number_html,
)
from cellcast_django.admin.lists.filters import own_numbers, range_of
from cellcast_django.admin.lists.paging import CappedPaginator, is_key, older_than
from cellcast_django.admin.lists.search import Note, nothing_found
from cellcast_django.admin.messages import MessageSearch
from cellcast_django.admin.opt_outs import may_opt_out, opt_out_url
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.database.transactions import again_if_refused
from cellcast_django.days import between
from cellcast_django.desk.page import DeskPage
from cellcast_django.health import age, wishes_to_stop
from cellcast_django.models import Direction, Message, MessageQuerySet, database_alias
from cellcast_django.payloads import clean

STOP_WISH_LATE = timedelta(days=3)
"""From then on a wish to stop is red: Australia's law gives five business days."""

BACK = "back"
TO_ANSWER = "to_answer"
"""Of a form's address: that it leads back to this page."""

PER_PAGE = 50  # customers
PLACE = ("created_at", "pk")
"""The columns that decide on a place in the list, in their order."""
MAX_TEXT_LENGTH = 200
MAX_PICTURES = 3  # links to pictures in a row

MAX_READ = 5_000
"""Waiting replies that are read to list and count their customers.

They pile up where nobody handles any. A page beyond them is read from its first row on.
"""

UNDO = "cellcast_django.undo"
"""The session's key for what the last click has handled, until a page has offered to undo it."""


@dataclass(frozen=True, repr=False)
class Choice:
    """Which customers the list shows, and in which order, as its address says."""

    longest_first: bool = False
    days: tuple[date | None, date | None] = (None, None)
    own_number: str = ""
    search: str = ""
    after: str = ""
    """The key of the row after which the page begins."""

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """Read the query string, where anything unknown means nothing."""
        query = request.GET
        after = query.get("after", "")
        return cls(
            longest_first=query.get("order") == "longest",
            days=range_of(query),
            own_number=clean(query.get("own", "")),
            search=clean(query.get(SEARCH_VAR, "")).strip(),
            after=after if is_key(after) else "",
        )

    def query(self, **changes: Any) -> str:
        """Return the query string of this choice with some changes; empty for the default."""
        first, last = (each.isoformat() if each else "" for each in self.days)
        values = {
            "order": "longest" if self.longest_first else "",
            "from": first,
            "to": last,
            "own": self.own_number,
            SEARCH_VAR: self.search,
            "after": self.after,
        }
        chosen = urlencode({name: value for name, value in (values | changes).items() if value})
        return f"?{chosen}" if chosen else ""

    def narrow(self, replies: Any) -> Any:
        if self.own_number:
            replies = replies.filter(own_number=self.own_number)
        return between(replies, "created_at", *self.days)


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


@shown
class CustomerRow:
    """A customer who waits."""

    place: int
    """The key that the row has in its list."""
    reply: Any
    oldest: Message
    known: Customer
    url: str
    opt_out_url: str = ""
    """The form that opts the customer out, for those who may."""
    next_place: int | None = None
    stop_wish_at: datetime | None = None
    """When the oldest of their waiting replies that may ask for no more messages came."""

    @property
    def stop_wish(self) -> SafeString | str:
        return stop_wish_badge(self.stop_wish_at) if self.stop_wish_at else ""

    @property
    def customer(self) -> SafeString | str:
        return self.known.html or gettext("(no number)")

    @property
    def text(self) -> str:
        return beginning(self.reply.beginning, MAX_TEXT_LENGTH)

    @property
    def pictures(self) -> SafeString | str:
        return media_links(self.reply.media, MAX_PICTURES)

    @property
    def has_several(self) -> bool:
        return bool(self.reply != self.oldest)

    @property
    def own_number(self) -> SafeString | str:
        return own_number_html(self.reply)


class Place(NamedTuple):
    """Where a customer stands in the list: at the reply that decides on it."""

    created_at: datetime
    pk: int
    contact: str


@dataclass(frozen=True)
class Places:
    """The customers who wait, in the order of the list."""

    found: Sequence[Place]
    start: int
    """How many of them stand before the page."""
    is_complete: bool
    """Whether nobody follows who has not been read."""
    is_from_first: bool = True
    """Whether nobody stands before those who have been read."""
    notes: Sequence[Note] = ()
    """What is said of the search."""

    @property
    def following(self) -> Sequence[Place]:
        return self.found[self.start :]


@shown
class WaitingPage:
    """A page of customers who wait, what narrows it, and where it goes on."""

    rows: Sequence[CustomerRow]
    choice: Choice
    url: str
    places: Places
    own_numbers: Sequence[str]
    """The numbers to choose from; empty where customers write to a single one."""
    may_handle: bool
    per_page: int

    @property
    def offers_opt_out(self) -> bool:
        return any(row.opt_out_url for row in self.rows)

    @property
    def has_more(self) -> bool:
        return len(self.places.following) > self.per_page or not self.places.is_complete

    @property
    def position(self) -> str:
        """Which of the customers these are; empty if all are here, or if nobody knows."""
        places = self.places
        if not (self.rows and places.is_from_first and (places.start or self.has_more)):
            return ""
        first, last = places.start + 1, places.start + len(self.rows)
        total = grouped(len(places.found)) + ("" if places.is_complete else "+")
        return gettext("%(first)s to %(last)s of %(total)s") % {
            "first": grouped(first),
            "last": grouped(last),
            "total": total,
        }

    @property
    def next_url(self) -> str:
        return self.url + self.choice.query(after=self.rows[-1].place) if self.has_more else ""

    @property
    def previous_url(self) -> str:
        start = self.places.start - self.per_page
        if start < 0 or not self.places.is_from_first:
            return self.first_url
        return self._url_from(start)

    @property
    def numbered(self) -> list[tuple[int | str, str]]:
        """The pages by their numbers: this one, and where some are left out, without an address."""
        if not self.position:
            return []
        pages = Paginator(self.places.found, self.per_page)
        here = min(round(self.places.start / self.per_page) + 1, pages.num_pages)
        return [
            (page, self._url_from((page - 1) * self.per_page))
            if isinstance(page, int) and page != here
            else (page, "")
            for page in pages.get_elided_page_range(here)
        ]

    def _url_from(self, start: int) -> str:
        """Return the page before which so many of the customers found stand."""
        return self.url + self.choice.query(after=self.places.found[start - 1].pk if start else "")

    @property
    def first_url(self) -> str:
        return self.url + self.choice.query(after="") if self.choice.after else ""

    @property
    def other_order_url(self) -> str:
        order = "" if self.choice.longest_first else "longest"
        return self.url + self.choice.query(order=order, after="")

    @property
    def is_narrowed(self) -> bool:
        return bool(self.choice.search or self.choice.own_number or any(self.choice.days))

    @property
    def nothing_found(self) -> str:
        return nothing_found() if self.choice.search else ""


def stop_wish_badge(since: datetime) -> SafeString:
    """Return since when a customer may want to stop: red while there is still time to act."""
    waited = age(since)
    words = gettext("may want to stop, %(age)s") % {"age": duration(waited)}
    return badge(Tone.BAD if waited >= STOP_WISH_LATE else Tone.WARNING, words)


class Replies:
    """The replies that one person sees on one site: who waits for an answer, and what is done."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    @property
    def shown(self) -> Any:
        return self.viewer.rows(Message)

    @property
    def on_primary(self) -> QuerySet[Any]:
        """The same rows: a replica may not have the last click's yet."""
        return self.viewer.rows(Message).using(database_alias())

    # The list

    def page(self, choice: Choice, count: int) -> WaitingPage:
        """Return the first customers of the list, or those after a row of it."""
        places = self._places(choice, count)
        return WaitingPage(
            rows=self._rows(choice, places.following[:count]),
            choice=choice,
            url=ToAnswer.url(self.viewer),
            places=places,
            own_numbers=own_numbers(self.shown),
            may_handle=self.viewer.may("handle_message"),
            per_page=count,
        )

    def _places(self, choice: Choice, count: int = 1) -> Places:
        """Read who waits, in the order of the list, each at the reply that decides on the place.

        In statements without a join, which no database runs in a quadratic way, whatever it
        believes about the tables. Beyond ``MAX_READ``, at least ``count`` customers are found.
        """
        waiting: Any = choice.narrow(self.shown).unhandled()
        notes: Sequence[Note] = ()
        if choice.search:
            search = MessageSearch(waiting, CappedPaginator.MAX_COUNT)
            waiting, notes = search.find(waiting, choice.search), search.notes
        rows = self._read(waiting, choice)
        found, is_complete = _customers(rows), len(rows) <= MAX_READ
        after = self.shown.filter(pk=choice.after).first() if choice.after else None
        is_before = le if choice.longest_first else ge
        start = sum(is_before(each[:2], (after.created_at, after.pk)) for each in found if after)
        if after is None or is_complete or start < len(found):
            return Places(found, start, is_complete, notes=notes)
        place = Place(after.created_at, after.pk, after.contact)
        found, is_complete = [], False
        while len(found) <= count and not is_complete:
            rows = self._read(waiting, choice, place)
            spans = _spans(waiting, rows)
            found += [each for each in _customers(rows) if _decides(each, spans, choice)]
            is_complete, place = len(rows) <= MAX_READ, rows[-1] if rows else place
        return Places(found, 0, is_complete, is_from_first=False, notes=notes)

    def _read(self, waiting: Any, choice: Choice, after: Place | None = None) -> list[Place]:
        # handled_at is null in all of them, but the databases use its index only if told.
        sign, following = ("", newer_than) if choice.longest_first else ("-", older_than)
        rows = waiting.order_by(*(f"{sign}{name}" for name in ("handled_at", *PLACE)))
        if after is not None:
            rows = following(rows, "created_at", after.created_at, after.pk)
        return [Place(*row) for row in rows.values_list(*PLACE, "contact")[: MAX_READ + 1]]

    def _rows(self, choice: Choice, places: Sequence[Place]) -> list[CustomerRow]:
        messages = choice.narrow(self.shown)
        spans = _spans(messages, places)
        ends = {place.pk: spans.get(place.contact, (place.pk, place.pk)) for place in places}
        shown = self.shown.defer("body", "original_body")
        replies = shown.in_bulk({pk for both in ends.values() for pk in both})
        found = [key for key, both in ends.items() if replies.keys() >= set(both)]
        known = customers(place.contact for place in places)
        of_page = Q(contact__in=list(known)) | Q(pk__in=list(ends))
        wishes = wishes_to_stop(not_handled(messages.filter(of_page)))
        wished_at = {wish.contact or wish.pk: wish.created_at for wish in wishes}  # the oldest last
        offers_opt_out = may_opt_out(self.viewer)
        # What somebody has searched for stays in the addresses of this page alone.
        query = choice.query(**{SEARCH_VAR: ""})
        rows = []
        for key, next_place in zip(found, _next(found), strict=True):
            oldest, newest = (replies[pk] for pk in ends[key])
            opt_out = opt_out_url(self.viewer, newest) if offers_opt_out else ""
            rows.append(
                CustomerRow(
                    place=key,
                    reply=newest,
                    oldest=oldest,
                    known=known.get(newest.contact) or Customer(newest.contact),
                    url=self.viewer.url(Message, "conversation", newest.pk) + query,
                    opt_out_url=opt_out and f"{opt_out}&{BACK}={TO_ANSWER}",
                    next_place=next_place,
                    stop_wish_at=wished_at.get(newest.contact or newest.pk),
                )
            )
        return rows

    def next_waiting(self, choice: Choice, contact: str, waiting: Sequence[Message]) -> int | None:
        """Return the reply of the customer who follows, or of the first one after the last.

        ``waiting`` are this customer's oldest and newest waiting reply, if there are any.
        """
        if waiting:
            place = waiting[0 if choice.longest_first else -1].pk
            choice = replace(choice, after=str(place))
        own = {reply.pk for reply in waiting}
        places = self._places(choice)
        if not places.is_from_first:
            first = self._places(replace(choice, after=""))
            places = replace(places, found=[*places.found, *first.found])
        around = [*places.following, *places.found[: places.start]]
        # Of a reply without a number nobody knows whose it is.
        others = (each for each in around if not contact or each.contact != contact)
        return next((each.pk for each in others if each.pk not in own), None)

    def count(self, since: int | None = None) -> Waiting:
        """Count the customers who wait, and those of them with a reply that came after a key."""
        rows = self._read(self.shown.unhandled(), Choice())
        read = rows[:MAX_READ]
        new = [each for each in read if since is not None and each.pk > since]
        return Waiting(
            customers=len(_customers(read)),
            is_complete=len(rows) == len(read),
            newest=max((each.pk for each in read), default=0),
            new=len(_customers(new)),
        )

    def oldest(self) -> datetime | None:
        """Return when the reply came that has waited longest."""
        replies = self.shown.unhandled().order_by("handled_at", "created_at")
        found: datetime | None = replies.values_list("created_at", flat=True).first()
        return found

    # Done, and undone

    def handle(
        self,
        replies: Sequence[Message],
        at: datetime,
        *,
        own_number: str = "",
        seen_until: int | None = None,
    ) -> int:
        """Mark these replies and the customers' earlier ones as handled, by this person.

        One statement, so all or none; a colleague's mark stays. Rows that this site does not show
        to this person are left alone, and on a page that is narrowed to an own number those to
        another one. ``seen_until`` is the highest key when the page was made: what has come since
        is left alone too, whatever its clock said. Returns how many were marked.
        """
        keys = [reply.pk for reply in replies]
        selected, seen = Q(pk__in=keys), Q()
        if own_number:
            seen &= Q(own_number=own_number)
        if seen_until is not None:
            seen &= Q(pk__lte=max([seen_until, *keys]))
        for reply in replies:
            if reply.contact:
                selected |= Q(seen, contact=reply.contact, created_at__lte=reply.created_at)
        unhandled = self.shown.filter(selected, direction=Direction.INBOUND, handled_at=None)
        mark = partial(unhandled.update, handled_at=at, handled_by=self.viewer.username)
        return int(again_if_refused(mark, using=database_alias()))

    def handled(self, keys: list[int]) -> QuerySet[Any]:
        rows = self.on_primary.filter(pk__in=keys, direction=Direction.INBOUND)
        return rows.filter(handled_at__isnull=False)

    def to_undo(self, keys: list[int]) -> QuerySet[Any]:
        """Return those that this person has handled, except of customers answered since."""
        sent = Message.objects.fresh().outbound().exclude(contact="")
        answers = sent.filter(contact=OuterRef("contact"), created_at__gte=OuterRef("handled_at"))
        mine = self.handled(keys).filter(handled_by=self.viewer.username)
        return mine.exclude(Exists(answers))

    def reopen(self, replies: Iterable[Message]) -> int:
        """Make replies new again, with what else of their customers was handled at that moment."""
        same = Q()
        for reply in replies:
            same |= Q(pk=reply.pk)
            if reply.contact:
                same |= Q(contact=reply.contact, handled_at=reply.handled_at)
        keys = self.on_primary.filter(same).values_list("pk", flat=True) if same else []
        return self.mark_new(keys)

    def mark_new(self, keys: Iterable[int]) -> int:
        """Make handled replies new again, whoever has handled them; return how many were."""
        # As a list: MariaDB updates no table that it reads.
        handled = self.on_primary.filter(pk__in=list(keys), handled_at__isnull=False)
        reopen = partial(handled.update, handled_at=None, handled_by="")
        return int(again_if_refused(reopen, using=database_alias()))


@shown
class ToAnswerContent:
    """Who waits, and what the last click did."""

    list: WaitingPage
    waiting: Waiting
    news_url: str
    undo: Sequence[int]
    """The replies that the last click has handled."""


class ToAnswer(DeskPage):
    """A row for each customer who waits."""

    name = "to_answer"
    route = "to-answer/"
    model = Message
    title = _("To answer")
    template = "cellcast_desk/to_answer.html"

    def show(self) -> HttpResponse:
        replies = Replies(self.viewer)
        content = ToAnswerContent(
            list=replies.page(Choice.of(self.request), PER_PAGE),
            waiting=replies.count(),
            news_url=News.url(self.viewer),
            undo=pop_undo(self.request),
        )
        return self.render(content)


class UnsavedSession(SimpleLazyObject):  # type: ignore[type-arg]  # no [] on Django 5.2
    """A session that others can read, and that Django does not save.

    Its middleware leaves alone what it cannot ask for ``accessed``; ``SESSION_SAVE_EVERY_REQUEST``
    would prolong any other.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "accessed":
            raise AttributeError(name)
        return super().__getattr__(name)


class News(Page):
    """Tells a page that is open how many customers wait, and how many have written since.

    The session is not saved, so that an open page keeps nobody signed in.
    """

    name = "news"
    route = "to-answer/news/"
    model = Message

    def show(self) -> HttpResponse:
        since = self.request.GET.get("since", "")
        waiting = Replies(self.viewer).count(int(since) if is_key(since) else None)
        session = self.request.session
        self.request.session = UnsavedSession(lambda: session)  # type: ignore[assignment]
        return JsonResponse({"waiting": str(waiting), "new": waiting.new})


class Handle(Page):
    """Marks one reply or those that are ticked, and the customers' earlier ones, as handled."""

    name = "handle"
    model = Message
    permissions = ("handle_message",)
    only_takes_forms = True

    def show(self) -> HttpResponse:
        viewer, form = self.viewer, self.request.POST
        replies = Replies(viewer)
        wanted = form.getlist("one")[:1] or form.getlist("reply")
        keys = [int(key) for key in wanted if is_key(key)][:PER_PAGE]
        chosen = replies.on_primary.filter(direction=Direction.INBOUND, pk__in=keys)
        found = list(chosen.defer("body", "original_body"))
        if wanted and not found:
            get_object_or_404(chosen)
        seen, own_number = form.get("seen", ""), Choice.of(self.request).own_number
        seen_until = int(seen) if is_key(seen) else None
        # The page may be an old one, with what an earlier click has marked.
        new = [reply for reply in found if reply.handled_at is None]
        if replies.handle(new, timezone.now(), own_number=own_number, seen_until=seen_until):
            if len(new) == 1:
                viewer.log(new[0], "Marked as done.")
            else:
                viewer.log_list(Message, f"Marked {len(new)} replies as done.")
            self.request.session[UNDO] = [reply.pk for reply in new]
        elif not found:
            viewer.tell(gettext("Tick at least one customer first."), messages.WARNING)
        return _back(viewer, keys)


def pop_undo(request: HttpRequest) -> list[int]:
    """Return the replies that the last click has handled, once."""
    keys: list[int] = request.session.pop(UNDO, [])
    return keys


class Reopen(Page):
    """Makes replies new again: of one customer, or what the last click has handled."""

    name = "reopen"
    model = Message
    permissions = ("handle_message",)
    only_takes_forms = True

    def show(self) -> HttpResponse:
        form, replies = self.request.POST, Replies(self.viewer)
        wanted = [form["one"]] if "one" in form else form.get("replies", "").split(",")
        keys = [int(key) for key in wanted if is_key(key)][:PER_PAGE]
        found = list(replies.handled(keys) if "one" in form else replies.to_undo(keys))
        if reopened := replies.reopen(found):
            if len(found) == 1:
                self.viewer.log(found[0], "Reopened.")
            else:
                marked = counted(reopened, "reply", "replies")
                self.viewer.log_list(Message, f"Reopened {marked}.")
            self.viewer.tell(new_again(reopened))
        else:
            nothing = gettext(
                "Nothing left to undo: somebody has answered since, or it has been undone."
            )
            self.viewer.tell(nothing, messages.WARNING)
        return _back(self.viewer, keys)


def new_again(count: int) -> str:
    """Return a sentence about replies that are new again."""
    words = ngettext("%(count)s reply is new again.", "%(count)s replies are new again.", count)
    return words % {"count": grouped(count)}


def _back(viewer: Viewer, keys: Sequence[int]) -> HttpResponseRedirect:
    """Return to the page that the click was on, and there to the row where it was."""
    query, form = Choice.of(viewer.request).query(), viewer.request.POST
    back, pk = form.get(BACK, ""), keys[-1] if keys else 0
    place = form.get(f"next-{pk}", str(pk))
    fragment = f"#cellcast-waiting-{place}" if is_key(place) else ""
    match back:
        case "change" | "conversation":
            url = viewer.url(Message, back, pk) + (query if back == "conversation" else "")
        case "next" if is_key(form.get("next", "")):
            url = viewer.url(Message, "conversation", int(form["next"])) + query
        case "section":
            app_label = Message._meta.app_label
            url = reverse("admin:app_list", args=[app_label], current_app=viewer.site.name)
            url += fragment
        case _:
            url = ToAnswer.url(viewer) + query + fragment
    return HttpResponseRedirect(url)


def _customers(rows: Iterable[Place]) -> list[Place]:
    """Return the first row of each customer; each reply without a number is somebody of its own."""
    found: dict[str | int, Place] = {}
    for row in rows:
        found.setdefault(row.contact or row.pk, row)
    return list(found.values())


def _spans(messages: Any, rows: Iterable[Place]) -> dict[str, tuple[int, int]]:
    """Return the oldest and the newest waiting reply of each customer with a number."""
    contacts = {row.contact for row in rows} - {""}
    replies = not_handled(messages.filter(contact__in=contacts)).order_by()
    spans: dict[str, tuple[int, int]] = {}
    for _created_at, pk, contact in sorted(replies.values_list(*PLACE, "contact")):
        spans[contact] = spans.get(contact, (pk, pk))[0], pk
    return spans


def _decides(row: Place, spans: dict[str, tuple[int, int]], choice: Choice) -> bool:
    """Whether a customer stands at this row, and not at one of theirs before it."""
    oldest, newest = spans.get(row.contact, (row.pk, row.pk))
    return row.pk == (oldest if choice.longest_first else newest)


def newer_than(queryset: QuerySet[Any], field: str, time: datetime, pk: int) -> QuerySet[Any]:
    """Narrow to the rows that precede this one when the newest come first."""
    is_newer = Q(**{f"{field}__gt": time}) | Q(pk__gt=pk)
    return queryset.filter(is_newer, **{f"{field}__gte": time})


def not_handled(messages: Any) -> MessageQuerySet:
    """Narrow the messages of one customer to the replies that nobody has dealt with.

    SQLite has no statistics at first, and would take the index of all waiting replies instead of
    the contact's: it fixes more columns. A function around one of them keeps it from doing so.
    """
    way = messages.alias(way=Lower("direction"))
    return way.filter(way=Direction.INBOUND, handled_at=None)  # type: ignore[no-any-return]


def _next(places: Sequence[int]) -> Iterable[int | None]:
    """Return for each place where to go when its row is gone: to the next, or the last but one."""
    before = places[-2] if len(places) > 1 else None
    return [*places[1:], before][: len(places)]
