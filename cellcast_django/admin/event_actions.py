"""What a person can do with events, one class each: whom it affects, what it does, its words."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import messages
from django.utils import timezone
from django.utils.translation import gettext as _, gettext_lazy, ngettext, ngettext_lazy

from cellcast_django import handlers, receiving
from cellcast_django.admin.display.texts import beginning
from cellcast_django.handlers.calls import calls_of, connected_handlers, repeatable_calls
from cellcast_django.handlers.schedule import load
from cellcast_django.models import WebhookEvent, time_of

Sentence = tuple[int, str]  # its level, as ``django.contrib.messages`` has them, and its text

MAX_ERROR = 200  # characters of a handler's error in the sentence; the event's page has all of it
MAX_ERRORS = 5  # handlers whose errors are told


@dataclass
class Plan:
    """What an action would do with the events that were chosen."""

    keys: list[int] = field(default_factory=list)
    """The events that it would change."""
    again: Counter[str] = field(default_factory=Counter)
    """How many events each handler will run for again."""
    first: Counter[str] = field(default_factory=Counter)
    """How many events each handler has never run for and will."""
    missing: set[str] = field(default_factory=set)
    """The handlers that failed and are not connected in this process."""
    unaffected: int = 0
    choices: Counter[str] = field(default_factory=Counter)
    """The handlers to choose from: how many events each has not finished."""


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


class EventAction(ABC):
    """Something a person can do with any number of events."""

    name: ClassVar[str]
    permission: ClassVar[str] = "rerun"
    title: ClassVar[Any]
    log: str
    """What the admin's log says, in English and without a full stop."""
    warning: ClassVar[Any] = ""
    consequence: ClassVar[Any] = ""
    calls: ClassVar[Any] = gettext_lazy("These handlers will run:")
    command: ClassVar[str] = ""
    """The command that does the same to any number of events, if there is one."""

    @abstractmethod
    def affects(self, event: WebhookEvent) -> bool:
        """Whether there is something to do to this event."""

    @abstractmethod
    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        """Do it to one event, and return what it has become; nothing if there was nothing to do."""

    def sentences(self, effect: Effect) -> Iterator[Sentence]:
        """Yield what is said of events of which some were changed."""
        done = ngettext(
            "%(action)s: done for %(count)d event.",
            "%(action)s: done for %(count)d events.",
            effect.changed,
        )
        yield messages.SUCCESS, done % {"action": self.title, "count": effect.changed}

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


class RunAgain(EventAction):
    """Calls the handlers that have not finished."""

    name = "run_again"
    title = gettext_lazy("Run again")
    log = "Ran the unfinished handlers again"
    command = "cellcast_run_handlers --failed"
    everyone: ClassVar[bool] = False

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
        plan.missing |= _missing(event)
        names = self.handlers(event)
        if not names:
            plan.unaffected += 1
            return
        super().include(event, plan)
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

    def affects(self, event: WebhookEvent) -> bool:
        return bool(self.handlers(event))

    def handlers(self, event: WebhookEvent) -> list[str]:
        return [each.name for each in repeatable_calls(event)]


