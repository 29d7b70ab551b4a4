"""The overview: whether webhooks arrive, what needs attention, and what recovery has found.

Each person sees the parts about the models that they may view.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _, ngettext

from cellcast_django.admin.confirmation import EventActionsAdmin
from cellcast_django.admin.display.badges import EVENT_STATES, Tone, badge
from cellcast_django.admin.display.texts import LinkedCount, beginning, duration, grouped, today
from cellcast_django.admin.event_actions import RunAgain, SkipHandler
from cellcast_django.admin.lists.filters import (
    StatusFilter,
    TestFilter,
    connected_handlers,
    midnight,
)
from cellcast_django.admin.page import Page
from cellcast_django.conf import conf
from cellcast_django.desk.to_answer import messages_to_answer
from cellcast_django.handlers.calls import OPT_OUT_SUFFIX
from cellcast_django.health import (
    MAX_UNFINISHED,
    FailingHandler,
    Light,
    WebhookHealth,
    Webhooks,
    count_invalid,
    count_silent,
    failing_handlers,
    measure_handlers,
    measure_webhooks,
)
from cellcast_django.models import MAX_USERNAME_LENGTH, CommandRun, Message, WebhookEvent
from cellcast_django.recovery.client import Kind

MAX_OVERDUE = timedelta(minutes=15)
"""If an attempt is overdue by more, ``cellcast_run_handlers`` is not running."""

OPTED_OUT_DAYS = 7
"""How long the overview shows a message that was sent although its contact had opted out."""

MAX_ERROR_LENGTH = 160  # characters of a handler's last error

MODELS: tuple[type[Model], ...] = (WebhookEvent, Message)
"""Permission to view one of these opens the overview, with the part about that model."""

LIGHT_TONES = {
    Light.NEVER: Tone.QUIET,
    Light.RECEIVING: Tone.GOOD,
    Light.QUIET: Tone.QUIET,
    Light.TOO_EARLY: Tone.QUIET,
    Light.SILENT: Tone.WARNING,
    Light.UNREPORTED: Tone.BAD,
}


@dataclass(frozen=True, kw_only=True)
class ShownHandler:
    """A failing handler, and what can be done about it by this person."""

    handler: FailingHandler
    list_url: str
    retry_url: str
    skip_url: str
    is_missing: bool
    """Whether it is not connected in this process."""

    @property
    def error(self) -> str:
        return beginning(self.handler.error, MAX_ERROR_LENGTH)

    @property
    def errors(self) -> list[tuple[str, int]]:
        """The types of its errors with their counts, the most frequent first; none for one."""
        types = self.handler.errors.most_common()
        return types if len(types) > 1 else []


@dataclass(frozen=True, kw_only=True)
class EventsPart:
    """What the overview and the app's index say of events."""

    needs_attention: list[tuple[LinkedCount, SafeString]]
    """How many events are in each state that needs attention, and the state's badge."""
    lights: list[tuple[WebhookHealth, SafeString]] | None = None
    """``None`` for those who may see some of the events only."""
    is_new: bool = False
    overdue: str | None = None
    handlers_ran_at: datetime | None = None
    failing_handlers: tuple[ShownHandler, ...] = ()
    max_counted: str | None = None
    credentials: list[tuple[str, datetime | None, int]] | None = None
    """Each username, its last use, and how many passwords are configured for it."""


