"""To answer: a row for each customer who waits, a page at a time, and what is new meanwhile.

Pages continue after a row, not after a number of rows, so nobody is skipped while colleagues work
on the same list.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponse, JsonResponse
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.contacts import Customer
from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import (
    beginning,
    duration,
    grouped,
    media_links,
    own_number_html,
)
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.lists.search import Note, nothing_found
from cellcast_django.admin.opt_outs import may_opt_out, opt_out_url
from cellcast_django.admin.own_numbers import own_numbers
from cellcast_django.admin.page import Page
from cellcast_django.desk.conversation import ConversationPage
from cellcast_django.desk.handling import Undo, marked_last
from cellcast_django.desk.page import DeskPage
from cellcast_django.desk.waiting import (
    Choice,
    Moment,
    Waiting,
    WaitingCustomer,
    WaitingList,
    place_of,
)
from cellcast_django.health import age
from cellcast_django.models import Message

STOP_WISH_LATE = timedelta(days=3)
"""From then on a wish to stop is red: Australia's law gives five business days."""

BACK, TO_ANSWER = "back", "to_answer"
"""Of a form's address: that it leads back to this page."""

PER_PAGE = 50  # customers
MAX_TEXT_LENGTH = 200
MAX_PICTURES = 3  # links to pictures in a row


@shown
class CustomerRow:
    """A customer who waits."""

    reply: Any
    """The newest one."""
    customer: WaitingCustomer
    known: Customer
    url: str
    opt_out_url: str
    """The form that opts the customer out, for those who may."""
    stop_wish_at: datetime | None
    """When the oldest of their waiting replies that may ask for no more messages came."""

    @property
    def stop_wish(self) -> SafeString | str:
        return stop_wish_badge(self.stop_wish_at) if self.stop_wish_at else ""

    @property
    def name(self) -> SafeString | str:
        return self.known.html or gettext("(no number)")

    @property
    def text(self) -> str:
        return beginning(self.reply.beginning, MAX_TEXT_LENGTH)

    @property
    def pictures(self) -> SafeString | str:
        return media_links(self.reply.media, MAX_PICTURES)

    @property
    def has_several(self) -> bool:
        return len(self.customer.replies) > 1

    @property
    def oldest_at(self) -> datetime:
        return self.customer.oldest.created_at

    @property
    def own_number(self) -> SafeString | str:
        """Which of your numbers it was written to, if theirs were written to several."""
        several = len({each.own_number for each in self.customer.replies}) > 1
        return own_number_html(self.reply) if several else ""


