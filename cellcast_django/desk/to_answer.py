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
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _, ngettext
from django.views.decorators.http import require_POST

from cellcast_django.admin.contacts import Customer, attach_customers, customer_of
from cellcast_django.admin.display.texts import (
    beginning,
    counted,
    grouped,
    media_links,
    own_number_html,
)
from cellcast_django.admin.lists.filters import between, own_numbers, range_of
from cellcast_django.admin.lists.paging import is_key, newer_than, older_than
from cellcast_django.admin.lists.read_only import MAX_SECONDS, ReadOnlyAdmin
from cellcast_django.database.transactions import again_if_refused, outside_atomic_requests
from cellcast_django.desk.customer import TO_ANSWER, CustomerAdmin
from cellcast_django.models import Direction, Message, MessageQuerySet, database_alias
from cellcast_django.payloads import clean

PER_PAGE = 50  # customers
MAX_TEXT_LENGTH = 200
MAX_PICTURES = 3  # links to pictures in a row

MAX_COUNTED = 1_000
"""Waiting replies that are read to count the customers: they pile up where nobody handles any."""

BATCH_SIZE = 100  # replies marked by one statement, which is a transaction of its own

UNDO = "cellcast_django.undo"
"""The session's key for what the last click has handled, until a page has offered to undo it."""


@dataclass(frozen=True)
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


@dataclass(frozen=True, repr=False)
class CustomerRow:
    """A customer who waits. Nothing of it is printed: trackers store what templates are given."""

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


@dataclass(frozen=True, repr=False)
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


