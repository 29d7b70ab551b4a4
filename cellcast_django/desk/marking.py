"""*Done*, *Undo* and *Reopen* on the desk's pages; *Mark as done* and *Mark as new* in the list."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import counted, grouped
from cellcast_django.admin.lists.filters import OwnNumberFilter
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.own_numbers import own_numbers
from cellcast_django.admin.page import MAX_SECONDS, Page
from cellcast_django.admin.selection import tell_left
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
        if wanted and not found:
            get_object_or_404(chosen)
        # The page may be an old one, with what an earlier click has marked.
        new = [reply for reply in found if reply.handled_at is None]
        seen = form.get("seen", "")
        rows = handling.with_earlier(
            viewer,
            chosen,
            own_number=choice.own_number,
            seen_until=int(seen) if is_key(seen) else None,
        )
        if handling.mark_done(viewer, [row.pk for row in rows], timezone.now()):
            if len(new) == 1:
                viewer.log(new[0], "Marked as done.")
            else:
                viewer.log_list(Message, f"Marked {len(new)} replies as done.")
            self.request.session[handling.UNDO] = [reply.pk for reply in new]
        self._tell_done_before([reply for reply in found if reply not in new])
        if not found:
            viewer.tell(gettext("Tick at least one customer first."), messages.WARNING)
            return to_list(viewer, choice)
        message, waiting = found[-1], WaitingList(viewer)
        before, after = waiting.around(choice, message, rows)
        if form.get(BACK) == "next" and (following := next(iter(after + before), None)):
            return HttpResponseRedirect(
                ConversationPage.url(viewer, following.newest.pk) + choice.query()
            )
        row = next(iter(after + before[::-1]), None)
        return to_list(viewer, choice, message, row.newest.pk if row else None)

    def _tell_done_before(self, replies: Sequence[Message]) -> None:
        """Say what colleagues, or code, had done; one's own second click needs no word."""
        others = [each for each in replies if each.handled_by != self.viewer.username]
        if others:
            words = ngettext(
                "%(count)s customer had been done already: %(names)s.",
                "%(count)s customers had been done already: %(names)s.",
                len(others),
            )
            names = sorted({each.handled_by or gettext("by the site") for each in others})
            said = words % {"count": len(others), "names": ", ".join(names)}
            self.viewer.tell(said, messages.INFO)


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
        if reopened := handling.mark_new(viewer, handling.handled_with(viewer, found)):
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
    viewer: Viewer,
    choice: Choice,
    message: Message | None = None,
    row: int | None = None,
) -> HttpResponseRedirect:
    """Return to the page that the click was on: of a message, or to a row of a list."""
    back = viewer.request.POST.get(BACK, "")
    if message is not None and back == "change":
        return HttpResponseRedirect(viewer.url(Message, back, message.pk))
    if message is not None and back == "conversation":
        return HttpResponseRedirect(ConversationPage.url(viewer, message.pk) + choice.query())
    url = ToAnswerPage.url(viewer) + choice.query()
    if back == "section":
        label = Message._meta.app_label
        url = reverse("admin:app_list", args=[label], current_app=viewer.site.name)
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
    replies: int
    customers: int
    newest: int
    """What has come since the page was made is left alone."""
    selected: Sequence[str]
    """The rows that were ticked; one of them if all that the list finds are meant."""
    is_across: bool
    back_url: str

    checkbox_name = ACTION_CHECKBOX_NAME

    @property
    def sentence(self) -> str:
        replies = ngettext("%(count)s reply", "%(count)s replies", self.replies)
        customers = ngettext("%(count)s customer", "%(count)s customers", self.customers)
        return gettext("This marks %(replies)s from %(customers)s.") % {
            "replies": replies % {"count": grouped(self.replies)},
            "customers": customers % {"count": grouped(self.customers)},
        }


