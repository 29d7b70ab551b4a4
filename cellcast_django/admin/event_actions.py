"""What a person can do with events, one class each: whom it affects, what it does, its words."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import messages
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _, gettext_lazy, ngettext, ngettext_lazy

from cellcast_django import handlers, receiving
from cellcast_django.admin.display.texts import beginning, duration
from cellcast_django.admin.lists.filters import connected_handlers
from cellcast_django.conf import conf
from cellcast_django.handlers.calls import calls_of, repeatable_calls
from cellcast_django.handlers.schedule import load
from cellcast_django.models import WebhookEvent, time_of

Sentence = tuple[int, str]  # its level, as ``django.contrib.messages`` has them, and its text

MAX_ERROR = 200  # characters of a handler's error in the sentence; the event's page has all of it
MAX_ERRORS = 5  # handlers whose errors are in the sentence


@dataclass
class Plan:
    """What an action would do with the events that were chosen."""

    keys: list[int] = field(default_factory=list)
    """The events that it would change."""
    again: Counter[str] = field(default_factory=Counter)
    """How many events each handler will run for again."""
    first: Counter[str] = field(default_factory=Counter)
    """How many events each handler has never run for and will."""
    missing: Counter[str] = field(default_factory=Counter)
    """For how many events each handler failed that is not connected in this process."""
    without_handler: int = 0
    """Events that have not finished, and no handler that could run here."""
    unaffected: int = 0
    choices: Counter[str] = field(default_factory=Counter)
    """What a person still has to choose from: for how many events each handler has not finished."""


@dataclass
class Effect:
    """The events that an action has changed."""

    started_at: datetime
    changed: int = 0
    """How many of the chosen events were changed. Each may have become several."""
    unaffected: int = 0
    events: dict[int, WebhookEvent] = field(default_factory=dict)

    def add(self, events: list[WebhookEvent]) -> None:
        """Count one of the chosen events, and what has become of it."""
        if events:
            self.changed += 1
        else:
            self.unaffected += 1
        self.events |= {event.pk: event for event in events}


AFFECTS = ngettext_lazy("This affects %d event.", "This affects %d events.")


class EventAction(ABC):
    """Something a person can do with any number of events."""

    name: ClassVar[str]
    permission: ClassVar[str] = "rerun"
    title: ClassVar[Any]
    log: str
    """What the admin's log says, in English and without a full stop."""
    button: ClassVar[Any]
    """For a number of events, as the sentences that follow."""
    unaffected: ClassVar[Any]
    will_do: ClassVar[Any] = AFFECTS
    done: ClassVar[Any]
    command: ClassVar[str] = ""
    """The command that does the same to any number of events, if there is one."""
    warning: str | Promise = ""

    @abstractmethod
    def affects(self, event: WebhookEvent) -> bool:
        """Whether there is something to do to this event."""

    @abstractmethod
    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        """Do it to one event, and return what it has become; nothing if there was nothing to do."""

    def sentences(self, effect: Effect) -> Iterator[Sentence]:
        if effect.changed:
            yield messages.SUCCESS, self.done % effect.changed

    def plan(self, events: Iterable[WebhookEvent]) -> Plan:
        """Plan without changing anything."""
        plan = Plan()
        for event in events:
            if self.affects(event):
                self.include(event, plan)
            else:
                plan.unaffected += 1
        return plan

    def include(self, event: WebhookEvent, plan: Plan) -> None:
        """Add an event that this action affects to what it would do."""
        plan.keys.append(event.pk)

    @property
    def is_queued(self) -> bool:
        """Whether the handlers run later, on the task queue."""
        return False


class RunAgain(EventAction):
    """Calls the handlers that have not finished."""

    name = "run_again"
    title = gettext_lazy("Run again")
    log = "Ran the unfinished handlers again"
    command = "cellcast_run_handlers --failed"
    everyone: ClassVar[bool] = False
    button = ngettext_lazy("Run %d event again", "Run %d events again")
    unaffected = ngettext_lazy(
        "%d event had nothing left to run.", "%d events had nothing left to run."
    )

    def affects(self, event: WebhookEvent) -> bool:
        return event.is_unfinished

    def handlers(self, event: WebhookEvent) -> list[str]:
        """Return the names of the handlers that would be called for an event."""
        return [each.name for each in calls_of(event) if not event.has_finished(each.name)]

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        event = load(pk)
        if event is None or not self.affects(event) or not self.handlers(event):
            return []
        ran: list[WebhookEvent] = []
        handlers.run_again([pk], everyone=self.everyone, progress=ran.append)
        return ran

    def include(self, event: WebhookEvent, plan: Plan) -> None:
        plan.missing.update(_missing(event))
        names = self.handlers(event)
        if not names:
            plan.without_handler += 1
            return
        plan.keys.append(event.pk)
        plan.again.update(name for name in names if name in event.handler_results)
        plan.first.update(name for name in names if name not in event.handler_results)

    def sentences(self, effect: Effect) -> Iterator[Sentence]:
        return sentences_of_handlers(effect)


