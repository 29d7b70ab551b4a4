"""The conversation with a contact as a thread, opened at the newest message, and the answer to it.

Its URL names a message, never a phone number: URLs end up in the logs of web servers.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.contrib import messages as notices
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from cellcast_django.admin.customers import Customer, Named
from cellcast_django.admin.display.badges import although_opted_out_badge, status_badge
from cellcast_django.admin.display.shown import Content, shown
from cellcast_django.admin.display.texts import Unprinted, beginning, exact_time, own_number_html
from cellcast_django.admin.lists.paging import key_in, older_than
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.desk.answering import (
    Notice,
    Sending,
    TextForm,
    can_send_to,
    doubt_about,
    draft_key,
    texts_to_choose_from,
    typed,
)
from cellcast_django.desk.customer import tools_for
from cellcast_django.desk.handling import Undo, mark, take_marked_last, with_earlier
from cellcast_django.desk.page import (
    TO_ANSWER,
    DeskPage,
    Switch,
    number_switches,
    own_numbers,
    url_of_page,
)
from cellcast_django.desk.waiting import Choice, WaitingReply
from cellcast_django.models import Direction, Message, OptOut, OptOutChange
from cellcast_django.models.claim import Claim
from cellcast_django.models.message import MAX_NOTE_LENGTH, is_own_number, may_be_of

PER_PAGE = 50
MAX_QUOTE_LENGTH = 80  # characters of the text that a reply answers
MAX_DIVIDERS = 50  # newest changes of an opt-out in a thread


@shown
class Bubble:
    """A message in the thread."""

    message: Message
    url: str
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
    older_url: str
    newest_url: str

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
        same = {"contact": message.contact} if message.contact else {"pk": message.pk}
        self.all_messages = self.messages = viewer.latest_rows(Message).filter(**same)
        self.own_number = own if own in self.numbers_used else ""
        if self.own_number:
            self.messages = self.messages.filter(may_be_of(self.own_number))

    @cached_property
    def numbers_used(self) -> list[str]:
        """Your numbers that this customer has written to, or was sent from, if you have several.

        As far as this person sees the messages: nobody answers from a number of other people's.
        """
        known = own_numbers(self.viewer.rows(Message))
        if not known:
            return []
        used = set(self.all_messages.order_by().values_list("own_number", flat=True).distinct())
        return [number for number in known if number in used]

    @cached_property
    def marked(self) -> dict[int, str]:
        """The replies that the last click has marked as done: of another customer, perhaps."""
        return take_marked_last(self.viewer)

    @cached_property
    def customers(self) -> dict[str, Customer]:
        """The customer, and those of the replies that are ``marked``, by contact."""
        return self.viewer.directory.customers([self.message.contact, *self.marked.values()])

    @property
    def customer(self) -> Customer:
        contact = self.message.contact
        return self.customers.get(contact) or Customer(contact)

    @property
    def url(self) -> str:
        return ConversationPage.url(self.viewer, self.message.pk)

    def thread(self, before: int | None, choice: Choice) -> Thread:
        """Return the newest messages, or those that precede the one with this key."""
        end = None if before is None else self.messages.filter(pk=before).first()
        messages = self.messages
        if end is not None:
            messages = older_than(messages, "created_at", end.created_at, end.pk)
        found = list(messages.order_by("-created_at", "-pk")[: PER_PAGE + 1])
        shown = found[:PER_PAGE]
        oldest = shown[-1] if len(found) > PER_PAGE else None  # where the older ones begin
        return Thread(
            bubbles=self._bubbles(shown[::-1]),
            dividers=self._dividers(oldest, end),
            older_url=self.url + choice.query(before=oldest.pk) if oldest else "",
            newest_url=self.url + choice.query() if end else "",
        )

    @property
    def can_be_answered(self) -> bool:
        """Whether answers can be sent to this customer, and by this person."""
        return can_send_to(self.message.contact) and self.viewer.may("answer_message")

    @property
    def is_unanswerable(self) -> bool:
        """Whether nobody can answer this customer, on a site that answers others."""
        return bool(conf.send_with) and not can_send_to(self.message.contact)

    @cached_property
    def written_to(self) -> str:
        """The own number or name that the customer's newest reply says it was written to."""
        replies = self.messages.inbound().order_by("-created_at", "-pk")
        return str(replies.values_list("own_number", flat=True).first() or "")

    @cached_property
    def sender(self) -> str:
        """The own number or name that an answer goes out from; ``""`` for any.

        A webhook may claim that the customer wrote to anything, so that alone is not enough.
        """
        if self.own_number:
            return self.own_number
        return self.written_to if is_own_number(self.written_to) else ""

    def _bubbles(self, messages: Sequence[Any]) -> list[Bubble]:
        references = self.viewer.directory.references(each.reference for each in messages)
        return [
            Bubble(
                message=message,
                url=self.viewer.url(Message, "change", message.pk),
                has_own_number=len(self.numbers_used) > 1,
                reference=references.get(message.reference),
            )
            for message in messages
        ]

    def _dividers(self, start: Message | None, end: Message | None) -> list[OptOutChange]:
        """Return where an opt-out of the contact began or ended, from one message to another."""
        if not self.message.contact or not self.viewer.may_view(OptOut):
            return []
        opt_outs = self.viewer.rows(OptOut).filter(contact=self.message.contact)
        changes = OptOutChange.objects.fresh().filter(opt_out__in=opt_outs)
        if start is not None:
            changes = changes.filter(at__gte=start.created_at)
        if end is not None:
            changes = changes.filter(at__lt=end.created_at)
        return list(changes.order_by("-pk")[:MAX_DIVIDERS])


