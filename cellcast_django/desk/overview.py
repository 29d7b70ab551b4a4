"""The overview: whether webhooks arrive, what needs attention, what recovery found.

For those who may view events. Of messages it shows them what they may view.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _, ngettext

from cellcast_django.admin.confirmation import url_for_handler
from cellcast_django.admin.display.badges import EVENT_STATES, Tone, badge
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import beginning, duration, grouped
from cellcast_django.admin.event_actions import EventAction, RunAgain, SkipHandler
from cellcast_django.admin.lists.filters import StatusFilter, TestFilter
from cellcast_django.admin.lists.read_only import is_ours
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.days import midnight
from cellcast_django.desk.page import DeskPage, LinkedCount, url_of_page, views_all_of
from cellcast_django.handlers.calls import OPT_OUT_SUFFIX, connected_handlers
from cellcast_django.health import (
    MAX_UNFINISHED,
    Credit,
    HeldUp,
    Light,
    SlowHandler,
    WebhookHealth,
    count_invalid,
    count_silent,
    held_up,
    last_credit,
    measure_handlers,
    measure_webhooks,
    real_events,
    slowest_handlers,
)
from cellcast_django.models import CommandRun, Message, WebhookEvent, time_of
from cellcast_django.recovery.client import Kind

MAX_OVERDUE = timedelta(minutes=15)
"""If an attempt is overdue by more, ``cellcast_run_handlers`` is not running."""

OPTED_OUT_DAYS = 7
"""How long the overview shows a message that was sent although its contact had opted out."""

MIN_SECONDS = 1
"""How long a call takes that is among the slowest."""

MAX_ERROR_LENGTH = 160  # characters of a handler's error
MAX_ERRORS = 5  # texts of a handler's errors

LIGHT_TONES = {
    Light.NEVER: Tone.QUIET,
    Light.RECEIVED: Tone.GOOD,
    Light.UNREPORTED: Tone.BAD,
}


@shown
class FailingHandler:
    """The events that one handler keeps from being done, and what this person can do about it."""

    name: str
    """Empty for failed events without a handler that is connected in this process."""
    is_missing: bool
    """Whether it is not connected in this process."""
    failed: int
    """Those that no attempt is planned for; it may never have run for them."""
    retrying: int
    first_at: datetime
    """When the oldest of these events arrived."""
    error: str
    """The newest one; empty if it has not run yet."""
    last_at: datetime | None
    """When it was raised."""
    errors: list[tuple[str, int]]
    """The most frequent errors with their counts; none for one, which stands above."""
    other_errors: int
    """How many events any other error was raised for."""
    list_url: str
    retry_url: str
    skip_url: str


@shown
class EventsPart:
    """What the overview and the app's index say of events."""

    not_done: list[tuple[LinkedCount, SafeString]]
    """How many events are in each state that is not done, and its badge; of none, nothing."""
    comes_first: bool
    """Whether this person runs handlers, rather than answers customers."""
    lights: list[tuple[WebhookHealth, SafeString]] | None = None
    """Whether webhooks arrive at each URL; ``None`` for those who may see only some events."""
    is_new: bool = False
    overdue: str | None = None
    handlers_ran_at: datetime | None = None
    failing_handlers: tuple[FailingHandler, ...] = ()
    max_counted: str | None = None

    @classmethod
    def of(cls, viewer: Viewer) -> "EventsPart | None":
        """Return the part about events; ``None`` for those who may not view them."""
        if not viewer.may_view(WebhookEvent):
            return None
        comes_first = viewer.may("rerun_webhookevent")
        if viewer.is_restricted(WebhookEvent):
            events: Any = viewer.rows(WebhookEvent).filter(is_test=False)
            states = ("invalid", "failed", "retrying", "waiting")
            counts = {state: getattr(events, state)().count() for state in states}
            return cls(list(_not_done(viewer, counts)), comes_first)
        webhooks = measure_webhooks()
        handlers = measure_handlers()
        counts = {
            "invalid": count_invalid(),
            "failed": handlers.failed,
            "retrying": handlers.retrying,
            "waiting": handlers.waiting,
        }
        is_capped = max(handlers.pending, handlers.failed) > MAX_UNFINISHED
        return cls(
            not_done=list(_not_done(viewer, counts)),
            comes_first=comes_first,
            lights=[
                (each, badge(LIGHT_TONES[each.light], each.light.label))
                for each in webhooks.urls.values()
            ],
            is_new=webhooks.last_at is None,
            overdue=duration(handlers.overdue) if handlers.overdue > MAX_OVERDUE else None,
            handlers_ran_at=handlers.ran_at,
            failing_handlers=tuple(_failing_handlers(viewer)),
            max_counted=grouped(MAX_UNFINISHED) if is_capped else None,
        )


