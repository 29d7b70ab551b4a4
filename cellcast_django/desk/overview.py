"""The overview: whether webhooks arrive, what needs attention, what recovery found.

For those who may view all events. Of messages it shows them what they may view.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db import Error
from django.http import HttpResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.actions import Action, RunCallAgain, SkipCall
from cellcast_django.admin.confirmation import ActOnHandler, calls_url
from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import beginning, duration, grouped
from cellcast_django.admin.lists.filters import CallStateFilter, StatusFilter, TestFilter
from cellcast_django.admin.lists.read_only import is_ours
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.connected import connected_handlers
from cellcast_django.database.transactions import hint_of
from cellcast_django.days import midnight
from cellcast_django.desk.page import DeskPage, LinkedCount, url_of_page, views_all_of
from cellcast_django.health import (
    Deferred,
    Handlers,
    Light,
    count_invalid,
    count_silent,
    failing_handlers,
    last_credit,
    look_into_tables,
    measure_deferred,
    measure_handlers,
    measure_webhooks,
    real_calls,
    slowest_handlers,
)
from cellcast_django.models import CommandRun, HandlerCall, Message, WebhookEvent
from cellcast_django.recovery.client import ApiList

MAX_OVERDUE = timedelta(minutes=15)
"""If an attempt is overdue by more, ``cellcast_run_handlers`` is not running."""
OPTED_OUT_DAYS = 7  # for so long it shows messages to contacts who had opted out
MIN_SECONDS = 1  # that a call takes which is among the slowest
MAX_ERROR_LENGTH = 160  # characters of a handler's error
LIGHT_TONES = {Light.NEVER: Tone.QUIET, Light.RECEIVED: Tone.QUIET, Light.UNREPORTED: Tone.BAD}


def events_part(viewer: Viewer) -> Content | None:
    """Return what the overview and the app's index say of events.

    ``None`` for those who may not view all of them.
    """
    if not views_all_of(viewer, WebhookEvent):
        return None
    webhooks, deferred, handlers = measure_webhooks(), measure_deferred(), measure_handlers()
    return Content(
        not_done=list(_not_done(viewer, deferred, handlers)),
        deferred=deferred,
        comes_first=viewer.may("rerun_webhookevent"),  # this person runs handlers
        lights=[  # whether webhooks arrive at each URL
            (url, badge(LIGHT_TONES[url.light], url.light.label)) for url in webhooks.urls.values()
        ],
        is_new=webhooks.last_at is None,
        overdue=duration(handlers.overdue) if handlers.overdue > MAX_OVERDUE else None,
        failing_handlers=list(_failing_handlers(viewer)),
    )


def _not_done(
    viewer: Viewer, deferred: Deferred, handlers: Handlers
) -> Iterator[tuple[LinkedCount, SafeString]]:
    """Yield how many events are not stored, and how many calls wait, with badges; no zeros."""
    url = f"{viewer.url(WebhookEvent, 'changelist')}?test={TestFilter.WITHOUT}&outcome="
    if deferred.count:
        tone = Tone.BAD if deferred.is_overdue else Tone.OPEN
        yield LinkedCount(deferred.count, f"{url}deferred"), badge(tone, _("deferred"))
    if invalid := count_invalid():
        yield LinkedCount(invalid, f"{url}invalid"), badge(Tone.BAD, _("invalid"))
    if handlers.waiting:
        waiting = HandlerCall.State.WAITING
        url = calls_url(viewer, state=waiting.value)
        yield LinkedCount(handlers.waiting, url), badge(Tone.OPEN, waiting.label)


def _url_for_handler(viewer: Viewer, handler: str, action: type[Action]) -> str:
    """Return the page of an action on a handler's calls; empty for those who may not."""
    if not viewer.may("rerun_webhookevent") or not is_ours(viewer.site, HandlerCall):
        return ""
    return f"{ActOnHandler.url(viewer, action.name)}?{urlencode({'handler': handler})}"


def _failing_handlers(viewer: Viewer) -> Iterator[Content]:
    """Yield the handlers whose calls fail, and what this person can do about each."""
    connected = set(connected_handlers())
    for failing in failing_handlers():
        name = failing.handler
        calls = real_calls().failing().filter(handler=name).order_by("-failing_since")
        error = calls.values_list("error", flat=True).first() or ""  # the newest one
        yield Content(
            handler=failing,
            is_missing=name not in connected,  # in this process
            error=beginning(error, MAX_ERROR_LENGTH),
            list_url=calls_url(viewer, handler=name, state=CallStateFilter.FAILING),
            run_again_url=_url_for_handler(viewer, name, RunCallAgain),
            skip_url=_url_for_handler(viewer, name, SkipCall),
        )


def recovery_part(viewer: Viewer) -> Content | None:
    """Return what webhooks failed to bring, what recovery last found, and the credit it has read.

    ``None`` for those who may not view all messages.
    """
    if not views_all_of(viewer, Message):
        return None
    # Sent messages of which nothing was heard for hours: recovery may find their reports.
    count = count_silent(StatusFilter.SILENT_AFTER)
    return Content(
        silent=LinkedCount(count, f"{viewer.url(Message, 'changelist')}?status=silent"),
        has_key=bool(conf.api_key),
        ran_at=CommandRun.last(CommandRun.Command.RECOVER),
        lists=list(_lists(CommandRun.last_summary(CommandRun.Command.RECOVER))),
        credit=last_credit(),
    )


def _lists(summary: dict[str, Any]) -> Iterator[tuple[str | Promise, str | Promise, bool]]:
    """Yield each of Cellcast's lists: its name, what was found, whether it was not read whole."""
    for kind in (each for each in ApiList if each.value in summary):
        read = summary[kind.value]
        counts = {"missing": grouped(read["missing"]), "seen": grouped(read["seen"])}
        missing, nothing = _("%(missing)s of %(seen)s missing"), _("nothing was missing")
        found = (missing if read["missing"] else nothing) % counts
        is_partly_read = read["is_read"] and bool(read["error"])
        yield kind.label, found if read["is_read"] else _("not read"), is_partly_read


class Overview(DeskPage):
    """Whether webhooks arrive, what needs attention, and what recovery has found."""

    name = "overview"
    title = _("Overview")
    template = "cellcast_desk/overview.html"

    @property
    def is_allowed(self) -> bool:
        return views_all_of(self.viewer, WebhookEvent)

    def show(self) -> HttpResponse:
        try:
            look_into_tables()
        except Error as error:
            if not (hint := hint_of(error)):
                raise
            return self.turn_away(hint, messages.ERROR)
        content = Content(  # the parts that this person may not view are None
            although_opted_out=self.although_opted_out(),
            events=events_part(self.viewer),
            slowest=[each for each in slowest_handlers() if each.seconds >= MIN_SECONDS],
            recovery=recovery_part(self.viewer),
            setup_url=url_of_page(self.viewer, "setup"),
        )
        return self.render(content)

    def although_opted_out(self) -> LinkedCount | None:
        """Return the messages of the last week that went to somebody who had opted out."""
        if not self.viewer.may_view(Message):
            return None
        first = timezone.localdate() - timedelta(days=OPTED_OUT_DAYS - 1)
        rows = self.viewer.rows(Message)
        count = rows.filter(opted_out_at__isnull=False, created_at__gte=midnight(first)).count()
        list_url = self.viewer.url(Message, "changelist")
        return LinkedCount(count, f"{list_url}?opted_out=sent&from={first.isoformat()}")
