"""What a replay did, in sentences; what ran before it does not count."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.contrib import messages
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _, ngettext_lazy

from cellcast_django import handlers, inbox, receiving
from cellcast_django.admin.display import sentences
from cellcast_django.admin.display.texts import beginning, duration
from cellcast_django.admin.lists.filters import connected_handlers
from cellcast_django.conf import conf
from cellcast_django.handlers.facts import calls_of, repeatable_calls
from cellcast_django.models import WebhookEvent


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One way to run events again."""

    name: str
    title: Any
    button: Any
    """The label of the confirming button."""
    will_do: Any
    """Says how many events it affects."""
    unaffected: Any
    """Says how many of the events it leaves alone."""
    log: str
    """The admin log's entry for each event."""
    handlers: Callable[[WebhookEvent], list[str] | None]
    """Which handlers would run for an event; ``None`` if it does not affect the event."""
    run: Callable[..., object]
    """Runs the events with these keys, and calls ``progress`` with each one afterwards."""
    permission: str = "rerun"
    command: str = ""
    """The command that does the same to any number of events, if there is one."""
    warning: Any = ""
    understood: Any = None
    """Says how many events could be read."""
    is_queued: Callable[[], bool] = bool
    """Whether the handlers run later, on the task queue."""


@dataclass
class Plan:
    """What a replay of these events would do."""

    keys: list[int] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    """How many events each handler will run for again."""
    first: Counter[str] = field(default_factory=Counter)
    """How many events each handler has never run for and will."""
    missing: Counter[str] = field(default_factory=Counter)
    """For how many events each handler failed that is not connected in this process."""
    without_handler: int = 0
    """Events that have no handler left to run."""
    unaffected: int = 0
    """Events that are not affected."""

    @classmethod
    def of(cls, replay: Replay, events: Iterable[WebhookEvent]) -> "Plan":
        """Plan without changing anything."""
        plan = cls()
        for event in events:
            names = replay.handlers(event)
            if names is None:
                plan.unaffected += 1
                continue
            connected = {call.name for call in calls_of(event)}
            plan.keys.append(event.pk)
            plan.again.update(name for name in names if name in event.handler_results)
            plan.first.update(name for name in names if name not in event.handler_results)
            plan.missing.update(set(event.handler_errors()) - connected)
            plan.without_handler += not names
        return plan


def _unfinished(event: WebhookEvent) -> list[str] | None:
    if not event.is_unfinished:
        return None
    return [each.name for each in calls_of(event) if not event.has_finished(each.name)]


def _all_handlers(event: WebhookEvent) -> list[str] | None:
    return [each.name for each in repeatable_calls(event)] or None


def _connected_handlers(event: WebhookEvent) -> list[str] | None:
    return connected_handlers() if event.outcome == WebhookEvent.Outcome.INVALID else None


def _read_again(keys: Iterable[int], *, progress: Callable[[WebhookEvent], object]) -> None:
    for key in keys:
        event = WebhookEvent.objects.invalid().filter(pk=key).first()
        read_again = inbox.reprocess(event) if event else []
        receiving.run_handlers(read_again)
        for each in read_again:
            progress(each)


RETRY_FAILED = Replay(
    name="run_again",
    title=_("Retry failed handlers"),
    button=ngettext_lazy("Retry %(count)d event", "Retry %(count)d events", "count"),
    will_do=sentences.AFFECTS,
    unaffected=sentences.NOTHING_LEFT,
    log="Ran the unfinished handlers again.",
    command="cellcast_run_handlers --failed",
    handlers=_unfinished,
    run=handlers.run_again,
)
RERUN_ALL = Replay(
    name="run_all_again",
    title=_("Re-run all handlers"),
    button=ngettext_lazy("Re-run %(count)d event", "Re-run %(count)d events", "count"),
    warning=_(
        "Handlers that already succeeded will run again. If they send, charge or cancel something, "
        "they will do so twice."
    ),
    will_do=sentences.AFFECTS,
    unaffected=sentences.NO_HANDLER,
    log="Ran all handlers again.",
    handlers=_all_handlers,
    run=partial(handlers.run_again, everyone=True),
)
READ_AGAIN = Replay(
    name="process_again",
    permission="reprocess",
    understood=sentences.HAS_BEEN_READ,
    title=_("Try to read again"),
    button=ngettext_lazy("Read %(count)d event again", "Read %(count)d events again", "count"),
    will_do=sentences.WILL_READ,
    unaffected=sentences.NOT_INVALID,
    log="Read it again.",
    command="cellcast_reprocess",
    handlers=_connected_handlers,
    run=_read_again,
    is_queued=lambda: conf.run_handlers == "task",
)

REPLAYS = {replay.name: replay for replay in (RETRY_FAILED, RERUN_ALL, READ_AGAIN)}


State = WebhookEvent.State

MAX_ERROR = 200  # characters of a handler's error in the sentence; the event's page has all of it
MAX_ERRORS = 5  # handlers whose errors are in the sentence


@dataclass
class Result:
    """The events after a replay."""

    started_at: datetime
    keys: set[int] = field(default_factory=set)
    states: Counter[WebhookEvent.State | None] = field(default_factory=Counter)
    invalid: list[str] = field(default_factory=list)
    """Why events are still unreadable."""
    next_retry_at: datetime | None = None
    ran: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    """The last error of each handler."""

    def add(self, event: WebhookEvent) -> None:
        """Count an event after its attempt."""
        self.keys.add(event.pk)
        if event.outcome == WebhookEvent.Outcome.INVALID:
            self.invalid.append(event.error)
        self.states[event.state] += 1
        due_at = event.next_run_at
        if due_at and (self.next_retry_at is None or due_at < self.next_retry_at):
            self.next_retry_at = due_at
        for name, outcome in event.handler_results.items():
            at = parse_datetime(outcome["at"])
            if at is None or at < self.started_at:
                continue  # it ran before, not now
            self.ran.add(name)
            if outcome["error"]:
                self.errors[name] = outcome["error"]

    def sentences(self, understood: Any) -> Iterator[tuple[int, str]]:
        count = len(self.keys) - len(self.invalid)
        if understood is not None and count:
            yield messages.SUCCESS, understood % {"count": count}
        if invalid := len(self.invalid):
            values = {"count": invalid, "reason": self.invalid[0]}
            yield messages.WARNING, sentences.STILL_INVALID % values
        if done := self.states[State.DONE]:
            yield messages.SUCCESS, sentences.DONE % {"count": done}
        if retrying := self.states[State.PENDING]:
            yield messages.WARNING, self._retry(retrying)
        if failed := self.states[State.FAILED]:
            yield messages.ERROR, sentences.FAILED % {"count": failed}
        if self.errors:
            yield messages.ERROR, self._failures()

    def _retry(self, count: int) -> str:
        pause = (self.next_retry_at or self.started_at) - timezone.now()
        if pause <= timedelta():
            return str(sentences.QUEUED % {"count": count})
        return str(sentences.RETRYING % {"count": count, "pause": duration(pause)})

    def _failures(self) -> str:
        named = sorted(self.errors.items())[:MAX_ERRORS]
        errors = "; ".join(f"{name} — {beginning(each, MAX_ERROR)}" for name, each in named)
        values = {"count": len(self.errors), "all": len(self.ran), "errors": errors}
        return str(sentences.FAILED_AGAIN % values)
