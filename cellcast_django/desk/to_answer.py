"""To answer: a row for each customer with a reply that nobody has dealt with, and *Done*.

A row is the customer's newest waiting reply. Pages continue after a row, not after a number of
rows, so nobody is skipped while colleagues work on the same list.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from time import monotonic
from typing import Any, Self

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.functional import SimpleLazyObject
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.contacts import Customer, customers
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import (
    beginning,
    counted,
    grouped,
    media_links,
    own_number_html,
)
from cellcast_django.admin.lists.filters import between, own_numbers, range_of
from cellcast_django.admin.lists.paging import is_key, newer_than, older_than
from cellcast_django.admin.opt_outs import may_opt_out, opt_out_url
from cellcast_django.admin.page import MAX_SECONDS, Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.database.transactions import again_if_refused
from cellcast_django.models import Direction, Message, MessageQuerySet, database_alias
from cellcast_django.payloads import clean

BACK = "back"
TO_ANSWER = "to_answer"
"""Of a form's address: that it leads back to this page."""

PER_PAGE = 50  # customers
MAX_TEXT_LENGTH = 200
MAX_PICTURES = 3  # links to pictures in a row

MAX_COUNTED = 1_000
"""Waiting replies that are read to count the customers: they pile up where nobody handles any."""

BATCH_SIZE = 100  # replies marked by one statement, which is a transaction of its own

UNDO = "cellcast_django.undo"
"""The session's key for what the last click has handled, until a page has offered to undo it."""


@dataclass(frozen=True, repr=False)
class Choice:
    """Which customers the list shows, and in which order, as its address says."""

    longest_first: bool = False
    days: tuple[date | None, date | None] = (None, None)
    own_number: str = ""
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


@shown
class WaitingPage:
    """A page of customers who wait, what narrows it, and where it goes on."""

    rows: Sequence[CustomerRow]
    choice: Choice
    url: str
    has_more: bool
    own_numbers: Sequence[str]
    """The numbers to choose from; empty where customers write to a single one."""
    may_handle: bool

    @property
    def offers_opt_out(self) -> bool:
        return any(row.opt_out_url for row in self.rows)

    @property
    def next_url(self) -> str:
        return self.url + self.choice.query(after=self.rows[-1].place) if self.has_more else ""

    @property
    def first_url(self) -> str:
        return self.url + self.choice.query(after="") if self.choice.after else ""

    @property
    def newest_first_url(self) -> str:
        return self.url + self.choice.query(order="", after="")

    @property
    def longest_first_url(self) -> str:
        return self.url + self.choice.query(order="longest", after="")

    @property
    def is_narrowed(self) -> bool:
        return bool(self.choice.own_number or any(self.choice.days))


