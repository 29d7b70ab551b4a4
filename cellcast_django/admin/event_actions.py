"""What a person can do with events, one class each: whom it affects, what it does, its words."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.contrib import messages
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy, ngettext, ngettext_lazy

from cellcast_django import handlers, receiving
from cellcast_django.handlers.calls import calls_of, repeatable_calls
from cellcast_django.handlers.schedule import load
from cellcast_django.models import WebhookEvent

Sentence = tuple[int, str]  # its level, as ``django.contrib.messages`` has them, and its text


@dataclass
class Plan:
    """What an action would do with the events that were chosen."""

    keys: list[int] = field(default_factory=list)
    """The events that it would change."""
    again: Counter[str] = field(default_factory=Counter)
    """The handlers that have run for an event, each with the number of such events."""
    first: Counter[str] = field(default_factory=Counter)
    """The same of those that have never run for an event."""
    missing: Counter[str] = field(default_factory=Counter)
    """The same of those that failed and are not connected in this process."""
    unaffected: int = 0

    @property
    def handlers(self) -> list[tuple[str, int, int]]:
        """Each handler that it is about: for how many events again, for how many at first."""
        names = sorted({*self.again, *self.first})
        return [(name, self.again[name], self.first[name]) for name in names]


class EventAction(ABC):
    """Something a person can do with any number of events."""

    name: ClassVar[str]
    permission: ClassVar[str] = "rerun"
    title: ClassVar[Any]
    log: str
    """What the admin's log says, in English and without a full stop."""
    warning: ClassVar[Any] = ""
    consequence: ClassVar[Any] = ""
    command: ClassVar[str] = ""
    """The command that does the same to any number of events, if there is one."""

    def handlers(self, event: WebhookEvent) -> list[str]:
        """Return the names of the handlers that it would call, or skip, for this event."""
        return []

    def missing(self, event: WebhookEvent) -> Collection[str]:
        """Return the names of those that it cannot call in this process."""
        return ()

    def affects(self, event: WebhookEvent) -> bool:
        """Whether there is something to do to this event."""
        return bool(self.handlers(event))

    @abstractmethod
    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        """Do it to one event, and return what it has become; nothing if there was nothing to do."""

    def sentences(self, changed: int, events: Collection[WebhookEvent]) -> Iterator[Sentence]:
        """Yield what is said of so many changed events, each of which may have become several."""
        done = ngettext(
            "%(action)s: done for %(count)d event.",
            "%(action)s: done for %(count)d events.",
            changed,
        )
        yield messages.SUCCESS, done % {"action": self.title, "count": changed}

    def plan(self, events: Iterable[WebhookEvent]) -> Plan:
        """Plan without changing anything."""
        plan = Plan()
        for event in events:
            plan.missing.update(self.missing(event))
            if not self.affects(event):
                plan.unaffected += 1
                continue
            plan.keys.append(event.pk)
            for name in self.handlers(event):
                (plan.again if name in event.handler_results else plan.first)[name] += 1
        return plan


class RunAgain(EventAction):
    """Calls the handlers that have not finished."""

    name = "run_again"
    title = gettext_lazy("Run again")
    log = "Ran the unfinished handlers again"
    command = "cellcast_run_handlers --failed"
    everyone: ClassVar[bool] = False

    def handlers(self, event: WebhookEvent) -> list[str]:
        unfinished = unfinished_handlers(event)
        return [each.name for each in calls_of(event) if each.name in unfinished]

    def missing(self, event: WebhookEvent) -> Collection[str]:
        return set(unfinished_handlers(event)) - {each.name for each in calls_of(event)}

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        event = load(pk)
        if event is None or not self.affects(event):
            return []
        ran: list[WebhookEvent] = []
        handlers.run_again([pk], everyone=self.everyone, progress=ran.append)
        return ran

    def sentences(self, changed: int, events: Collection[WebhookEvent]) -> Iterator[Sentence]:
        yield from sentences_by_state(events)
        for name in sorted({name for event in events for name in self.missing(event)}):
            did_not_run = gettext("%(name)s did not run: it is not connected in this process.")
            yield messages.WARNING, did_not_run % {"name": name}


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

    def handlers(self, event: WebhookEvent) -> list[str]:
        return [name for name in unfinished_handlers(event) if self.handler in ("", name)]

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        if not handlers.skip(pk, self.handler, username=username):
            return []
        event = load(pk)
        return [event] if event else []


class Reprocess(EventAction):
    """Reads what could not be understood, and stores it if it can be now."""

    name = "reprocess"
    permission = "reprocess"
    title = gettext_lazy("Read again")
    log = "Read again"
    command = "cellcast_reprocess"
    consequence = gettext_lazy("Events that can now be read are stored, and their handlers run.")

    def affects(self, event: WebhookEvent) -> bool:
        return event.outcome == WebhookEvent.Outcome.INVALID

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        event = WebhookEvent.objects.fresh().invalid_or_dismissed().filter(pk=pk).first()
        return receiving.reprocess(event) if event else []

    def sentences(self, changed: int, events: Collection[WebhookEvent]) -> Iterator[Sentence]:
        invalid = [event for event in events if self.affects(event)]
        if count := len(events) - len(invalid):
            read = ngettext("%d event has been read.", "%d events have been read.", count)
            yield messages.SUCCESS, read % count
        if invalid:
            still = ngettext(
                "%(count)d event is still invalid: %(reason)s",
                "%(count)d events are still invalid. The first: %(reason)s",
                len(invalid),
            )
            yield messages.WARNING, still % {"count": len(invalid), "reason": invalid[0].error}
        yield from sentences_by_state(events)


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


def sentences_by_state(events: Iterable[WebhookEvent]) -> Iterator[Sentence]:
    """Say how far the handlers of events are; which failed, and why, stands beside each event."""
    states = Counter(event.state for event in events)
    for state, (level, words) in SENTENCES.items():
        if count := states[state]:
            yield level, words % count


def unfinished_handlers(event: WebhookEvent) -> list[str]:
    """Return the names of the handlers that can be skipped for an event."""
    if not event.is_unfinished:
        return []
    names = dict.fromkeys([*(each.name for each in calls_of(event)), *event.handler_results])
    return [name for name in names if not event.has_finished(name)]
