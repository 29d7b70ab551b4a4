"""*Mark as done*, *Mark as new* and *Reopen* in the list of messages.

Whoever may mark replies as done may take it back at any time, whoever did it.
"""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import counted, grouped
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.page import MAX_SECONDS, Page
from cellcast_django.admin.selection import tell_left
from cellcast_django.admin.viewer import Viewer
from cellcast_django.desk.to_answer import Reopen, Replies, new_again
from cellcast_django.models import Direction, Message, database_alias

MAX_UNASKED = 50  # replies that an action marks without asking

BATCH_SIZE = 100  # replies marked by one statement, which is a transaction of its own


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
    """Marks the replies that are selected in the list; asks first if there are many."""

    model = Message
    template = "cellcast_desk/mark.html"

    def act_on(self, replies: Any, action: Any) -> HttpResponse | None:
        newest = self.request.POST.get("newest", "")
        # A replica may not know yet what a batch marked.
        replies = replies.using(database_alias())
        if is_key(newest):
            self._mark(replies.filter(pk__lte=int(newest)), action, int(newest))
        elif len(replies.order_by().values("pk")[: MAX_UNASKED + 1]) > MAX_UNASKED:
            return self._ask(replies.order_by(), action)
        else:
            self._mark(replies, action, None)
        return None

    def _ask(self, replies: Any, action: Any) -> HttpResponse:
        form = self.request.POST
        is_across = form.get("select_across", "0") != "0"
        selected = form.getlist(ACTION_CHECKBOX_NAME)
        known = replies.exclude(contact="").values("contact").distinct().count()
        asked = Marking(
            action=action.__name__,
            replies=replies.count(),
            customers=known + replies.filter(contact="").count(),
            newest=replies.aggregate(newest=Max("pk"))["newest"],
            selected=selected[:1] if is_across else selected,
            is_across=is_across,
            back_url=self.request.get_full_path(),
        )
        return self.render(asked, title=action.short_description)

    def _mark(self, replies: Any, action: Any, newest: int | None) -> None:
        """Mark in batches, each of which commits; after 20 seconds none begins.

        Says and logs how many were marked, and says how many of the selected ones are left.
        """
        marker = Replies(self.viewer)
        newest_first = replies.defer("body", "original_body").order_by("-created_at", "-pk")
        at, end, count = timezone.now(), monotonic() + MAX_SECONDS, 0
        while (batch := list(newest_first[:BATCH_SIZE])) and monotonic() < end:
            if action is mark_done:
                count += marker.handle(batch, at, seen_until=newest)
            else:
                count += marker.mark_new([reply.pk for reply in batch])
        marked = counted(count, "reply", "replies")
        if action is mark_done:
            log = f"Marked {marked} as done."
            words = ngettext(
                "%(count)s reply marked as done.", "%(count)s replies marked as done.", count
            )
            said = words % {"count": grouped(count)}
        else:
            log, said = f"Reopened {marked}.", new_again(count)
        if count:
            self.viewer.log_list(Message, log)
        self.viewer.tell(said)
        tell_left(self.viewer, replies.count() if batch else 0)


@admin.action(description=_("Mark as done"))
def mark_done(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]
) -> HttpResponse | None:
    """Mark the selected replies and the customers' earlier ones as handled."""
    page = MarkSelected(Viewer(model_admin.admin_site, request))
    waiting = queryset.filter(direction=Direction.INBOUND, handled_at=None)
    return page.act_on(waiting, mark_done)


@admin.action(description=_("Mark as new"))
def mark_new(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]
) -> HttpResponse | None:
    """Make the selected replies new again, whoever has handled them."""
    page = MarkSelected(Viewer(model_admin.admin_site, request))
    handled = queryset.filter(direction=Direction.INBOUND, handled_at__isnull=False)
    return page.act_on(handled, mark_new)


def reopen_column(viewer: Viewer) -> Callable[[Message], str]:
    """Return a button for each reply that is done; it sends the form that is around the list."""
    url = Reopen.url(viewer)

    @admin.display(description="", empty_value="")
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