class SkipHandler(EventAction):
    """Decides that one handler need not be called; the others of an event stay as they are."""

    name = "skip_handler"
    title = gettext_lazy("Skip a handler")
    warning = gettext_lazy(
        "The handler will not run for these events, now or later. Skip it if its work has been "
        "done another way or is no longer needed."
    )

    def __init__(self, handler: str = "") -> None:
        """Take the handler's name; without one, a person has to choose it first."""
        self.handler = handler
        self.log = f"Skipped the handler {handler}"

    def names(self, event: WebhookEvent) -> list[str]:
        """Return the handlers of an event that it may skip."""
        names = unfinished_handlers(event)
        return [name for name in names if self.handler in ("", name)]

    def affects(self, event: WebhookEvent) -> bool:
        return bool(self.names(event))

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        if not self.handler or not handlers.skip(pk, self.handler, username=username):
            return []
        event = load(pk)
        return [event] if event else []

    def include(self, event: WebhookEvent, plan: Plan) -> None:
        super().include(event, plan)
        plan.choices.update(self.names(event))

    def sentences(self, effect: Effect) -> Iterator[Sentence]:
        yield from super().sentences(effect)
        if others := sum(event.is_unfinished for event in effect.events.values()):
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
    calls = gettext_lazy(
        "Events that can now be read are stored, and their handlers run. The connected handlers "
        "are:"
    )

    def affects(self, event: WebhookEvent) -> bool:
        return event.outcome == WebhookEvent.Outcome.INVALID

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        event = WebhookEvent.objects.fresh().invalid_or_dismissed().filter(pk=pk).first()
        return receiving.reprocess(event) if event else []

    def plan(self, events: Iterable[WebhookEvent]) -> Plan:
        plan = super().plan(events)
        plan.first.update(dict.fromkeys(connected_handlers(), 0))
        return plan

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
    consequence = gettext_lazy(
        "What is dismissed is no longer counted. It is kept, the filter “dismissed” finds it, and "
        "you can undo this."
    )
    undoes: ClassVar[bool] = False

    def affects(self, event: WebhookEvent) -> bool:
        is_invalid = event.outcome == WebhookEvent.Outcome.INVALID
        return is_invalid and (event.dismissed_at is not None) == self.undoes

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        chosen = WebhookEvent.objects.fresh().filter(pk=pk)
        # Somebody may have been quicker.
        affected = chosen.dismissed() if self.undoes else chosen.invalid()
        at = None if self.undoes else timezone.now()
        return list(chosen) if affected.update(dismissed_at=at) else []


class UndoDismissal(Dismiss):
    """Counts dismissed events as invalid again."""

    name = "undo_dismissal"
    title = gettext_lazy("Undo the dismissal")
    log = "Undid the dismissal"
    consequence = gettext_lazy("It counts as invalid again.")
    undoes = True


ACTIONS: list[type[EventAction]] = [
    RunAgain,
    RunAllAgain,
    SkipHandler,
    Reprocess,
    Dismiss,
    UndoDismissal,
]
"""In the order in which the pages offer them."""

SENTENCES = {
    WebhookEvent.State.DONE: (
        messages.SUCCESS,
        ngettext_lazy("%d event is done.", "%d events are done."),
    ),
    WebhookEvent.State.PENDING: (
        messages.WARNING,
        ngettext_lazy(
            "%d event is not done yet: its handlers run later.",
            "%d events are not done yet: their handlers run later.",
        ),
    ),
    WebhookEvent.State.FAILED: (
        messages.ERROR,
        ngettext_lazy(
            "%d event has used up its retries and needs your attention.",
            "%d events have used up their retries and need your attention.",
        ),
    ),
}


def sentences_of_handlers(effect: Effect) -> Iterator[Sentence]:
    """Say of the events how far they are, which handlers failed now, and which could not run."""
    states = Counter(event.state for event in effect.events.values())
    for state, (level, words) in SENTENCES.items():
        if count := states[state]:
            yield level, words % count
    errors: dict[str, str] = {}
    missing: set[str] = set()
    for event in effect.events.values():
        missing |= _missing(event)
        for name, result in event.handler_results.items():
            if result["error"] and time_of(result["at"]) >= effect.started_at:
                errors[name] = beginning(result["error"], MAX_ERROR)
    for name, error in sorted(errors.items())[:MAX_ERRORS]:
        yield messages.ERROR, _("%(name)s failed: %(error)s") % {"name": name, "error": error}
    for name in sorted(missing):
        did_not_run = _("%(name)s did not run: it is not connected in this process.")
        yield messages.WARNING, did_not_run % {"name": name}


def unfinished_handlers(event: WebhookEvent) -> list[str]:
    """Return the names of the handlers that can be skipped for an event."""
    if not event.is_unfinished:
        return []
    names = dict.fromkeys([*(each.name for each in calls_of(event)), *event.handler_results])
    return [name for name in names if not event.has_finished(name)]


def _missing(event: WebhookEvent) -> set[str]:
    """Return the handlers that failed for an event and are not connected in this process."""
    return set(event.handler_errors()) - {each.name for each in calls_of(event)}