class Answering(Sending):
    """An answer to the customer."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(
            conversation.viewer,
            conversation.message.contact,
            shown=key_in(conversation.viewer.request.POST, "seen"),
            sender=conversation.sender,
            label=conversation.customer.label,
        )
        self.conversation = conversation
        self.note = typed(self.form, "note")
        self.asked_about = ""
        """The key of the message with the same text, once the person has been asked."""
        self.answered: list[WaitingReply] = []
        """The replies that are done by it."""

    def refusal(self) -> Notice | None:
        if self.note:  # a script has asked before, and takes it away
            words = _(
                "Not sent: your note goes with “Done” alone. Delete the note, or delete your text "
                "and press “Done”."
            )
            return Notice(notices.WARNING, words)
        if self.conversation.messages.outbound().filter(pk__gt=self.shown).exists():
            words = _(
                "Not sent: this customer has been sent a message that the page did not show you. "
                "Read it, and send yours below if it is still needed."
            )
            return Notice(notices.WARNING, words)
        # A browser that lost its connection before it was told offers a sent text again.
        sent = self.conversation.all_messages.outbound().exclude(body="")
        newest = sent.order_by("-created_at", "-pk").first()
        if newest is None or newest.body != self.text or str(newest.pk) == self.form.get("again"):
            return None
        self.asked_about = str(newest.pk)
        words = _(
            "Not sent: the last text to this customer was the same (%(time)s). Send it once more "
            "if you mean to."
        )
        return Notice(notices.WARNING, words % {"time": exact_time(newest.created_at)})

    def log_loss(self, sentence: str) -> None:
        self.viewer.log(self.conversation.message, sentence)

    def has_sent(self, sent: Message) -> None:
        self.viewer.log(sent, "Sent an answer.")
        key = key_in(self.form, "answers") or 0  # the page may have shown no reply
        reply = self.conversation.messages.inbound().filter(pk=key)
        self.answered = with_earlier(
            self.viewer, reply, own_number=self.conversation.own_number, seen_until=self.shown
        )
        mark(self.viewer, [row.pk for row in self.answered], timezone.now())


@shown
class ConversationContent:
    """What the page shows."""

    conversation: Conversation
    thread: Thread
    choice: Choice
    form: TextForm
    takes_answer: bool
    """Whether answers can be sent to this customer, and by this person."""
    texts: list[str]
    """What the host project offers to answer this customer with."""
    waiting: Message | None
    """The newest reply that nobody has dealt with, if this person may say that it is done."""
    done: Message | None
    """The newest reply that is shown, if it is done and this person may reopen it."""
    next_url: str
    """The conversation with the next customer who waits."""
    list_url: str
    tools: Content

    @property
    def customer(self) -> Customer:
        return self.conversation.customer

    @property
    def is_in_doubt(self) -> bool:
        """Whether somebody's answer may have been sent, and no message tells of it."""
        return Claim.is_taken(doubt_about(self.customer.contact))

    @property
    def numbers(self) -> list[Switch]:
        here, choice = self.conversation, self.choice
        return number_switches(
            here.numbers_used, here.own_number, lambda own: here.url + choice.query(own=own)
        )

    @property
    def undo(self) -> Undo:
        return Undo(self.conversation.marked, self.conversation.customers)

    @property
    def further_query(self) -> str:
        """Lets a form lead back to the conversation as it is narrowed."""
        return self.choice.query().replace("?", "&")