class RunAllAgain(RunAgain):
    """Calls all handlers, finished or not."""

    name = "run_all_again"
    title = gettext_lazy("Run all handlers again")
    log = "Ran all handlers again"
    command = ""
    everyone = True
    warning = gettext_lazy(
        "Handlers that already succeeded will run again. If they send, charge or cancel something, "
        "they will do so twice."
    )
    button = ngettext_lazy(
        "Run all handlers of %d event again", "Run all handlers of %d events again"
    )
    unaffected = ngettext_lazy(
        "%d event has no handlers to run.", "%d events have no handlers to run."
    )

    def affects(self, event: WebhookEvent) -> bool:
        return bool(self.handlers(event))

    def handlers(self, event: WebhookEvent) -> list[str]:
        return [each.name for each in repeatable_calls(event)]


class SkipHandler(EventAction):
    """Decides that one handler need not be called; the others of an event stay as they are."""

    name = "skip_handler"
    title = gettext_lazy("Skip a handler")
    button = ngettext_lazy("Skip it for %d event", "Skip it for %d events")
    unaffected = ngettext_lazy(
        "Not skipped for %d event: the handler has finished there, or is not known.",
        "Not skipped for %d events: the handler has finished there, or is not known.",
    )

    def __init__(self, handler: str = "") -> None:
        """Take the handler's name; without one, a person has to choose it first."""
        self.handler = handler
        self.log = f"Skipped the handler {handler}"
        self.warning = _("The handler that you choose will not run for these events, now or later.")
        if handler:
            self.warning = _(
                "%(name)s will not run for these events, now or later. Skip it if its work has "
                "been done another way or is no longer needed."
            ) % {"name": handler}

    def affects(self, event: WebhookEvent) -> bool:
        names = unfinished_handlers(event)
        return self.handler in names if self.handler else bool(names)

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        if not self.handler or not handlers.skip(pk, self.handler, username=username):
            return []
        event = load(pk)
        return [event] if event else []

    def include(self, event: WebhookEvent, plan: Plan) -> None:
        super().include(event, plan)
        if not self.handler:
            plan.choices.update(unfinished_handlers(event))

    def sentences(self, effect: Effect) -> Iterator[Sentence]:
        if not effect.changed:
            return
        skipped = ngettext(
            "Skipped %(name)s for %(count)d event.",
            "Skipped %(name)s for %(count)d events.",
            effect.changed,
        )
        yield messages.SUCCESS, skipped % {"name": self.handler, "count": effect.changed}
        others = sum(event.is_unfinished for event in effect.events.values())
        if others:
            unfinished = ngettext(
                "%d of them is not done: another handler has not finished.",
                "%d of them are not done: other handlers have not finished.",
                others,
            )
            yield messages.INFO, unfinished % others


class Reprocess(EventAction):
    """Reads what could not be understood, and stores it if it can be now."""

    name = "reprocess"
    permission = "reprocess"
    title = gettext_lazy("Read again")
    log = "Read again"
    command = "cellcast_reprocess"
    button = ngettext_lazy("Read %d event again", "Read %d events again")
    will_do = ngettext_lazy(
        "%d invalid event will be read again.", "%d invalid events will be read again."
    )
    unaffected = ngettext_lazy(
        "%d event was understood: there is nothing to read again.",
        "%d events were understood: there is nothing to read again.",
    )

    def affects(self, event: WebhookEvent) -> bool:
        return event.outcome == WebhookEvent.Outcome.INVALID

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        event = WebhookEvent.objects.fresh().invalid_or_dismissed().filter(pk=pk).first()
        return receiving.reprocess(event) if event else []

    def plan(self, events: Iterable[WebhookEvent]) -> Plan:
        plan = super().plan(events)
        plan.first.update(dict.fromkeys(connected_handlers(), len(plan.keys)))
        return plan

    @property
    def is_queued(self) -> bool:
        return conf.run_handlers == "task"

    def sentences(self, effect: Effect) -> Iterator[Sentence]:
        invalid = [event for event in effect.events.values() if self.affects(event)]
        if count := len(effect.events) - len(invalid):
            read = ngettext("%d event has been read.", "%d events have been read.", count)
            yield messages.SUCCESS, read % count
        if invalid:
            still = ngettext(
                "%(count)d event is still invalid: %(reason)s",
                "%(count)d events are still invalid. The first: %(reason)s",
                len(invalid),
            )
            yield messages.WARNING, still % {"count": len(invalid), "reason": invalid[0].error}
        yield from sentences_of_handlers(effect)


class Dismiss(EventAction):
    """Sets invalid events aside, so that nobody counts them any more."""

    name = "dismiss"
    permission = "dismiss"
    title = gettext_lazy("Dismiss")
    log = "Dismissed"
    button = ngettext_lazy("Dismiss %d event", "Dismiss %d events")
    will_do = ngettext_lazy(
        "%d invalid event will no longer be counted. It is kept, the filter “dismissed” "
        "finds it, and you can undo this.",
        "%d invalid events will no longer be counted. They are kept, the filter "
        "“dismissed” finds them, and you can undo this.",
    )
    done = ngettext_lazy("%d event dismissed.", "%d events dismissed.")
    unaffected = ngettext_lazy(
        "%d event was not dismissed: only invalid ones can be, and once.",
        "%d events were not dismissed: only invalid ones can be, and once.",
    )

    def affects(self, event: WebhookEvent) -> bool:
        return event.outcome == WebhookEvent.Outcome.INVALID and event.dismissed_at is None

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        return _save_dismissal(pk, WebhookEvent.objects.fresh().invalid(), timezone.now())


