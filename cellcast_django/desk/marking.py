"""*Done*, *Undo* and *Reopen* on the desk's pages; *Mark as done* and *Mark as new* in the list."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.confirmation import tell_left
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import counted, grouped
from cellcast_django.admin.lists.filters import OwnNumberFilter
from cellcast_django.admin.lists.paging import is_key, key_in
from cellcast_django.admin.own_numbers import senders
from cellcast_django.admin.page import MAX_SECONDS, Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.desk import handling
from cellcast_django.desk.answering import TextForm, draft_key, typed
from cellcast_django.desk.conversation import ConversationPage
from cellcast_django.desk.to_answer import BACK, PER_PAGE, ToAnswerPage
from cellcast_django.desk.waiting import Choice, WaitingList, WaitingReply
from cellcast_django.models import Direction, Message, database_alias
from cellcast_django.models.message import MAX_NOTE_LENGTH

LIST_QUERY = "_changelist_filters"
"""Of a form's address: how the list of messages is narrowed that it stands in."""

MAX_UNASKED = 50  # replies that an action marks without asking
BATCH_SIZE = 100  # replies marked in one transaction


class Handle(Page):
    """Marks one reply or those that are ticked, and the customers' earlier ones, as handled."""

    name = "handle"
    model = Message
    permissions = ("handle_message",)
    only_takes_forms = True

    def show(self) -> HttpResponse:
        viewer, choice = self.viewer, Choice.of(self.request)
        # Taken away: error trackers report it with each error that is logged.
        form, self.request.POST = self.request.POST, QueryDict()
        note = typed(form, "note")
        keys = keys_of(form.getlist("one")[:1] or form.getlist("reply"))
        wanted = handling.replies_of(viewer).filter(pk__in=keys)
        by_key = wanted.defer("body", "original_body").in_bulk()
        replies = [by_key[key] for key in keys if key in by_key]  # in the order of the page
        if not replies:
            raise Http404
        if len(note) > MAX_NOTE_LENGTH:
            return ConversationPage(viewer).refuse_note(replies[-1], note, typed(form, "text"))
        marked = handling.with_earlier(
            viewer, wanted, own_number=choice.own_number, seen_until=key_in(form, "seen")
        )
        # The page may be an old one, with what an earlier click has marked.
        new = [reply for reply in replies if reply.handled_at is None]
        outcome = handling.mark(viewer, [row.pk for row in marked], timezone.now(), note)
        if outcome.replies:
            if len(new) == 1:
                viewer.log(new[0], "Marked as done.")
            else:
                viewer.log_list(Message, f"Marked {len(new)} replies as done.")
            self.request.session[handling.UNDO] = [reply.pk for reply in new]
        self.tell_done_already([reply for reply in replies if reply.handled_at is not None])
        neighbours = WaitingList(viewer).neighbours(choice, replies[-1], marked)
        if form.get(BACK) == "next" and neighbours.following is not None:
            url = ConversationPage.url(viewer, neighbours.following) + choice.query()
        else:
            url = url_back(viewer, choice, replies[-1], neighbours.closest, form.get(BACK))
        # By a second click of one's own it is kept already.
        kept = wanted.filter(handled_by=viewer.username, handled_note=note)
        if note and (outcome.has_note or kept.exists()):
            url += TextForm("", draft_key(viewer, replies[-1].contact)).fragment("done")
        elif note:
            words = gettext("Your note was not kept: somebody else was first.")
            viewer.tell(words, messages.WARNING)
        return HttpResponseRedirect(url)

    def tell_done_already(self, replies: Sequence[Message]) -> None:
        """Say what a colleague, or code, had done; one's own second click needs no word."""
        people = {reply.handled_by for reply in replies} - {self.viewer.username}
        if people:
            names = ", ".join(sorted(each or gettext("the site") for each in people))
            words = gettext("Done already, by %(names)s.") % {"names": names}
            self.viewer.tell(words, messages.INFO)


class Reopen(Page):
    """Makes replies new again: of one customer, or what the last click has handled."""

    name = "reopen"
    model = Message
    permissions = ("handle_message",)
    only_takes_forms = True

    def show(self) -> HttpResponse:
        form, viewer = self.request.POST, self.viewer
        is_undo = "one" not in form
        keys = keys_of(form.get("replies", "").split(",") if is_undo else [form["one"]])
        wanted = handling.replies_of(viewer).filter(pk__in=keys)
        if is_undo:
            done = handling.to_undo(viewer, keys)
        else:
            done = list(wanted.filter(handled_at__isnull=False))
        if reopened := handling.reopen(viewer, handling.handled_with(viewer, done)):
            if len(done) == 1:
                viewer.log(done[0], "Reopened.")
            else:
                viewer.log_list(Message, f"Reopened {counted(reopened, 'reply', 'replies')}.")
            viewer.tell(new_again(reopened))
        if left := max(len(keys), 1) - len(done):  # a key, or a form without one, is a customer
            words = ngettext(
                "%(count)s customer stays as it is: answered since, or undone already.",
                "%(count)s customers stay as they are: answered since, or undone already.",
                left,
            )
            viewer.tell(words % {"count": left}, messages.WARNING)
        if LIST_QUERY in self.request.GET:
            query = self.request.GET[LIST_QUERY]
            return HttpResponseRedirect(f"{viewer.url(Message, 'changelist')}?{query}")
        last: Message | None = wanted.last()
        row = last.pk if last else None
        url = url_back(viewer, Choice.of(self.request), last, row, form.get(BACK))
        return HttpResponseRedirect(url)


