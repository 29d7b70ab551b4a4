"""The conversation with a contact as a thread, opened at the newest message, and the answer to it.

Its URL names a message, never a phone number: URLs end up in the logs of web servers.
"""

from collections.abc import Sequence
from datetime import date, datetime
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.contrib import messages as notices
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from cellcast_django.admin.contacts import Customer, Named, customer_of, references_of
from cellcast_django.admin.display.badges import although_opted_out_badge, status_badge
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import (
    Unprinted,
    beginning,
    exact_time,
    number_html,
    own_number_html,
)
from cellcast_django.admin.lists.filters import configured_own_numbers, own_numbers
from cellcast_django.admin.lists.paging import is_key, older_than
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.desk.answering import (
    Outcome,
    Sending,
    TextForm,
    can_send_to,
    is_in_doubt,
)
from cellcast_django.desk.customer import CustomerTools
from cellcast_django.desk.page import Switch, number_switches
from cellcast_django.desk.to_answer import (
    Choice,
    Replies,
    ToAnswer,
    newer_than,
    not_handled,
    pop_undo,
)
from cellcast_django.models import (
    Direction,
    Message,
    OptOut,
    OptOutChange,
    database_alias,
)

PER_PAGE = 50
AROUND = 3  # messages before and after the one that the page is about
MAX_QUOTE_LENGTH = 80  # characters of the text that a reply answers
MAX_DIVIDERS = 50  # newest changes of an opt-out in a thread


@shown
class Bubble:
    """A message in the thread."""

    message: Message
    url: str
    is_current: bool
    """Whether the page is about it alone."""
    has_own_number: bool
    """Whether to say which of several numbers it went to, or came from."""
    reference: Named | None = None

    @property
    def at(self) -> datetime:
        return self.message.created_at

    @property
    def is_reply(self) -> bool:
        return self.message.direction == Direction.INBOUND

    @property
    def badge(self) -> SafeString | None:
        """The status of a sent message; that of a reply says only that it arrived."""
        return None if self.is_reply else status_badge(self.message.status)

    @property
    def although_opted_out(self) -> SafeString:
        return although_opted_out_badge(self.message.opted_out_at)

    @property
    def quote(self) -> str:
        return beginning(self.message.original_body, MAX_QUOTE_LENGTH)

    @property
    def own_number(self) -> SafeString | str:
        return own_number_html(self.message) if self.has_own_number else ""

    @property
    def handled(self) -> str:
        """When somebody dealt with a reply: the time alone if it was on the same day."""
        at = self.message.handled_at
        if at is None:
            return ""
        same_day = timezone.localtime(at).date() == timezone.localtime(self.at).date()
        return date_format(timezone.localtime(at), "H:i") if same_day else exact_time(at)


def day_words(day: date) -> str:
    """Return a day as a heading: ``Today, 26 Nov 2026``."""
    written = date_format(day, "j M Y")
    match (timezone.localdate() - day).days:
        case 0:
            return _("Today, %(day)s") % {"day": written}
        case 1:
            return _("Yesterday, %(day)s") % {"day": written}
    return written


@shown
class Thread:
    """Some messages of a conversation, and where to find the others."""

    bubbles: Sequence[Bubble]
    dividers: Sequence[OptOutChange]
    """Where an opt-out began or ended."""
    url: str
    older_url: str = ""
    newest_url: str = ""

    @property
    def days(self) -> list[tuple[date, str, list[Bubble | OptOutChange]]]:
        """What happened, by the days of the reader's time zone, with their headings."""
        items: list[Bubble | OptOutChange] = [*self.bubbles, *self.dividers]
        items.sort(key=attrgetter("at"))
        by_day = groupby(items, key=lambda item: timezone.localtime(item.at).date())
        return [(day, day_words(day), list(each)) for day, each in by_day]

    @property
    def shown(self) -> int:
        """The highest key of a message that is shown; 0 if none is."""
        return max((int(bubble.message.pk) for bubble in self.bubbles), default=0)

    @property
    def newest_reply(self) -> Message | None:
        replies = (each.message for each in reversed(self.bubbles) if each.is_reply)
        return next(replies, None)