class MarkSelected(Page):
    """Marks the replies that are selected in the list; asks first if that is many."""

    model = Message
    template = "cellcast_desk/mark.html"
    action: ClassVar[str]

    def rows(self, selected: Any, newest: int | None) -> list[WaitingReply]:
        """Return what would be marked; what has come after the newest key is left alone."""
        raise NotImplementedError

    def mark(self, keys: Sequence[int]) -> int:
        raise NotImplementedError

    def said(self, count: int) -> tuple[str, str]:
        """Return what the log says of so many, and what the page says."""
        raise NotImplementedError

    def act_on(self, selected: Any) -> HttpResponse | None:
        """Ask, or mark in batches, each of which commits; after 20 seconds none begins."""
        newest = self.request.POST.get("newest", "")
        # A replica may not know yet what has been marked.
        selected = selected.using(database_alias()).filter(direction=Direction.INBOUND)
        rows = self.rows(selected, int(newest) if is_key(newest) else None)
        if len(rows) > MAX_UNASKED and not is_key(newest):
            return self._ask(rows)
        keys, end, count = [row.pk for row in rows], monotonic() + MAX_SECONDS, 0
        while keys and monotonic() < end:
            batch, keys = keys[:BATCH_SIZE], keys[BATCH_SIZE:]
            count += self.mark(batch)
        log, sentence = self.said(count)
        if count:
            self.viewer.log_list(Message, log)
        self.viewer.tell(sentence)
        tell_left(self.viewer, len(keys))
        return None

    def _ask(self, rows: Sequence[WaitingReply]) -> HttpResponse:
        form = self.request.POST
        is_across = form.get("select_across", "0") != "0"
        selected = form.getlist(ACTION_CHECKBOX_NAME)
        asked = Marking(
            action=self.action,
            replies=len(rows),
            customers=len({row.contact or row.pk for row in rows}),
            newest=max(row.pk for row in rows),
            selected=selected[:1] if is_across else selected,
            is_across=is_across,
            back_url=self.request.get_full_path(),
        )
        return self.render(asked)


class MarkDone(MarkSelected):
    """Marks them, and the customers' earlier replies, within the number of the list."""

    action = "mark_done"
    title = _("Mark as done")

    def rows(self, selected: Any, newest: int | None) -> list[WaitingReply]:
        own_number = self.request.GET.get(OwnNumberFilter.parameter_name, "")
        if own_number not in own_numbers(WaitingList(self.viewer).rows):
            own_number = ""  # the list ignores it too
        if newest is not None:
            selected = selected.filter(pk__lte=newest)
        return handling.with_earlier(
            self.viewer, selected, own_number=own_number, seen_until=newest
        )

    def mark(self, keys: Sequence[int]) -> int:
        return handling.mark_done(self.viewer, keys, timezone.now())

    def said(self, count: int) -> tuple[str, str]:
        words = ngettext(
            "%(count)s reply marked as done.", "%(count)s replies marked as done.", count
        )
        log = f"Marked {counted(count, 'reply', 'replies')} as done."
        return log, words % {"count": grouped(count)}


class MarkNew(MarkSelected):
    """Makes them new again, whoever has handled them."""

    action = "mark_new"
    title = _("Mark as new")

    def rows(self, selected: Any, newest: int | None) -> list[WaitingReply]:
        handled = selected.filter(handled_at__isnull=False)
        if newest is not None:
            handled = handled.filter(pk__lte=newest)
        return handling.rows_of(handled)

    def mark(self, keys: Sequence[int]) -> int:
        return handling.mark_new(self.viewer, keys)

    def said(self, count: int) -> tuple[str, str]:
        return f"Reopened {counted(count, 'reply', 'replies')}.", new_again(count)


def in_list(page: Any) -> Callable[..., HttpResponse | None]:
    """Return the action as the list of messages offers it."""

    @admin.action(description=page.title)
    def act(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        chosen: MarkSelected = page(Viewer(model_admin.admin_site, request))
        return chosen.act_on(queryset)

    act.__name__ = page.action
    return act


LIST_ACTIONS = [in_list(MarkDone), in_list(MarkNew)]


def reopen_column(viewer: Viewer) -> Callable[[Message], str]:
    """Return a button for each reply that is done; it sends the form that is around the list."""
    place = urlencode({LIST_QUERY: viewer.request.GET.urlencode()})
    url = f"{Reopen.url(viewer)}?{place}"

    @admin.display(
        description=format_html('<span class="cellcast-hidden">{}</span>', _("Reopen")),
        empty_value="",
    )
    def reopen(message: Message) -> str:
        if message.direction != Direction.INBOUND or not message.handled_at:
            return ""
        return format_html(
            '<button type="submit" class="cellcast-button cellcast-button-quiet" name="one"'
            ' formaction="{}" value="{}">{}</button>',
            url,
            message.pk,
            gettext("Reopen"),
        )

    return reopen
