"""A conversation that somebody begins: a number and a text, for a customer who has never written.

It takes a permission of its own, and no other: a person who may not look at messages can do it,
and learns nothing of who has been written to.
"""

from typing import Any

from django.contrib import messages as notices
from django.http import HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _, gettext_lazy

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.page import Page
from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.desk.answering import Outcome, Sending, TextForm
from cellcast_django.desk.conversation import ConversationPage, keep_draft
from cellcast_django.models import Message, database_alias
from cellcast_django.payloads import MAX_NUMBER_LENGTH, clean


@shown
class NewForm:
    """What the page shows: the form, filled in with what was not sent."""

    number: str
    form: TextForm
    may_view: bool
    """Whether this person may look at messages, and so at the pages that lead here."""

    max_number_length = MAX_NUMBER_LENGTH


class Beginning(Sending):
    """The first message to a customer."""

    def refusal(self) -> Outcome | None:
        if (newest := self._seen()) is not None:
            keep_draft(self.viewer.request, newest, self.text)
            words = _(
                "Not sent: there is a conversation with this customer already. Read it, and send "
                "yours below if it is still needed."
            )
            return Outcome(notices.WARNING, words, newest)
        if Message.objects.fresh().filter(contact=self.contact).exists():
            return Outcome.not_sent(_("you cannot write to this number."))
        return None

    def _seen(self) -> Message | None:
        """Return the newest message of the customer that this person may see."""
        if not self.viewer.may_view(Message):
            return None
        rows: Any = self.viewer.rows(Message).using(database_alias())
        found: Message | None = rows.filter(contact=self.contact).order_by("-created_at").first()
        return found

    def has_sent(self, sent: Message) -> None:
        self.viewer.log(sent, "Began a conversation with it.")

    def log_loss(self, sentence: str) -> None:
        self.viewer.log_list(Message, sentence)


class NewConversation(Page):
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
        number = clean(self.request.POST.get("number", ""))[:MAX_NUMBER_LENGTH].strip()
        beginning = Beginning(self.viewer, to_contact(number), shown=0)
        if self.request.method == "POST":
            outcome = beginning.send()
            self.viewer.tell(outcome.sentence, outcome.level)
            if outcome.leads_to is not None:
                return HttpResponseRedirect(self._url_of(outcome.leads_to))
        may_view = self.viewer.may_view(Message)
        return self.render(NewForm(number, TextForm(beginning.text), may_view))

    def _url_of(self, message: Message) -> str:
        """Return the conversation of a message, or this page if this person may not see it."""
        viewer = self.viewer
        rows: Any = viewer.rows(Message).using(database_alias())
        if viewer.may_view(Message) and rows.filter(pk=message.pk).exists():
            return ConversationPage.url(viewer, message.pk)
        return self.url(viewer)