class Conversation:
    """The messages with the contact of one message, as one person sees them on one site."""

    def __init__(self, viewer: Viewer, message: Message, own: str = "") -> None:
        self.viewer = viewer
        self.message = message
        self.own_numbers = own_numbers(viewer.rows(Message))
        self.own_number = own if own in self.own_numbers else ""
        same = {"contact": message.contact} if message.contact else {"pk": message.pk}
        # Never from a replica, which may not have a colleague's answer of a moment ago.
        shown: Any = viewer.rows(Message).using(database_alias())
        self.messages = shown.filter(**same)
        if self.own_number:
            # Those of a name may belong to any number.
            is_named = ~Q(own_number__startswith="+")
            self.messages = self.messages.filter(Q(own_number=self.own_number) | is_named)

    @cached_property
    def customer(self) -> Customer:
        return customer_of(self.message.contact)

    @property
    def url(self) -> str:
        return ConversationPage.url(self.viewer, self.message.pk)

    def thread(self, before: str, choice: Choice) -> Thread:
        messages = self.messages
        first = self.messages.filter(pk=int(before)).first() if is_key(before) else None
        if first is not None:
            messages = older_than(messages, "created_at", first.created_at, first.pk)
        found = list(messages.order_by("-created_at", "-pk")[: PER_PAGE + 1])
        shown, url = found[:PER_PAGE], self.url + choice.query()
        has_older = len(found) > PER_PAGE
        return Thread(
            bubbles=self._bubbles(shown[::-1]),
            dividers=self._dividers(
                shown[-1].created_at if has_older else None, first and first.created_at
            ),
            url=url,
            older_url=self.url + choice.query(before=shown[-1].pk) if has_older else "",
            newest_url="" if first is None else url,
        )

    def around(self) -> Thread:
        place = ("created_at", self.message.created_at, self.message.pk)
        before = older_than(self.messages, *place).order_by("-created_at", "-pk")[:AROUND]
        after = list(newer_than(self.messages, *place).order_by("created_at", "pk")[: AROUND + 1])
        thread = [*reversed(before), self.message, *after[:AROUND]]
        end = next((each.created_at for each in after[AROUND:]), None)
        dividers = self._dividers(thread[0].created_at, end)
        return Thread(self._bubbles(thread, self.message), dividers, url=self.url)

    def waiting(self) -> list[Message]:
        """Return the oldest and the newest reply that nobody has dealt with; none if none waits."""
        waiting = not_handled(self.messages).defer("body", "original_body")
        newest = waiting.order_by("-created_at", "-pk").first()
        oldest = newest and waiting.order_by("created_at", "pk").first()
        return [oldest, newest] if oldest and newest else []

    @property
    def can_be_answered(self) -> bool:
        """Whether answers can be sent to this customer, and by this person."""
        return can_send_to(self.message.contact) and self.viewer.may("answer_message")

    @cached_property
    def written_to(self) -> str:
        """The own number or name that the customer's newest reply says it was written to."""
        replies = self.messages.inbound().order_by("-created_at", "-pk")
        number: str | None = replies.values_list("own_number", flat=True).first()
        return number or ""

    @cached_property
    def sender(self) -> str:
        """The own number or name that an answer goes out from; ``""`` for any.

        A webhook may claim that the customer wrote to anything, so that alone is not enough.
        """
        if self.own_number:
            return self.own_number
        return self.written_to if is_own_number(self.written_to) else ""

    def _bubbles(self, messages: Sequence[Any], current: Message | None = None) -> list[Bubble]:
        references = references_of(self.viewer, (each.reference for each in messages))
        return [
            Bubble(
                message=message,
                url=self.viewer.url(Message, "change", message.pk),
                is_current=message == current,
                has_own_number=bool(self.own_numbers),
                reference=references.get(message.reference),
            )
            for message in messages
        ]

    def _dividers(self, start: datetime | None, end: datetime | None) -> list[OptOutChange]:
        """Return where an opt-out of the contact began or ended, between two times."""
        if not self.message.contact or not self.viewer.may_view(OptOut):
            return []
        opt_outs = self.viewer.rows(OptOut).filter(contact=self.message.contact)
        changes = OptOutChange.objects.filter(opt_out__in=opt_outs).order_by("-pk")
        if start is not None:
            changes = changes.filter(at__gte=start)
        if end is not None:
            changes = changes.filter(at__lt=end)
        return list(changes[:MAX_DIVIDERS])


DRAFT = "cellcast_django.draft"
"""The session's key for a text that was not sent, until the conversation is opened."""


def keep_draft(request: HttpRequest, message: Message, text: str) -> None:
    """Let the form in a message's conversation begin with a text: no address may hold it."""
    request.session[DRAFT] = [message.pk, text]


def take_draft(request: HttpRequest, message: Message) -> str:
    """Return the text that was kept for a message's conversation, once."""
    key, text = request.session.get(DRAFT, [None, ""])
    if key != message.pk:
        return ""
    del request.session[DRAFT]
    return str(text)


class Answering(Sending):
    """An answer to the customer."""

    def __init__(self, conversation: Conversation) -> None:
        shown = conversation.viewer.request.POST.get("shown", "")
        super().__init__(
            conversation.viewer,
            conversation.message.contact,
            shown=int(shown) if is_key(shown) else None,
            sender=conversation.sender,
        )
        self.conversation = conversation

    def refusal(self) -> Outcome | None:
        if not self.conversation.messages.outbound().filter(pk__gt=self.shown).exists():
            return None
        words = _(
            "Not sent: this customer has been sent a message that the page did not show you. Read "
            "it, and send yours below if it is still needed."
        )
        return Outcome(notices.WARNING, words)

    def log_loss(self, sentence: str) -> None:
        self.viewer.log(self.conversation.message, sentence)

    def has_sent(self, sent: Message) -> None:
        self.viewer.log(sent, "Sent it from the conversation.")
        answered = self.form.get("answers", "")
        replies = self.conversation.messages.inbound()
        if is_key(answered) and (reply := replies.filter(pk=int(answered)).first()):
            own_number = self.conversation.own_number
            Replies(self.viewer).handle(
                [reply], timezone.now(), own_number=own_number, seen_until=self.shown
            )