class ToAnswerAdmin(CustomerAdmin):
    """Messages, with the page *To answer* and what marks replies as done."""

    actions = ["mark_done"]

    def get_urls(self) -> list[URLPattern]:
        """Add the page, what it asks for while it is open, and the targets of its buttons.

        Nothing here is inside ``ATOMIC_REQUESTS``: each batch of an action commits by itself.
        """
        patterns = [
            self.page_pattern("to-answer/", self.to_answer_view, "to_answer"),
            self.page_pattern("to-answer/news/", self.news_view, "news"),
            self.page_pattern("handle/", self.handle_view, "handle"),
            self.page_pattern("reopen/", self.reopen_view, "reopen"),
            *super().get_urls(),
        ]
        for pattern in patterns:
            outside_atomic_requests(pattern.callback)
        return patterns

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "handle")

    # The list

    def to_answer_view(self, request: HttpRequest) -> HttpResponse:
        self.require(request)
        return self.render_page(
            request,
            "cellcast_desk/to_answer.html",
            title=_("To answer"),
            waiting=self.count_waiting(request),
            news_url=self.url_of(Message, "news"),
            list=self.waiting_rows(request, Choice.of(request), PER_PAGE),
            undo=self.pop_undo(request),
        )

    def waiting_rows(self, request: HttpRequest, choice: Choice, count: int) -> WaitingPage:
        """Return the first customers of the list, or those after a row of it."""
        keys = list(self._in_order(request, choice).values_list("pk", flat=True)[: count + 1])
        return WaitingPage(
            rows=self._rows(request, choice, keys[:count]),
            choice=choice,
            url=self.url_of(Message, "to_answer"),
            has_more=len(keys) > count,
            own_numbers=own_numbers(self.get_queryset(request)),
            may_handle=self.may(request, "handle"),
        )

    def _in_order(self, request: HttpRequest, choice: Choice) -> Any:
        """Return the reply of each customer that decides on the place in the list."""
        shown = choice.narrow(self.get_queryset(request))
        replies, beside = shown.unhandled(), _of_same_customer(shown)
        place: Any = ("created_at", OuterRef("created_at"), OuterRef("pk"))
        if choice.longest_first:
            sign, before, following = "", older_than(beside, *place), newer_than
        else:
            sign, before, following = "-", newer_than(beside, *place), older_than
        # handled_at is null in all of them, but the databases use its index only if told.
        in_order = [f"{sign}{name}" for name in ("handled_at", "created_at", "pk")]
        rows = replies.filter(~Exists(before)).order_by(*in_order)
        after = self.get_queryset(request).filter(pk=choice.after).first() if choice.after else None
        return rows if after is None else following(rows, "created_at", after.created_at, after.pk)

    def _rows(self, request: HttpRequest, choice: Choice, keys: list[int]) -> list[CustomerRow]:
        shown = choice.narrow(self.get_queryset(request)).defer("body", "original_body")
        sign = "-" if choice.longest_first else ""
        beside = _of_same_customer(shown).order_by(f"{sign}created_at", f"{sign}pk")
        other = Subquery(beside.values("pk")[:1])
        others = dict(shown.filter(pk__in=keys).order_by().values_list("pk", other))
        replies = shown.in_bulk({*keys, *filter(None, others.values())})
        attach_customers(replies.values())
        found = [key for key in keys if key in replies]
        may_opt_out = self.may_opt_out(request)
        rows = []
        for key, next_place in zip(found, _next(found), strict=True):
            ends = [replies[key], replies.get(others[key], replies[key])]
            oldest, newest = ends if choice.longest_first else reversed(ends)
            rows.append(
                CustomerRow(
                    place=key,
                    reply=newest,
                    oldest=oldest,
                    known=customer_of(newest),
                    url=self.url_of(Message, "conversation", newest.pk) + choice.query(),
                    opt_out_url=self.opt_out_url(newest, back=TO_ANSWER) if may_opt_out else "",
                    next_place=next_place,
                )
            )
        return rows

    def next_waiting(
        self, request: HttpRequest, choice: Choice, contact: str, waiting: Sequence[Message]
    ) -> int | None:
        """Return the reply of the customer who follows, or of the first one after the last.

        ``waiting`` are this customer's oldest and newest waiting reply, if there are any.
        """
        if waiting:
            place = waiting[0 if choice.longest_first else -1].pk
            choice = replace(choice, after=str(place))
        for each in (choice, replace(choice, after="")):
            own = Q(contact=contact) if contact else Q(pk__in=[reply.pk for reply in waiting])
            others = self._in_order(request, each).exclude(own)
            if (key := others.values_list("pk", flat=True).first()) is not None:
                return int(key)
        return None

    # How many there are, and what is new

    def count_waiting(self, request: HttpRequest, since: int | None = None) -> Waiting:
        """Count the customers who wait, and those of them with a reply that came after a key."""
        messages: Any = self.get_queryset(request)
        newest = messages.unhandled().order_by("-handled_at", "-created_at", "-pk")
        rows = list(newest.values_list("contact", "pk")[: MAX_COUNTED + 1])
        read = rows[:MAX_COUNTED]
        return Waiting(
            customers=_count_contacts(read),
            is_complete=len(rows) == len(read),
            newest=max((pk for _contact, pk in read), default=0),
            new=_count_contacts(row for row in read if since is not None and row[1] > since),
        )

    def overview_card(self, request: HttpRequest) -> dict[str, Any]:
        waiting = self.count_waiting(request)
        messages: Any = self.get_queryset(request)
        replies = messages.unhandled().order_by("handled_at", "created_at")
        oldest = replies.values_list("created_at", flat=True).first()
        return {
            "count": waiting.customers,
            "waiting": waiting,
            "oldest": oldest,
            "url": self.url_of(Message, "to_answer"),
            "news_url": self.url_of(Message, "news"),
        }

    def news_view(self, request: HttpRequest) -> HttpResponse:
        """Tell a page that is open how many customers wait, and how many have written since.

        The session is not saved, so that an open page keeps nobody signed in.
        """
        self.require(request)
        since = request.GET.get("since", "")
        waiting = self.count_waiting(request, int(since) if is_key(since) else None)
        # Django saves no session that is gone; SESSION_SAVE_EVERY_REQUEST would prolong this one.
        del request.session
        return JsonResponse({"waiting": str(waiting), "new": waiting.new})

    # Done, and undone

    @method_decorator(require_POST)
    def handle_view(self, request: HttpRequest) -> HttpResponse:
        """Mark one reply or those that are ticked, and the customers' earlier ones, as handled."""
        self.require(request, "handle")
        wanted = request.POST.getlist("one")[:1] or request.POST.getlist("reply")
        keys = [int(key) for key in wanted if is_key(key)][:PER_PAGE]
        replies = self._on_primary(request).filter(direction=Direction.INBOUND, pk__in=keys)
        found = list(replies.defer("body", "original_body"))
        if wanted and not found:
            get_object_or_404(replies)
        at, seen = timezone.now(), request.POST.get("seen", "")
        own_number = Choice.of(request).own_number
        seen_until = int(seen) if is_key(seen) else None
        if self.handle(request, found, at, own_number=own_number, seen_until=seen_until):
            self._log(request, found)
            request.session[UNDO] = [at.isoformat(), [reply.pk for reply in found]]
        elif not found:
            self.message_user(request, gettext("Nobody was ticked."), messages.WARNING)
        return self._back(request, keys)

    def handle(
        self,
        request: HttpRequest,
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
        marked = self.get_queryset(request).filter(selected, direction=Direction.INBOUND)
        unhandled = marked.filter(handled_at=None)
        mark = partial(unhandled.update, handled_at=at, handled_by=self.username(request))
        return int(again_if_refused(mark, using=database_alias()))

    def _on_primary(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that this site shows: a replica may not have the last click's yet."""
        return self.get_queryset(request).using(database_alias())

    def _log(self, request: HttpRequest, replies: Sequence[Message]) -> None:
        if len(replies) == 1:
            self.log_change(request, replies[0], "Marked it as handled.")
        else:
            self.log_list(request, Message, f"Marked {len(replies)} replies as handled.")

    def pop_undo(self, request: HttpRequest) -> Undo | None:
        """Return what the last click has handled, once."""
        found = request.session.pop(UNDO, None)
        return Undo(*found) if found else None

    @method_decorator(require_POST)
    def reopen_view(self, request: HttpRequest) -> HttpResponse:
        """Undo *Done*: reopen what this person has handled at that time, if nobody answered it."""
        self.require(request, "handle")
        keys = [int(key) for key in request.POST.get("replies", "").split(",") if is_key(key)]
        at = _time_of(request.POST.get("at", ""))
        reopened = self._reopen(request, keys[:PER_PAGE], at) if at else 0
        if reopened:
            replies = counted(reopened, "handled reply", "handled replies")
            self.log_list(request, Message, f"Reopened {replies}.")
            words = ngettext(
                "%(count)s reply is new again.", "%(count)s replies are new again.", reopened
            )
            self.message_user(request, words % {"count": grouped(reopened)}, messages.SUCCESS)
        else:
            nothing = gettext(
                "Nothing left to undo: somebody has answered since, or it has been undone."
            )
            self.message_user(request, nothing, messages.WARNING)
        return self._back(request, keys)

    def _reopen(self, request: HttpRequest, keys: list[int], at: datetime) -> int:
        shown = self._on_primary(request)
        found = shown.filter(pk__in=keys).exclude(contact="").values_list("contact", flat=True)
        sent = Message.objects.using(database_alias()).outbound().filter(created_at__gte=at)
        answered = Exists(sent.filter(contact=OuterRef("contact")).exclude(contact=""))
        replies = shown.filter(Q(contact__in=list(found)) | Q(pk__in=keys), ~answered)
        mine = replies.filter(handled_at=at, handled_by=self.username(request))
        reopened = list(mine.values_list("pk", flat=True))  # MariaDB updates no table it reads
        return int(shown.filter(pk__in=reopened).update(handled_at=None, handled_by=""))

    def _back(self, request: HttpRequest, keys: Sequence[int]) -> HttpResponseRedirect:
        """Return to the page that the click was on, and there to the row where it was."""
        query = Choice.of(request).query()
        back, pk = request.POST.get("back", ""), keys[-1] if keys else 0
        place = request.POST.get(f"next-{pk}", str(pk))
        fragment = f"#cellcast-waiting-{place}" if is_key(place) else ""
        match back:
            case "change" | "conversation":
                url = self.url_of(Message, back, pk) + (query if back == "conversation" else "")
            case "next" if is_key(request.POST.get("next", "")):
                url = self.url_of(Message, "conversation", int(request.POST["next"])) + query
            case "section":
                site = self.admin_site.name
                url = reverse("admin:app_list", args=[self.opts.app_label], current_app=site)
                url += fragment
            case _:
                url = self.url_of(Message, "to_answer") + query + fragment
        return HttpResponseRedirect(url)

    @admin.action(permissions=["handle"], description=_("Mark as done"))
    def mark_done(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Mark the selected replies and the customers' earlier ones as handled.

        Each batch commits by itself. After 20 seconds no batch begins, and the page says how many
        of the selected replies are left.
        """
        waiting: Any = queryset.filter(direction=Direction.INBOUND, handled_at=None)
        replies = waiting.using(database_alias())  # a replica may not know yet what a batch marked
        newest_first = replies.defer("body", "original_body").order_by("-created_at", "-pk")
        at, end, count = timezone.now(), monotonic() + MAX_SECONDS, 0
        while (batch := list(newest_first[:BATCH_SIZE])) and monotonic() < end:
            count += self.handle(request, batch, at)
        left = replies.count() if batch else 0
        if count:
            marked = counted(count, "reply", "replies")
            self.log_list(request, Message, f"Marked {marked} as handled.")
        done = ngettext(
            "%(count)s reply marked as done.", "%(count)s replies marked as done.", count
        )
        self.message_user(request, done % {"count": grouped(count)}, messages.SUCCESS)
        if left:
            words = ngettext(
                "%(count)s of the selected replies is left. Run it again to continue.",
                "%(count)s of the selected replies are left. Run it again to continue.",
                left,
            )
            self.message_user(request, words % {"count": grouped(left)}, messages.WARNING)


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


def messages_to_answer(model_admin: ReadOnlyAdmin, request: HttpRequest) -> ToAnswerAdmin | None:
    """Return the site's admin with this page; ``None`` if this person may not view it."""
    if not model_admin.may_view(request, Message):
        return None
    messages = model_admin.admin_site.get_model_admin(Message)
    return messages if isinstance(messages, ToAnswerAdmin) else None