@dataclass(frozen=True)
class Undo:
    """What a click has handled: these replies and the customers' earlier ones, at that time."""

    at: str
    replies: Sequence[int]


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
        keys = list(self._in_order(choice).values_list("pk", flat=True)[: count + 1])
        return WaitingPage(
            rows=self._rows(choice, keys[:count]),
            choice=choice,
            url=ToAnswer.url(self.viewer),
            has_more=len(keys) > count,
            own_numbers=own_numbers(self.shown),
            may_handle=self.viewer.may("handle_message"),
        )

    def _in_order(self, choice: Choice) -> Any:
        """Return the reply of each customer that decides on the place in the list."""
        shown = choice.narrow(self.shown)
        replies, beside = shown.unhandled(), _of_same_customer(shown)
        place: Any = ("created_at", OuterRef("created_at"), OuterRef("pk"))
        if choice.longest_first:
            sign, before, following = "", older_than(beside, *place), newer_than
        else:
            sign, before, following = "-", newer_than(beside, *place), older_than
        # handled_at is null in all of them, but the databases use its index only if told.
        in_order = [f"{sign}{name}" for name in ("handled_at", "created_at", "pk")]
        rows = replies.filter(~Exists(before)).order_by(*in_order)
        after = self.shown.filter(pk=choice.after).first() if choice.after else None
        return rows if after is None else following(rows, "created_at", after.created_at, after.pk)

    def _rows(self, choice: Choice, keys: list[int]) -> list[CustomerRow]:
        shown = choice.narrow(self.shown).defer("body", "original_body")
        sign = "-" if choice.longest_first else ""
        beside = _of_same_customer(shown).order_by(f"{sign}created_at", f"{sign}pk")
        other = Subquery(beside.values("pk")[:1])
        others = dict(shown.filter(pk__in=keys).order_by().values_list("pk", other))
        replies = shown.in_bulk({*keys, *filter(None, others.values())})
        known = customers(reply.contact for reply in replies.values())
        found = [key for key in keys if key in replies]
        offers_opt_out = may_opt_out(self.viewer)
        rows = []
        for key, next_place in zip(found, _next(found), strict=True):
            ends = [replies[key], replies.get(others[key], replies[key])]
            oldest, newest = ends if choice.longest_first else reversed(ends)
            opt_out = opt_out_url(self.viewer, newest) if offers_opt_out else ""
            rows.append(
                CustomerRow(
                    place=key,
                    reply=newest,
                    oldest=oldest,
                    known=known.get(newest.contact) or Customer(newest.contact),
                    url=self.viewer.url(Message, "conversation", newest.pk) + choice.query(),
                    opt_out_url=opt_out and f"{opt_out}&{BACK}={TO_ANSWER}",
                    next_place=next_place,
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
        for each in (choice, replace(choice, after="")):
            own = Q(contact=contact) if contact else Q(pk__in=[reply.pk for reply in waiting])
            others = self._in_order(each).exclude(own)
            if (key := others.values_list("pk", flat=True).first()) is not None:
                return int(key)
        return None

    def count(self, since: int | None = None) -> Waiting:
        """Count the customers who wait, and those of them with a reply that came after a key."""
        newest = self.shown.unhandled().order_by("-handled_at", "-created_at", "-pk")
        rows = list(newest.values_list("contact", "pk")[: MAX_COUNTED + 1])
        read = rows[:MAX_COUNTED]
        return Waiting(
            customers=_count_contacts(read),
            is_complete=len(rows) == len(read),
            newest=max((pk for _contact, pk in read), default=0),
            new=_count_contacts(row for row in read if since is not None and row[1] > since),
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
        for contact, until in _latest(replies).items():
            selected |= Q(seen, contact=contact, created_at__lte=until)
        unhandled = self.shown.filter(selected, direction=Direction.INBOUND, handled_at=None)
        mark = partial(unhandled.update, handled_at=at, handled_by=self.viewer.username)
        return int(again_if_refused(mark, using=database_alias()))

    def reopen(self, keys: list[int], at: datetime) -> int:
        """Undo what this person handled at that time, except of customers answered since."""
        shown = self.on_primary
        found = shown.filter(pk__in=keys).exclude(contact="").values_list("contact", flat=True)
        sent = Message.objects.using(database_alias()).outbound().filter(created_at__gte=at)
        answered = Exists(sent.filter(contact=OuterRef("contact")).exclude(contact=""))
        replies = shown.filter(Q(contact__in=list(found)) | Q(pk__in=keys), ~answered)
        mine = replies.filter(handled_at=at, handled_by=self.viewer.username)
        reopened = list(mine.values_list("pk", flat=True))  # MariaDB updates no table it reads
        return int(shown.filter(pk__in=reopened).update(handled_at=None, handled_by=""))


@shown
class ToAnswerContent:
    """Who waits, and what the last click did."""

    list: WaitingPage
    waiting: Waiting
    news_url: str
    undo: Undo | None


class ToAnswer(Page):
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
        at, seen = timezone.now(), form.get("seen", "")
        own_number = Choice.of(self.request).own_number
        seen_until = int(seen) if is_key(seen) else None
        if replies.handle(found, at, own_number=own_number, seen_until=seen_until):
            if len(found) == 1:
                viewer.log(found[0], "Marked it as handled.")
            else:
                viewer.log_list(Message, f"Marked {len(found)} replies as handled.")
            self.request.session[UNDO] = [at.isoformat(), [reply.pk for reply in found]]
        elif not found:
            viewer.tell(gettext("Nobody was ticked."), messages.WARNING)
        return _back(viewer, keys)


def pop_undo(request: HttpRequest) -> Undo | None:
    """Return what the last click has handled, once."""
    found = request.session.pop(UNDO, None)
    return Undo(*found) if found else None


class Reopen(Page):
    """Undoes *Done*: what this person has handled at that time is new, if nobody answered it."""

    name = "reopen"
    model = Message
    permissions = ("handle_message",)
    only_takes_forms = True

    def show(self) -> HttpResponse:
        form = self.request.POST
        keys = [int(key) for key in form.get("replies", "").split(",") if is_key(key)]
        at = _time_of(form.get("at", ""))
        reopened = Replies(self.viewer).reopen(keys[:PER_PAGE], at) if at else 0
        if reopened:
            replies = counted(reopened, "handled reply", "handled replies")
            self.viewer.log_list(Message, f"Reopened {replies}.")
            words = ngettext(
                "%(count)s reply is new again.", "%(count)s replies are new again.", reopened
            )
            self.viewer.tell(words % {"count": grouped(reopened)})
        else:
            nothing = gettext(
                "Nothing left to undo: somebody has answered since, or it has been undone."
            )
            self.viewer.tell(nothing, messages.WARNING)
        return _back(self.viewer, keys)


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


@admin.action(description=_("Mark as done"))
def mark_done(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> None:
    """Mark the selected replies and the customers' earlier ones as handled.

    Each batch commits by itself. After 20 seconds no batch begins, and the page says how many of
    the selected replies are left.
    """
    viewer = Viewer(model_admin.admin_site, request)
    waiting: Any = queryset.filter(direction=Direction.INBOUND, handled_at=None)
    replies = waiting.using(database_alias())  # a replica may not know yet what a batch marked
    newest_first = replies.defer("body", "original_body").order_by("-created_at", "-pk")
    at, end, count = timezone.now(), monotonic() + MAX_SECONDS, 0
    while (batch := list(newest_first[:BATCH_SIZE])) and monotonic() < end:
        count += Replies(viewer).handle(batch, at)
    left = replies.count() if batch else 0
    if count:
        marked = counted(count, "reply", "replies")
        viewer.log_list(Message, f"Marked {marked} as handled.")
    done = ngettext("%(count)s reply marked as done.", "%(count)s replies marked as done.", count)
    viewer.tell(done % {"count": grouped(count)})
    if left:
        words = ngettext(
            "%(count)s of the selected replies is left. Run it again to continue.",
            "%(count)s of the selected replies are left. Run it again to continue.",
            left,
        )
        viewer.tell(words % {"count": grouped(left)}, messages.WARNING)


def _time_of(text: str) -> datetime | None:
    """Return the time that a form has, if this site could have written it."""
    with suppress(ValueError):
        at = parse_datetime(text)
        return at if at and timezone.is_aware(at) == settings.USE_TZ else None
    return None


def _of_same_customer(messages: Any) -> MessageQuerySet:
    """Return the waiting replies of the customer of a row, for a subquery."""
    if messages.query.distinct:  # becomes a derived table, where MariaDB does not know the row
        messages = Message.objects.using(messages.db).filter(pk__in=messages.values("pk"))
    return not_handled(messages.filter(contact=OuterRef("contact")).exclude(contact=""))


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


def _latest(replies: Iterable[Message]) -> dict[str, datetime]:
    in_order = sorted(replies, key=lambda reply: reply.created_at)
    return {reply.contact: reply.created_at for reply in in_order if reply.contact}


def _count_contacts(rows: Iterable[tuple[str, int]]) -> int:
    """Count the customers of replies; each reply without a number is somebody of its own."""
    return len({contact or pk for contact, pk in rows})