def is_own_number(number: str) -> bool:
    """Whether a number or name is known to be yours, by more than a webhook's word."""
    if found := configured_own_numbers():
        return number in found
    recorded = Message.objects.fresh().filter(own_number=number, recorded_at__isnull=False)
    return bool(number) and recorded.exists()


@shown
class ConversationContent:
    """What the page shows."""

    customer: Customer
    thread: Thread
    choice: Choice
    form: TextForm | None
    """``None`` where no answers can be sent to this customer, or by this person."""
    sender: str
    """The own number or name that the answer goes out from, if there are several."""
    unknown_sender: str
    """What the customer wrote to, if the answer does not go out from it."""
    is_in_doubt: bool
    """Whether somebody's answer may have been sent, and no message tells of it."""
    waiting: Message | None
    """The newest reply that nobody has dealt with, if this person may say that it is done."""
    done: Message | None
    """The newest reply that is shown, if it is done and this person may reopen it."""
    next_key: int | None
    """The message with the next customer who waits."""
    next_url: str
    back_url: str
    """The place in the list that the person came from."""
    numbers: Sequence[Switch]
    undo: Sequence[int]
    tools: CustomerTools

    @property
    def linked_label(self) -> SafeString:
        """The number and name for the heading, the name as a link."""
        number = number_html(self.customer.contact)
        return format_html("{} ({})", number, self.customer.named.html)

    @classmethod
    def of(
        cls, conversation: Conversation, choice: Choice, text: str, before: str
    ) -> "ConversationContent":
        viewer, message = conversation.viewer, conversation.message
        may_handle, has_form = viewer.may("handle_message"), conversation.can_be_answered
        sender = conversation.sender if has_form else ""
        thread, waiting = conversation.thread(before, choice), conversation.waiting()
        newest = thread.newest_reply
        is_done = newest is not None and newest.handled_at is not None
        next_key = Replies(viewer).next_waiting(choice, message.contact, waiting)
        to_next = "" if next_key is None else ConversationPage.url(viewer, next_key)
        return cls(
            customer=conversation.customer,
            thread=thread,
            choice=choice,
            form=TextForm(text) if has_form else None,
            sender=sender if conversation.own_numbers else "",
            unknown_sender=conversation.written_to if has_form and not sender else "",
            is_in_doubt=is_in_doubt(message.contact),
            waiting=waiting[-1] if waiting and may_handle else None,
            done=newest if is_done and may_handle else None,
            next_key=next_key,
            next_url=to_next and to_next + choice.query(),
            back_url=f"{ToAnswer.url(viewer)}{choice.query()}#cellcast-waiting-{message.pk}",
            numbers=number_switches(
                conversation.own_numbers,
                conversation.own_number,
                lambda own: conversation.url + choice.query(own=own),
            ),
            undo=pop_undo(viewer.request),
            tools=CustomerTools.of(viewer, message, conversation.customer),
        )


class ConversationPage(Page):
    """The thread, or what precedes the message in ``?before=``; a POST sends an answer."""

    name = "conversation"
    route = "<int:pk>/conversation/"
    model = Message
    title = gettext_lazy("Conversation")
    template = "cellcast_desk/conversation.html"

    def show(self, pk: int) -> HttpResponse:
        message = self.viewer.rows(Message).filter(pk=pk).first()
        if message is None:
            return self.render(None)
        choice = Choice.of(self.request)
        conversation = Conversation(self.viewer, message, choice.own_number)
        if self.request.method == "POST":
            if not conversation.can_be_answered:
                raise PermissionDenied
            answering = Answering(conversation)
            outcome = answering.send()
            self.viewer.tell(outcome.sentence, outcome.level)
            if outcome.leads_to:
                return HttpResponseRedirect(conversation.url + choice.query())
            # Shows what the form did not: the newest messages.
            text, before = answering.text, ""
        else:
            text, before = take_draft(self.request, message), self.request.GET.get("before", "")
        content = ConversationContent.of(conversation, choice, text, before)
        words = conversation.customer.label or _("(no number)")
        title = Unprinted(_("Conversation with %(customer)s") % {"customer": words})
        return self.render(content, title=title)


@shown
class AroundMessage:
    """The messages before and after one, on its page, and what can be said of a reply."""

    thread: Thread
    message: Message
    may_handle: bool
    undo: Sequence[int]

    @classmethod
    def of(cls, viewer: Viewer, message: Message) -> "AroundMessage":
        may_handle = message.direction == Direction.INBOUND and viewer.may("handle_message")
        thread = Conversation(viewer, message).around()
        return cls(thread, message, may_handle, pop_undo(viewer.request))
