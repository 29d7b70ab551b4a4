"""*Done*, *Undo* and *Reopen* on the desk's pages; *Mark as done* and *Mark as new* in the list."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.confirmation import tell_left
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import counted, grouped
from cellcast_django.admin.lists.filters import OwnNumberFilter
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.own_numbers import senders
from cellcast_django.admin.page import MAX_SECONDS, Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.desk import handling
from cellcast_django.desk.conversation import ConversationPage
from cellcast_django.desk.to_answer import BACK, PER_PAGE, ToAnswerPage
from cellcast_django.desk.waiting import Choice, WaitingList, WaitingReply
from cellcast_django.models import Direction, Message, database_alias

LIST_QUERY = "_changelist_filters"
"""Of a form's address: how the list of messages is narrowed that it stands in."""

MAX_UNASKED = 50  # replies that an action marks without asking
BATCH_SIZE = 100  # replies marked by one statement, which is a transaction of its own


class Handle(Page):
    """Marks one reply or those that are ticked, and the customers' earlier ones, as handled."""

    name = "handle"
    model = Message
    permissions = ("handle_message",)
    only_takes_forms = True

    def show(self) -> HttpResponse:
        viewer, form, choice = self.viewer, self.request.POST, Choice.of(self.request)
        wanted = form.getlist("one")[:1] or form.getlist("reply")
        keys = keys_of(wanted)
        chosen = handling.replies_of(viewer).filter(pk__in=keys)
        replies = chosen.defer("body", "original_body").in_bulk()
        found = [replies[key] for key in keys if key in replies]
        if not found:
            raise Http404
        # The page may be an old one, with what an earlier click has marked.
        new = [reply for reply in found if reply.handled_at is None]
        own, seen = choice.own_number, form.get("seen", "")
        until = int(seen) if is_key(seen) else None
        rows = handling.with_earlier(viewer, chosen, own_number=own, seen_until=until)
        if handling.mark(viewer, [row.pk for row in rows], timezone.now()):
            if len(new) == 1:
                viewer.log(new[0], "Marked as done.")
            else:
                viewer.log_list(Message, f"Marked {len(new)} replies as done.")
            self.request.session[handling.UNDO] = [reply.pk for reply in new]
        # What a colleague, or code, had done; one's own second click needs no word.
        people = {each.handled_by for each in found if each not in new} - {viewer.username}
        if people:
            names = ", ".join(sorted(each or gettext("the site") for each in people))
            viewer.tell(gettext("Done already, by %(names)s.") % {"names": names}, messages.INFO)
        message, waiting = found[-1], WaitingList(viewer)
        others, after = waiting.around(choice, message, rows)
        if form.get(BACK) == "next" and (following := next(iter(after + others), None)):
            return HttpResponseRedirect(
                ConversationPage.url(viewer, following.newest.pk) + choice.query()
            )
        row = next(iter(after + others[::-1]), None)
        return to_list(viewer, choice, message, row.newest.pk if row else None)


class Reopen(Page):
    """Makes replies new again: of one customer, or what the last click has handled."""

    name = "reopen"
    model = Message
    permissions = ("handle_message",)
    only_takes_forms = True

    def show(self) -> HttpResponse:
        form, viewer = self.request.POST, self.viewer
        keys = keys_of([form["one"]] if "one" in form else form.get("replies", "").split(","))
        chosen = handling.replies_of(viewer).filter(pk__in=keys)
        if "one" in form:
            found = list(chosen.filter(handled_at__isnull=False))
        else:
            found = handling.to_undo(viewer, keys)
        if reopened := handling.mark(viewer, handling.handled_with(viewer, found), None):
            if len(found) == 1:
                viewer.log(found[0], "Reopened.")
            else:
                viewer.log_list(Message, f"Reopened {counted(reopened, 'reply', 'replies')}.")
            viewer.tell(new_again(reopened))
        if left := max(len(keys), 1) - len(found):
            words = ngettext(
                "%(count)s customer stays as it is: answered since, or undone already.",
                "%(count)s customers stay as they are: answered since, or undone already.",
                left,
            )
            viewer.tell(words % {"count": left}, messages.WARNING)
        if LIST_QUERY in self.request.GET:
            query = self.request.GET[LIST_QUERY]
            return HttpResponseRedirect(f"{viewer.url(Message, 'changelist')}?{query}")
        last: Any = chosen.last()
        return to_list(viewer, Choice.of(self.request), last, last and last.pk)