def keys_of(wanted: Sequence[str]) -> list[int]:
    """Return the keys that a form names, as many as a page has rows."""
    return [int(key) for key in wanted if is_key(key)][:PER_PAGE]


def url_back(
    viewer: Viewer, choice: Choice, message: Message | None, row: int | None, back: str | None
) -> str:
    """Return the page of the click: the message's, its conversation, or a row of the list."""
    if message is not None and back == "change":
        return viewer.url(Message, back, message.pk)
    if message is not None and back == "conversation":
        return ConversationPage.url(viewer, message.pk) + choice.query()
    return ToAnswerPage.url_at(viewer, choice, row)


def marked_as_done(count: int) -> str:
    """Return a sentence about replies that are done."""
    words = ngettext("%(count)s reply marked as done.", "%(count)s replies marked as done.", count)
    return words % {"count": grouped(count)}


def new_again(count: int) -> str:
    """Return a sentence about replies that are new again."""
    words = ngettext("%(count)s reply is new again.", "%(count)s replies are new again.", count)
    return words % {"count": grouped(count)}


class MarkSelected(Page):
    """Marks the replies that are selected in the list; asks first if that is many.

    As done, it marks the customers' earlier replies too, within the number that the list is
    narrowed to.
    """

    model = Message
    template = "cellcast_desk/mark.html"

    def act_on(self, selected: Any, action: Any) -> HttpResponse | None:
        """Ask if that is many; once confirmed, mark the replies that the page asked about."""
        is_done, form = action is mark_done, self.request.POST
        if "confirmed" in form:
            keys = [int(key) for key in form.get("keys", "").split(",") if is_key(key)]
        else:
            rows = self.rows_to_mark(selected, is_done=is_done)
            keys = [row.pk for row in rows]
            if len(rows) > MAX_UNASKED:
                content = Content(
                    action=action.__name__,
                    keys=keys,  # what comes meanwhile is left alone
                    has_more=False,  # it marks as many as are chosen
                    customers=len({row.contact or row.pk for row in rows}),
                    back_url=self.request.get_full_path(),
                )
                return self.render(content, title=action.short_description)
        self.mark(keys, is_done=is_done)
        return None

    def mark(self, keys: list[int], *, is_done: bool) -> None:
        """Mark in batches, each of which commits; after 20 seconds none begins."""
        viewer, left, count, at = self.viewer, keys, 0, timezone.now()
        end = monotonic() + MAX_SECONDS
        while left and monotonic() < end:
            batch, left = left[:BATCH_SIZE], left[BATCH_SIZE:]
            if is_done:
                count += handling.mark(viewer, batch, at).replies
            else:
                count += handling.reopen(viewer, batch)
        marked = counted(count, "reply", "replies")
        if count:
            log = f"Marked {marked} as done." if is_done else f"Reopened {marked}."
            viewer.log_list(Message, log)
        viewer.tell(marked_as_done(count) if is_done else new_again(count))
        tell_left(viewer, len(left))

    def rows_to_mark(self, selected: Any, *, is_done: bool) -> list[WaitingReply]:
        # A replica may not know yet what has been marked.
        replies = selected.using(database_alias()).filter(direction=Direction.INBOUND)
        if not is_done:
            return handling.rows_of(replies.filter(handled_at__isnull=False))
        asked = self.request.GET.get(OwnNumberFilter.parameter_name, "")
        known = senders(self.viewer.latest_rows(Message))
        own = asked if asked in known else ""  # the list is not narrowed by any other
        return handling.with_earlier(self.viewer, replies, own_number=own)


@admin.action(description=_("Mark as done"))
def mark_done(model_admin: Any, request: HttpRequest, queryset: Any) -> HttpResponse | None:
    """Mark the selected replies and the customers' earlier ones as handled."""
    return MarkSelected(model_admin.viewer(request)).act_on(queryset, mark_done)


@admin.action(description=_("Mark as new"))
def mark_new(model_admin: Any, request: HttpRequest, queryset: Any) -> HttpResponse | None:
    """Make the selected replies new again, whoever has handled them."""
    return MarkSelected(model_admin.viewer(request)).act_on(queryset, mark_new)


def reopen_column(viewer: Viewer) -> Callable[[Message], str]:
    """Return a button for each reply that is done; it sends the form that is around the list."""
    place = urlencode({LIST_QUERY: viewer.request.GET.urlencode()})
    url = f"{Reopen.url(viewer)}?{place}"

    @admin.display(
        description=format_html('<span class="cellcast-hidden">{}</span>', _("Reopen")),
        empty_value="",
    )
    def reopen(message: Message) -> str:
        if not message.handled_at:
            return ""
        return format_html(
            '<button type="submit" class="cellcast-button cellcast-button-quiet" name="one"'
            ' formaction="{}" value="{}">{}</button>',
            url,
            message.pk,
            gettext("Reopen"),
        )

    return reopen
