"""A conversation that somebody begins: whom, and a text, for a customer who has never written.

It takes a permission of its own, and no other: a person who may not look at messages can do it,
and learns nothing of who has been written to. Who may look at them finds customers by name.
"""

from collections.abc import Sequence

from django.contrib import messages as notices
from django.http import HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _, gettext_lazy

from cellcast_django.admin.customers import Customer
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.own_numbers import configured_own_numbers
from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.desk.answering import Notice, Sending, TextForm, can_send_to, draft_key
from cellcast_django.desk.conversation import ConversationPage
from cellcast_django.desk.page import DeskPage, own_numbers
from cellcast_django.models import Message
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.payloads import MAX_NUMBER_LENGTH, clean

MAX_FOUND = 20  # customers of one name to choose from


class Beginning(Sending):
    """The first message to a customer."""

    def refusal(self) -> Notice | None:
        newest: Message | None = None
        if self.viewer.may_view(Message):  # their newest message that this person may see
            theirs = self.viewer.latest_rows(Message).filter(contact=self.contact)
            newest = theirs.order_by("-created_at").first()
        if newest is not None:
            if is_opted_out(self.contact):
                words = _("Not sent: this customer has opted out.")
                return Notice(notices.ERROR, words, newest)
            words = _(
                "Not sent: there is a conversation with this customer already. Read it, and send "
                "yours below if it is still needed."
            )
            return Notice(notices.WARNING, words, newest, is_kept=True)
        if Message.objects.fresh().filter(contact=self.contact).exists():  # hidden from the person
            return Notice.not_sent(_("you cannot write to this number."))
        return None

    def has_sent(self, sent: Message) -> None:
        self.viewer.log(sent, "Wrote first.")

    def log_loss(self, sentence: str) -> None:
        self.viewer.log_list(Message, sentence)


class NewConversation(DeskPage):
    """The form; a POST sends, and leads to the conversation."""

    name = "new"
    model = Message
    title = gettext_lazy("New conversation")
    template = "cellcast_desk/new_conversation.html"

    @property
    def is_allowed(self) -> bool:
        """Looking at messages is not needed."""
        return bool(conf.send_with) and self.viewer.may("write_message")

    def show(self) -> HttpResponse:
        posted, senders = self.request.POST, self.senders()
        number = clean(posted.get("number", ""))[:MAX_NUMBER_LENGTH].strip()
        chosen = posted.get("sender", "")
        sender = chosen if chosen in senders else next(iter(senders), "")  # the first, or any
        found = self.customers_named(number)
        meant = self.chosen(found) if found else Customer(to_contact(number))
        whom = meant or Customer("")  # nobody yet: nothing is sent
        # It takes the form away, so everything else is read before. No message was shown.
        beginning = Beginning(self.viewer, whom.contact, shown=0, sender=sender, label=whom.label)
        form = TextForm(beginning.text, draft=draft_key(self.viewer, ""))  # for whoever it will be
        if self.request.method == "POST":
            if meant is None:  # a name: the person has to say whom it means
                notice = Notice(notices.INFO, _("Not sent yet: is this whom you mean?"))
            else:
                notice = beginning.send()
            self.viewer.tell(notice.sentence, notice.level)
            if notice.leads_to is not None:
                fragment = form.fragment("moved" if notice.is_kept else "sent")
                return HttpResponseRedirect(self._url_of(notice.leads_to) + fragment)
        content = Content(
            number=number,
            max_number_length=MAX_NUMBER_LENGTH,
            found=found,  # customers whom the words in the place of a number may mean
            senders=senders,
            sender=sender,  # empty: any of your numbers
            form=form,  # filled in with what was not sent
            may_view=self.viewer.may_view(Message),  # and so search by name
            in_doubt=beginning.may_be_sent,  # although it is still in the form
        )
        return self.render(content)

    def senders(self) -> list[str]:
        """Return your numbers and names that a text may go out from, as far as they are known."""
        if not self.viewer.may_view(Message):
            return configured_own_numbers()
        return own_numbers(self.viewer.rows(Message)) or configured_own_numbers()

    def customers_named(self, words: str) -> list[Customer]:
        """Return whom words may mean that are no number, for those who may view messages."""
        if can_send_to(to_contact(words)) or not self.viewer.may_view(Message):
            return []
        directory = self.viewer.directory
        contacts, _has_more = directory.search(words)
        found = directory.customers(filter(can_send_to, contacts[:MAX_FOUND]))
        return sorted(found.values(), key=lambda each: each.name)

    def chosen(self, found: Sequence[Customer]) -> Customer | None:
        """Return who of those with a name is meant; ``None`` until the person has chosen one.

        A single one with messages need not be: nothing is sent, but their conversation opens.
        """
        contact = self.request.POST.get("contact")
        if contact is None and len(found) == 1:
            has_messages = self.viewer.rows(Message).filter(contact=found[0].contact).exists()
            return found[0] if has_messages else None
        return next((each for each in found if each.contact == contact), None)

    def _url_of(self, message: Message) -> str:
        """Return the conversation of a message, or this page if this person may not see it."""
        viewer = self.viewer
        if viewer.may_view(Message) and viewer.latest_rows(Message).filter(pk=message.pk).exists():
            return ConversationPage.url(viewer, message.pk)
        return self.url(viewer)