def _not_done(viewer: Viewer, counts: dict[str, int]) -> Iterator[tuple[LinkedCount, SafeString]]:
    list_url = viewer.url(WebhookEvent, "changelist")
    for state, count in counts.items():
        if count:
            url = f"{list_url}?outcome={state}&test={TestFilter.WITHOUT}"
            yield LinkedCount(count, url), badge(*EVENT_STATES[state])


def _failing_handlers(viewer: Viewer) -> Iterator[FailingHandler]:
    """Yield the handlers that have failed, or that nothing calls for an event, by name."""
    list_url = viewer.url(WebhookEvent, "changelist")
    connected = set(connected_handlers())

    def url_of(action: type[EventAction], name: str) -> str:
        is_here = is_ours(viewer.site, WebhookEvent)
        return url_for_handler(viewer, action, name) if is_here else ""

    for name, events in _held_up_by_handler():
        is_missing = bool(name) and name.removesuffix(OPT_OUT_SUFFIX) not in connected
        failed = sum(event.has_ended for event in events)
        raised = [
            (time_of(event.results[name]["at"]), event.errors[name])
            for event in events
            if event.errors[name]
        ]
        last_at, error = max(raised, default=(None, ""))
        errors = Counter(text for _at, text in raised).most_common()
        shown = [(beginning(text, MAX_ERROR_LENGTH), count) for text, count in errors[:MAX_ERRORS]]
        yield FailingHandler(
            name=name,
            is_missing=is_missing,
            failed=failed,
            retrying=len(events) - failed,
            first_at=min(event.received_at for event in events),
            error=beginning(error, MAX_ERROR_LENGTH),
            last_at=last_at,
            errors=shown if len(shown) > 1 else [],
            other_errors=sum(count for _text, count in errors[MAX_ERRORS:]),
            list_url=f"{list_url}?{urlencode({'handler': name, 'test': TestFilter.WITHOUT})}",
            retry_url="" if is_missing else url_of(RunAgain, name),
            skip_url=url_of(SkipHandler, name),
        )


def _held_up_by_handler() -> list[tuple[str, list[HeldUp]]]:
    """Return the events that each handler keeps from being done; those without a name come last."""
    found: dict[str, list[HeldUp]] = {}
    for event in held_up(real_events()):
        for name in event.errors:
            found.setdefault(name, []).append(event)
    return sorted(found.items(), key=lambda each: (not each[0], each[0]))


@shown
class RecoveryPart:
    """How many messages are silent, what recovery last found, and the credit it has read."""

    silent: LinkedCount
    has_key: bool
    ran_at: datetime | None
    lists: list[tuple[str | Promise, str | Promise, bool]]
    """Of each of Cellcast's lists: its name, what was found, and whether it was not read whole."""
    credit: Credit | None

    @classmethod
    def of(cls, viewer: Viewer) -> "RecoveryPart | None":
        if not views_all_of(viewer, Message):
            return None
        count = count_silent(StatusFilter.SILENT_AFTER)
        return cls(
            silent=LinkedCount(count, f"{viewer.url(Message, 'changelist')}?status=silent"),
            has_key=bool(conf.api_key),
            ran_at=CommandRun.last(CommandRun.Command.RECOVER),
            lists=list(lists(CommandRun.last_summary(CommandRun.Command.RECOVER))),
            credit=last_credit(),
        )


def lists(
    summary: dict[str, dict[str, Any]],
) -> Iterator[tuple[str | Promise, str | Promise, bool]]:
    """Yield what was found in each list that was read."""
    for kind in Kind:
        if kind.value not in summary:
            continue
        read = summary[kind.value]
        missing, seen, is_read = read["missing"], read["seen"], read["is_read"]
        found = ngettext(
            "%(missing)s of %(seen)s was missing", "%(missing)s of %(seen)s were missing", missing
        ) % {"missing": grouped(missing), "seen": grouped(seen)}
        yield kind.label, found if is_read else _("not read"), bool(read["error"] and is_read)


@shown
class OverviewContent:
    """What the page shows; the parts that this person may not view are ``None``."""

    although_opted_out: LinkedCount | None
    events: EventsPart | None
    slowest: list[SlowHandler]
    recovery: RecoveryPart | None
    setup_url: str


class Overview(DeskPage):
    """Whether webhooks arrive, what needs attention, and what recovery has found."""

    name = "overview"
    title = _("Overview")
    template = "cellcast_desk/overview.html"

    @property
    def is_allowed(self) -> bool:
        return self.viewer.may_view(WebhookEvent)

    def show(self) -> HttpResponse:
        slowest = slowest_handlers() if views_all_of(self.viewer, WebhookEvent) else []
        content = OverviewContent(
            although_opted_out=self.although_opted_out(),
            events=EventsPart.of(self.viewer),
            slowest=[each for each in slowest if each.seconds >= MIN_SECONDS],
            recovery=RecoveryPart.of(self.viewer),
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