class UndoDismissal(EventAction):
    """Counts dismissed events as invalid again."""

    name = "undo_dismissal"
    permission = "dismiss"
    title = gettext_lazy("Undo the dismissal")
    log = "Undid the dismissal"
    button = ngettext_lazy("Count %d event again", "Count %d events again")
    done = ngettext_lazy(
        "%d event is counted as invalid again.", "%d events are counted as invalid again."
    )
    unaffected = ngettext_lazy("%d event was not dismissed.", "%d events were not dismissed.")

    def affects(self, event: WebhookEvent) -> bool:
        return event.outcome == WebhookEvent.Outcome.INVALID and event.dismissed_at is not None

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        return _save_dismissal(pk, WebhookEvent.objects.fresh().dismissed(), None)


ACTIONS: list[type[EventAction]] = [
    RunAgain,
    RunAllAgain,
    SkipHandler,
    Reprocess,
    Dismiss,
    UndoDismissal,
]
"""In the order in which the pages offer them."""


def sentences_of_handlers(effect: Effect) -> Iterator[Sentence]:
    """Say of the events how far they are, which handlers failed, and which could not run."""
    states = Counter(event.state for event in effect.events.values())
    if done := states[WebhookEvent.State.DONE]:
        finished = ngettext(
            "%d event done: all its handlers have finished.",
            "%d events done: all their handlers have finished.",
            done,
        )
        yield messages.SUCCESS, finished % done
    if pending := states[WebhookEvent.State.PENDING]:
        yield messages.WARNING, _sentence_of_unfinished(effect, pending)
    if failed := states[WebhookEvent.State.FAILED]:
        used_up = ngettext(
            "%d event has used up its retries and needs your attention.",
            "%d events have used up their retries and need your attention.",
            failed,
        )
        yield messages.ERROR, used_up % failed
    ran: set[str] = set()
    errors: dict[str, str] = {}
    missing: Counter[str] = Counter()
    for event in effect.events.values():
        missing.update(_missing(event))
        for name, result in event.handler_results.items():
            if time_of(result["at"]) < effect.started_at:
                continue  # it ran before, not now
            ran.add(name)
            if result["error"]:
                errors[name] = result["error"]
    if errors:
        yield messages.ERROR, _sentence_of_errors(ran, errors)
    for name, count in sorted(missing.items()):
        did_not_run = ngettext(
            "Not connected here, so it did not run for %(count)d event: %(name)s",
            "Not connected here, so it did not run for %(count)d events: %(name)s",
            count,
        )
        yield messages.WARNING, did_not_run % {"count": count, "name": name}


def _sentence_of_unfinished(effect: Effect, count: int) -> str:
    due = [event.next_run_at for event in effect.events.values() if event.next_run_at]
    pause = min(due, default=effect.started_at) - timezone.now()
    if pause <= timedelta():
        queued = ngettext(
            "%(count)d event is queued: its handlers run shortly.",
            "%(count)d events are queued: their handlers run shortly.",
            count,
        )
        return queued % {"count": count}
    retrying = ngettext(
        "%(count)d event is not done yet. Next retry in %(pause)s.",
        "%(count)d events are not done yet. Next retry in %(pause)s.",
        count,
    )
    return retrying % {"count": count, "pause": duration(pause)}


def _sentence_of_errors(ran: set[str], errors: dict[str, str]) -> str:
    named = sorted(errors.items())[:MAX_ERRORS]
    failed = ngettext(
        "%(count)d of %(all)d handler failed: %(errors)s",
        "%(count)d of %(all)d handlers failed: %(errors)s",
        len(ran),
    )
    return failed % {
        "count": len(errors),
        "all": len(ran),
        "errors": "; ".join(f"{name} — {beginning(each, MAX_ERROR)}" for name, each in named),
    }


def unfinished_handlers(event: WebhookEvent) -> list[str]:
    """Return the names of the handlers that can be skipped for an event."""
    if not event.is_unfinished:
        return []
    names = dict.fromkeys([each.name for each in calls_of(event)])
    names |= dict.fromkeys(event.handler_results)
    return [name for name in names if not event.has_finished(name)]


def _missing(event: WebhookEvent) -> set[str]:
    """Return the handlers that failed for an event and are not connected in this process."""
    return set(event.handler_errors()) - {each.name for each in calls_of(event)}


def _save_dismissal(pk: int, events: Any, at: datetime | None) -> list[WebhookEvent]:
    """Dismiss one of ``events`` or undo that, unless somebody was quicker."""
    if not events.filter(pk=pk).update(dismissed_at=at):
        return []
    return list(WebhookEvent.objects.fresh().filter(pk=pk))