class ConversationPage(DeskPage):
    """The thread, or what precedes the message in ``?before=``; a POST sends an answer."""

    name = "conversation"
    route = "<int:pk>/conversation/"
    is_below_list = True
    model = Message
    title = gettext_lazy("Conversation")
    template = "cellcast_desk/conversation.html"

    def show(self, pk: int) -> HttpResponse:
        message = self.viewer.rows(Message).filter(pk=pk).first()
        if message is None:
            return self.render(None)  # which says that they may be deleted
        choice = Choice.of(self.request)
        conversation = Conversation(self.viewer, message, choice.own_number)
        form = TextForm("", draft_key(self.viewer, message.contact))
        if self.request.method != "POST":
            return self.render_content(conversation, choice, form)
        if not conversation.can_be_answered:
            raise PermissionDenied
        if "checked" in self.request.POST:
            Claim.end(doubt_about(message.contact))
            self.viewer.log(message, "A text that may have been sent was looked up.")
            return HttpResponseRedirect(conversation.url + choice.query())
        return self.answer(conversation, choice, form)

    def answer(self, conversation: Conversation, choice: Choice, form: TextForm) -> HttpResponse:
        """Send what was typed, and lead on; what is not known to be sent stays in the form."""
        message, answering = conversation.message, Answering(conversation)
        notice = answering.send()
        self.viewer.tell(notice.sentence, notice.level)
        if notice.leads_to is None:  # not known to be sent
            # Shows what the form did not: the newest messages, and an opt-out.
            now = Conversation(self.viewer, message, choice.own_number)
            form = replace(
                form, text=answering.text, note=answering.note, again=answering.asked_about
            )
            return self.render_content(now, choice, form)
        url = conversation.url + choice.query()
        if answering.form.get("then") == "next":
            url = self.next_url(choice, message, answering.answered) or self.list_url(choice)
        return HttpResponseRedirect(url + form.fragment("sent"))

    def refuse_note(self, message: Message, note: str, text: str) -> HttpResponse:
        """Show what was typed again: the note is too long."""
        words = _("Not done: the note has %(count)d characters, and the limit is %(limit)d.")
        limits = {"count": len(note), "limit": MAX_NOTE_LENGTH}
        self.viewer.tell(words % limits, notices.ERROR)
        choice = Choice.of(self.request)
        form = TextForm(text, draft_key(self.viewer, message.contact), note=note)
        now = Conversation(self.viewer, message, choice.own_number)
        return self.render_content(now, choice, form)

    def next_url(
        self, choice: Choice, message: Message, marked: Sequence[WaitingReply] = ()
    ) -> str:
        """Return the conversation with the next customer in the list; after the last, the first.

        Empty if nobody else waits. The ``marked`` replies say where the customer stood until now.
        """
        following = self.waiting.neighbours(choice, message, marked).following
        return "" if following is None else self.url(self.viewer, following) + choice.query()

    def list_url(self, choice: Choice) -> str:
        return url_of_page(self.viewer, TO_ANSWER) + choice.query()

    def render_content(
        self, conversation: Conversation, choice: Choice, form: TextForm
    ) -> HttpResponse:
        message, customer = conversation.message, conversation.customer
        # A text that was not sent stands below the newest messages.
        thread = conversation.thread(
            None if form.text else key_in(self.request.GET, "before"), choice
        )
        newest = thread.newest_reply
        waiting = done = None
        if self.viewer.may("handle_message"):
            unhandled = conversation.messages.unhandled().defer("body", "original_body")
            waiting = unhandled.order_by("-created_at", "-pk").first()
            is_done = waiting is None and newest is not None and newest.handled_at is not None
            done = newest if is_done else None
        shown = [bubble.message for bubble in thread.bubbles]
        wish = next((each for each in shown if each.pk in self.waiting.wishes), None)
        asked_in = wish or newest or message  # with which an opt-out would be proved
        takes_answer = conversation.can_be_answered and customer.opted_out_since is None
        directory = self.viewer.directory
        texts = texts_to_choose_from(directory, message.contact) if takes_answer else []
        content = ConversationContent(
            conversation=conversation,
            thread=thread,
            choice=choice,
            form=form,
            takes_answer=takes_answer,
            texts=texts,
            waiting=waiting,
            done=done,
            next_url=self.next_url(choice, message),
            list_url=self.list_url(choice),
            tools=tools_for(self.viewer, asked_in, customer),
        )
        words = customer.label or _("(no number)")
        title = Unprinted(_("Conversation with %(customer)s") % {"customer": words})
        return self.render(content, title=title)


def panel_content(viewer: Viewer, message: Message) -> Content:
    """Return what a message's page shows of the desk: it leads to the conversation."""
    marked = take_marked_last(viewer)
    return Content(
        message=message,
        may_handle=message.direction == Direction.INBOUND and viewer.may("handle_message"),
        conversation_url=ConversationPage.url(viewer, message.pk),
        undo=Undo(marked, viewer.directory.customers(marked.values())),
    )