class Overview(Page):
    """Whether webhooks arrive, what needs attention, and what recovery has found."""

    name = "overview"
    title = _("Overview")

    @property
    def is_allowed(self) -> bool:
        return any(self.admin.may_view(self.request, model) for model in MODELS)

    def details(self) -> dict[str, Any]:
        messages = messages_to_answer(self.admin, self.request)
        return {
            "events": self.events(),
            "recovery": self.recovery(),
            "although_opted_out": self.although_opted_out(),
            "to_answer": messages.overview_card(self.request) if messages else None,
        }

    def events(self) -> EventsPart | None:
        """Return the part about events; ``None`` for those who may not view them."""
        if not self.admin.may_view(self.request, WebhookEvent):
            return None
        if self.admin.is_restricted(self.request, WebhookEvent):
            events: Any = self.admin.rows_of(self.request, WebhookEvent).filter(is_test=False)
            counts = {
                "invalid": events.invalid().count(),
                "failed": events.failed().count(),
                "pending": events.pending().count(),
            }
            return EventsPart(needs_attention=list(self._needs_attention(counts)))
        webhooks = measure_webhooks(midnight(today()))
        handlers = measure_handlers()
        counts = {
            "invalid": count_invalid(),
            "failed": handlers.failed,
            "pending": handlers.pending,
        }
        has_unfinished = handlers.pending or handlers.failed
        is_capped = max(handlers.pending, handlers.failed) > MAX_UNFINISHED
        return EventsPart(
            lights=[
                (each, badge(LIGHT_TONES[each.light], each.light.label))
                for each in webhooks.urls.values()
            ],
            is_new=webhooks.last_at is None,
            needs_attention=list(self._needs_attention(counts)),
            overdue=duration(handlers.overdue) if handlers.overdue > MAX_OVERDUE else None,
            handlers_ran_at=handlers.ran_at,
            failing_handlers=tuple(self._failing_handlers()) if has_unfinished else (),
            max_counted=grouped(MAX_UNFINISHED) if is_capped else None,
            credentials=list(credentials(webhooks)),
        )

    def although_opted_out(self) -> LinkedCount | None:
        """Return the messages of the last week that went to somebody who had opted out."""
        if not self.admin.may_view(self.request, Message):
            return None
        first = today() - timedelta(days=OPTED_OUT_DAYS - 1)
        rows = self.admin.rows_of(self.request, Message)
        count = rows.filter(opted_out_at__isnull=False, created_at__gte=midnight(first)).count()
        list_url = self.admin.url_of(Message, "changelist")
        return LinkedCount(count, f"{list_url}?opted_out=sent&from={first.isoformat()}")

    def recovery(self) -> dict[str, Any] | None:
        """Return how many messages are silent, and what recovery last found."""
        if not self.admin.shows_all_of(self.request, Message):
            return None
        silent = count_silent(StatusFilter.SILENT_AFTER)
        list_url = self.admin.url_of(Message, "changelist")
        return {
            "silent": LinkedCount(silent, f"{list_url}?status=silent"),
            "silent_badge": badge(Tone.OPEN if silent else Tone.QUIET, _("no report")),
            **details_of_last_run(),
        }

    def _needs_attention(self, counts: dict[str, int]) -> Iterator[tuple[LinkedCount, SafeString]]:
        list_url = self.admin.url_of(WebhookEvent, "changelist")
        for state, count in counts.items():
            url = f"{list_url}?outcome={state}&test={TestFilter.WITHOUT}"
            tone, word = EVENT_STATES[state]
            yield LinkedCount(count, url), badge(tone if count else Tone.QUIET, word)

    def _failing_handlers(self) -> Iterator[ShownHandler]:
        events = self.admin.admin_site.get_model_admin(WebhookEvent)
        list_url = self.admin.url_of(WebhookEvent, "changelist")
        connected = set(connected_handlers())
        for handler in failing_handlers():
            name = handler.name
            is_missing = bool(name) and name.removesuffix(OPT_OUT_SUFFIX) not in connected
            retry_url = skip_url = ""
            if isinstance(events, EventActionsAdmin):
                skip_url = events.of_handler_url(self.request, SkipHandler, name)
                if not is_missing:
                    retry_url = events.of_handler_url(self.request, RunAgain, name)
            yield ShownHandler(
                handler=handler,
                list_url=f"{list_url}?{urlencode({'handler': name, 'test': TestFilter.WITHOUT})}",
                retry_url=retry_url,
                skip_url=skip_url,
                is_missing=is_missing,
            )


def credentials(webhooks: Webhooks) -> Iterator[tuple[str, datetime | None, int]]:
    """Yield the configured usernames, then those that were removed since."""
    entries = Counter(entry.partition(":")[0] for entry in conf.webhook_secrets)
    configured = {name[:MAX_USERNAME_LENGTH]: count for name, count in entries.items()}
    used = webhooks.last_use_of
    for username in [*configured, *(name for name in used if name not in configured)]:
        yield username, used.get(username), configured.get(username, 0)


def details_of_last_run() -> dict[str, Any]:
    """Return when recovery last ran, what it found, and whether it has a key."""
    run = CommandRun.objects.filter(command=CommandRun.Command.RECOVER).first()
    return {
        "has_key": bool(conf.api_key),
        "recovered_at": None if run is None else run.ran_at,
        "recovered_lists": [] if run is None else list(lists(run.summary)),
    }


def lists(summary: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what was found in each list that was read."""
    for kind in Kind:
        if kind.value not in summary:
            continue
        read = summary[kind.value]
        missing, seen, is_read = read["missing"], read["seen"], read["is_read"]
        found = ngettext(
            "%(missing)s of %(seen)s was missing", "%(missing)s of %(seen)s were missing", missing
        ) % {"missing": grouped(missing), "seen": grouped(seen)}
        yield {
            "name": kind.label,
            "found": found if is_read else _("not read"),
            "is_incomplete": read["error"] and is_read,
        }
