"""To answer: a row for each customer who waits, and what is new meanwhile."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponse, JsonResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.customers import Customer
from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import beginning, duration, media_links, own_number_html
from cellcast_django.admin.lists.paging import key_in
from cellcast_django.admin.lists.search import Note, nothing_found
from cellcast_django.admin.opt_outs import opt_out_url
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.desk.conversation import ConversationPage
from cellcast_django.desk.handling import Undo, take_marked_last
from cellcast_django.desk.page import TO_ANSWER, DeskPage, own_numbers
from cellcast_django.desk.waiting import Choice, Waiting, WaitingCustomer, WaitingList, WaitingReply
from cellcast_django.health import age
from cellcast_django.models import Message

STOP_WISH_LATE = timedelta(days=3)  # then it is red: Australia's law gives five business days
BACK = "back"  # of a form's address: where it leads back to
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
    stop_wish: SafeString | str
    """Since when they may want to stop."""
    wish: Any
    """The reply that says so, with a part of its text."""
    opt_out_url: str
    """The form that opts out who may want to stop, for those who may."""

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
    def own_number(self) -> SafeString | str:
        """Which of your numbers it was written to, if theirs were written to several."""
        several = len({each.own_number for each in self.customer.replies}) > 1
        return own_number_html(self.reply) if several else ""


@shown
class ToAnswerContent:
    """A page of customers who wait, and what narrows it."""

    rows: Sequence[CustomerRow]
    page: Any
    """Django's, of all who are found."""
    choice: Choice
    url: str
    waiting: Waiting
    notes: Sequence[Note]
    """What is said of the search."""
    own_numbers: Sequence[str]
    """The numbers to choose from; empty where customers write to a single one."""
    may_handle: bool
    undo: Undo
    news_url: str

    @property
    def pages(self) -> list[tuple[int | str, str]]:
        """The pages by their numbers, and where some are left out, without an address."""
        numbers = self.page.paginator.get_elided_page_range(self.page.number)
        return [(each, self._url_of(each) if isinstance(each, int) else "") for each in numbers]

    def _url_of(self, page: int) -> str:
        return self.url + self.choice.query(p=page if page > 1 else "")

    @property
    def other_order_url(self) -> str:
        order = "" if self.choice.longest_first else "longest"
        return self.url + self.choice.query(order=order, p="")

    nothing_found = staticmethod(nothing_found)


class ToAnswerPage(DeskPage):
    """A row for each customer who waits, a page at a time."""

    name = TO_ANSWER
    route = "to-answer/"
    model = Message
    title = _("To answer")
    template = "cellcast_desk/to_answer.html"

    @classmethod
    def url_at(cls, viewer: Viewer, choice: Choice, reply: int | None) -> str:
        """Return where the row is of whose newest reply has this key; without one, the list."""
        fragment = f"#cellcast-waiting-{reply}" if reply else ""
        return cls.url(viewer) + choice.query() + fragment

    def show(self) -> HttpResponse:
        viewer, choice, waiting = self.viewer, Choice.of(self.request), self.waiting
        found, notes = waiting.find(choice)
        page = Paginator(found, PER_PAGE).get_page(choice.page)
        marked = take_marked_last(viewer)
        contacts = (each.newest.contact for each in page)
        known = viewer.directory.customers([*contacts, *marked.values()])
        content = ToAnswerContent(
            rows=list(self.rows(page, choice, known)),
            page=page,
            choice=choice,
            url=self.url(viewer),
            waiting=waiting.count(),
            notes=notes,
            own_numbers=own_numbers(viewer.latest_rows(Message)),
            may_handle=viewer.may("handle_message"),
            undo=Undo(marked, known),
            news_url=News.url(viewer),
        )
        return self.render(content)

    def rows(
        self, page: Iterable[WaitingCustomer], choice: Choice, known: dict[str, Customer]
    ) -> Iterator[CustomerRow]:
        """Yield them with their newest reply, unless that is deleted at this moment."""
        messages = self.viewer.latest_rows(Message).defer("body", "original_body")
        wishes = filter(None, map(self.waiting.wish_of, page))
        replies = messages.in_bulk([row.pk for row in (*wishes, *(each.newest for each in page))])
        # What somebody has searched for is in the addresses of the list and its forms alone.
        query = choice.query(q="")
        for each in (each for each in page if each.newest.pk in replies):
            reply, wish = replies[each.newest.pk], self.waiting.wish_of(each)
            yield CustomerRow(
                reply=reply,
                customer=each,
                known=known.get(reply.contact) or Customer(reply.contact),
                url=ConversationPage.url(self.viewer, reply.pk) + query,
                stop_wish=stop_wish_badge(wish.created_at) if wish else "",
                wish=wish and replies.get(wish.pk),
                opt_out_url=self.opt_out_url(wish, choice) if wish else "",
            )

    def opt_out_url(self, wish: WaitingReply, choice: Choice) -> str:
        """Return the form for this wish, which leads back here; ``""`` where there is none."""
        url = opt_out_url(self.viewer, wish.pk, wish.contact)
        return url + choice.query(back=TO_ANSWER).replace("?", "&") if url else ""


def stop_wish_badge(since: datetime) -> SafeString:
    """Return since when a customer may want to stop: red while there is still time to act."""
    waited = age(since)
    words = gettext("may want to stop, %(age)s") % {"age": duration(waited)}
    return badge(Tone.BAD if waited >= STOP_WISH_LATE else Tone.WARNING, words)


class News(Page):
    """Tells an open page who waits and who has written since, and keeps nobody signed in."""

    name = "news"
    route = "to-answer/news/"
    model = Message

    def show(self) -> HttpResponse:
        waiting = WaitingList(self.viewer).count(key_in(self.request.GET, "since"))
        # Django's middleware saves no session that is a dict, whatever the settings say.
        self.request.session = dict(self.request.session.items())  # type: ignore[assignment]
        return JsonResponse({"waiting": str(waiting), "new": waiting.new})