@shown
class WaitingPage:
    """A page of customers who wait, what narrows it, and where it goes on."""

    rows: Sequence[CustomerRow]
    choice: Choice
    url: str
    found: Sequence[WaitingCustomer]
    start: int
    """How many of those found stand before the page."""
    is_complete: bool
    notes: Sequence[Note]
    """What is said of the search."""
    own_numbers: Sequence[str]
    """The numbers to choose from; empty where customers write to a single one."""
    may_handle: bool
    per_page: int
    undo: Undo | None

    @classmethod
    def of(cls, waiting: WaitingList, choice: Choice, count: int) -> "WaitingPage":
        """Return the first customers of the list, or those after a row of it."""
        viewer = waiting.viewer
        found, notes = waiting.find(choice)
        start = 0
        if choice.after and (after := waiting.rows.filter(pk=choice.after).first()):
            start = place_of(found, choice, Moment(after.created_at, after.pk))
        page, marked = found[start : start + count], marked_last(viewer)
        contacts = (each.newest.contact for each in page)
        known = viewer.directory.customers([*contacts, *marked.values()])
        may_handle = viewer.may("handle_message")
        return cls(
            rows=_rows(waiting, choice, page, known),
            choice=choice,
            url=ToAnswerPage.url(viewer),
            found=found,
            start=start,
            is_complete=waiting.is_complete,
            notes=notes,
            own_numbers=own_numbers(waiting.rows),
            may_handle=may_handle,
            per_page=count,
            undo=Undo.of(marked, known),
        )

    @property
    def offers_opt_out(self) -> bool:
        return any(row.opt_out_url for row in self.rows)

    @property
    def has_more(self) -> bool:
        return len(self.found) > self.start + self.per_page

    @property
    def position(self) -> str:
        """Which of the customers these are; empty if all are here."""
        if not self.rows or not (self.start or self.has_more):
            return ""
        return gettext("%(first)s to %(last)s of %(total)s") % {
            "first": grouped(self.start + 1),
            "last": grouped(self.start + len(self.rows)),
            "total": grouped(len(self.found)) + ("" if self.is_complete else "+"),
        }

    @property
    def next_url(self) -> str:
        return self._url_from(self.start + self.per_page) if self.has_more else ""

    @property
    def previous_url(self) -> str:
        return self._url_from(max(0, self.start - self.per_page)) if self.choice.after else ""

    @property
    def numbered(self) -> list[tuple[int | str, str]]:
        """The pages by their numbers: this one, and where some are left out, without an address."""
        if not self.position:
            return []
        pages = Paginator(self.found, self.per_page)
        here = min(round(self.start / self.per_page) + 1, pages.num_pages)
        return [
            (page, self._url_from((page - 1) * self.per_page))
            if isinstance(page, int) and page != here
            else (page, "")
            for page in pages.get_elided_page_range(here)
        ]

    def _url_from(self, start: int) -> str:
        """Return the page before which so many of the customers found stand."""
        after = self.found[start - 1].moment(self.choice).pk if start else ""
        return self.url + self.choice.query(after=after)

    @property
    def first_url(self) -> str:
        return self._url_from(0)

    @property
    def other_order_url(self) -> str:
        order = "" if self.choice.longest_first else "longest"
        return self.url + self.choice.query(order=order, after="")

    @property
    def nothing_found(self) -> str:
        return nothing_found() if self.choice.search else ""


def _rows(
    waiting: WaitingList,
    choice: Choice,
    page: Sequence[WaitingCustomer],
    known: dict[str, Customer],
) -> list[CustomerRow]:
    viewer = waiting.viewer
    replies = waiting.rows.defer("body", "original_body").in_bulk([each.newest.pk for each in page])
    offers_opt_out = may_opt_out(viewer)
    # What somebody has searched for is in the addresses of the list alone.
    query = choice.query(q="")
    back = choice.query(back=TO_ANSWER).replace("?", "&")
    rows = []
    for each in page:
        reply = replies.get(each.newest.pk)
        if reply is None:  # deleted at this moment
            continue
        customer = known.get(reply.contact) or Customer(reply.contact)
        form = opt_out_url(viewer, reply) if offers_opt_out and not customer.opted_out_since else ""
        rows.append(
            CustomerRow(
                reply=reply,
                customer=each,
                known=customer,
                url=ConversationPage.url(viewer, reply.pk) + query,
                opt_out_url=form and form + back,
                stop_wish_at=waiting.wish_of(each),
            )
        )
    return rows


def stop_wish_badge(since: datetime) -> SafeString:
    """Return since when a customer may want to stop: red while there is still time to act."""
    waited = age(since)
    words = gettext("may want to stop, %(age)s") % {"age": duration(waited)}
    return badge(Tone.BAD if waited >= STOP_WISH_LATE else Tone.WARNING, words)


@shown
class ToAnswerContent:
    """Who waits, and where the page asks what is new."""

    list: WaitingPage
    waiting: Waiting
    news_url: str


class ToAnswerPage(DeskPage):
    """A row for each customer who waits."""

    name = TO_ANSWER
    route = "to-answer/"
    model = Message
    title = _("To answer")
    template = "cellcast_desk/to_answer.html"

    def show(self) -> HttpResponse:
        content = ToAnswerContent(
            list=WaitingPage.of(self.waiting, Choice.of(self.request), PER_PAGE),
            waiting=self.waiting.count(),
            news_url=News.url(self.viewer),
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
        waiting = WaitingList(self.viewer).count(int(since) if is_key(since) else None)
        session = self.request.session
        self.request.session = UnsavedSession(lambda: session)  # type: ignore[assignment]
        return JsonResponse({"waiting": str(waiting), "new": waiting.new})