def keys_of(wanted: Sequence[str]) -> list[int]:
    """Return the keys that a form names, as many as a page has rows."""
    return [int(key) for key in wanted if is_key(key)][:PER_PAGE]


def to_list(
    viewer: Viewer, choice: Choice, message: Message | None = None, row: int | None = None
) -> HttpResponseRedirect:
    """Return to the page that the click was on: of a message, or to a row of a list."""
    back = viewer.request.POST.get(BACK, "")
    if message is not None and back == "change":
        return HttpResponseRedirect(viewer.url(Message, back, message.pk))
    if message is not None and back == "conversation":
        return HttpResponseRedirect(ConversationPage.url(viewer, message.pk) + choice.query())
    url = ToAnswerPage.url(viewer) + choice.query()
    return HttpResponseRedirect(url + (f"#cellcast-waiting-{row}" if row else ""))


def new_again(count: int) -> str:
    """Return a sentence about replies that are new again."""
    words = ngettext("%(count)s reply is new again.", "%(count)s replies are new again.", count)
    return words % {"count": grouped(count)}


# In the list of messages


@shown
class Marking:
    """What an action would mark, as the page asks for it."""

    action: str
    keys: Sequence[int]
    """The replies that it would mark: what comes meanwhile is left alone."""
    customers: int
    back_url: str


class MarkSelected(Page):
    """Marks the replies that are selected in the list; asks first if that is many.

    As done, it marks the customers' earlier replies too, within the number that the list is
    narrowed to.
    """

    model = Message
    template = "cellcast_desk/mark.html"

    def act_on(self, selected: Any, action: Any) -> HttpResponse | None:
        """Ask, or mark in batches, each of which commits; after 20 seconds none begins."""
        viewer, form, is_done = self.viewer, self.request.POST, action is mark_done
        keys = [int(key) for key in form.get("keys", "").split(",") if is_key(key)]
        if "confirmed" not in form:
            rows = self.rows_of(selected, is_done=is_done)
            keys = [row.pk for row in rows]
            if len(rows) > MAX_UNASKED:
                customers = len({row.contact or row.pk for row in rows})
                asked = Marking(action.__name__, keys, customers, self.request.get_full_path())
                return self.render(asked, title=action.short_description)
        at, count = timezone.now(), 0
        end = monotonic() + MAX_SECONDS
        while keys and monotonic() < end:
            batch, keys = keys[:BATCH_SIZE], keys[BATCH_SIZE:]
            count += handling.mark(viewer, batch, at if is_done else None)
        marked = counted(count, "reply", "replies")
        words = ngettext(
            "%(count)s reply marked as done.", "%(count)s replies marked as done.", count
        )
        if count:
            log = f"Marked {marked} as done." if is_done else f"Reopened {marked}."
            viewer.log_list(Message, log)
        viewer.tell(words % {"count": grouped(count)} if is_done else new_again(count))
        tell_left(viewer, len(keys))
        return None

    def rows_of(self, selected: Any, *, is_done: bool) -> list[WaitingReply]:
        """Return what would be marked of the selected rows."""
        # A replica may not know yet what has been marked.
        replies = selected.using(database_alias()).filter(direction=Direction.INBOUND)
        if not is_done:
            return handling.rows_of(replies.filter(handled_at__isnull=False))
        asked = self.request.GET.get(OwnNumberFilter.parameter_name, "")
        own = asked if asked in senders(WaitingList(self.viewer).rows) else ""  # as the list
        return handling.with_earlier(self.viewer, replies, own_number=own)


@admin.action(description=_("Mark as done"))
def mark_done(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]
) -> HttpResponse | None:
    """Mark the selected replies and the customers' earlier ones as handled."""
    return MarkSelected(model_admin.viewer(request)).act_on(queryset, mark_done)


@admin.action(description=_("Mark as new"))
def mark_new(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]
) -> HttpResponse | None:
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
