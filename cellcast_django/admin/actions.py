"""What a person can do with events and calls, one class each: whom it affects, and what it does."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.contrib import messages
from django.db.models import Model
from django.utils import timezone
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from cellcast_django import handlers, receiving
from cellcast_django.models import HandlerCall, WebhookEvent

Sentence = tuple[int, str]  # its level, as ``django.contrib.messages`` has them, and its text


@dataclass
class Plan:
    """What an action would do with the rows that were chosen."""

    keys: list[int] = field(default_factory=list)
    """The rows that it would change."""
    handlers: Counter[str] = field(default_factory=Counter)
    """The handlers that it is about, each with the number of calls."""
    warns: bool = False
    unaffected: int = 0

    @property
    def by_handler(self) -> list[tuple[str, int]]:
        return sorted(self.handlers.items())


class Action(ABC):
    """Something a person can do with any number of rows."""

    model: ClassVar[type[Model]] = WebhookEvent
    name: ClassVar[str]
    permission: ClassVar[str] = "rerun"
    title: ClassVar[Any]
    log: ClassVar[str]
    """What the admin's log says, in English and without a full stop."""
    warning: ClassVar[Any] = ""
    consequence: ClassVar[Any] = ""
    command: ClassVar[str] = ""
    """The command that does the same to any number of rows, if there is one."""

    def affects(self, row: Any) -> bool:
        """Whether there is something to do to this row."""
        return True

    def calls(self, row: Any) -> Iterable[HandlerCall]:
        """Return the calls that it would make, or skip, for this row."""
        return [row] if isinstance(row, HandlerCall) else []

    def warns(self, row: Any) -> bool:
        """Whether the warning is about this row."""
        return bool(self.warning)

    @abstractmethod
    def run(self, pk: int, username: str) -> list[Any]:
        """Do it to one row, and return what it has become; nothing if there was nothing to do."""

    def sentences(self, changed: int, rows: Collection[Any]) -> Iterator[Sentence]:
        """Yield what is said of so many changed rows, each of which may have become several.

        That is in which states they are; which failed, and why, stands beside each.
        """
        sentences: Any = CALL_SENTENCES if self.model is HandlerCall else EVENT_SENTENCES
        counts = Counter(sentences[row.state] for row in rows if row.state is not None)
        for (level, words), count in counts.items():
            yield level, words % count

    def plan(self, rows: Iterable[Any]) -> Plan:
        """Plan without changing anything."""
        plan = Plan()
        for row in rows:
            if self.affects(row):
                plan.keys.append(row.pk)
                plan.handlers.update(call.handler for call in self.calls(row))
                plan.warns |= self.warns(row)
            else:
                plan.unaffected += 1
        return plan


# Calls


class RunCallAgain(Action):
    """Makes calls anew, whatever has become of them."""

    model = HandlerCall
    name = "run_again"
    title = gettext_lazy("Run again")
    log = "Ran again"
    warning = gettext_lazy(
        "Handlers that already succeeded will run again. If they send, charge or cancel something, "
        "they will do so twice."
    )

    def warns(self, row: HandlerCall) -> bool:
        return row.state == HandlerCall.State.DONE

    def run(self, pk: int, username: str) -> list[HandlerCall]:
        call = HandlerCall.objects.fresh().filter(pk=pk)
        return list(call) if handlers.run_again(call) else []


class SkipCall(Action):
    """Decides that a handler need not be called for an event."""

    model = HandlerCall
    name = "skip"
    title = gettext_lazy("Skip")
    log = "Skipped"
    warning = gettext_lazy(
        "The handler will not run for these events, now or later. Skip it if its work has been "
        "done another way or is no longer needed."
    )

    def affects(self, row: HandlerCall) -> bool:
        return row.state not in HandlerCall.ENDED_WELL

    def run(self, pk: int, username: str) -> list[HandlerCall]:
        call = HandlerCall.objects.fresh().filter(pk=pk)
        return list(call.all()) if handlers.skip(call, username=username) else []


# Events


class RunAgain(Action):
    """Makes the calls of an event that have not ended well."""

    name = "run_again"
    title = gettext_lazy("Run again")
    log = "Ran the unfinished handlers again"
    command = "cellcast_run_handlers --failed"

    def affects(self, row: WebhookEvent) -> bool:
        return bool(self.calls(row)) and row.body != ""

    def calls(self, row: WebhookEvent) -> list[HandlerCall]:
        return [call for call in row.calls.all() if call.state not in HandlerCall.ENDED_WELL]

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        calls = HandlerCall.objects.fresh().filter(event=pk)
        if not handlers.run_again(calls.exclude(state__in=HandlerCall.ENDED_WELL)):
            return []
        return list(WebhookEvent.objects.fresh().filter(pk=pk))


class Reprocess(Action):
    """Reads what could not be understood, or stored, and stores it if it can be now."""

    name = "reprocess"
    permission = "reprocess"
    title = gettext_lazy("Read again")
    log = "Read again"
    command = "cellcast_reprocess"
    consequence = gettext_lazy("Events that can now be read are stored, and their handlers run.")

    def affects(self, row: WebhookEvent) -> bool:
        return row.outcome in {WebhookEvent.Outcome.INVALID, WebhookEvent.Outcome.DEFERRED}

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        event = WebhookEvent.objects.fresh().filter(pk=pk).first()
        return receiving.reprocess(event) if event and self.affects(event) else []

    def sentences(self, changed: int, rows: Collection[WebhookEvent]) -> Iterator[Sentence]:
        unread = [event for event in rows if self.affects(event)]
        if count := len(rows) - len(unread):
            read = ngettext("%d event has been read.", "%d events have been read.", count)
            yield messages.SUCCESS, read % count
        if unread:
            still = ngettext(
                "%(count)d event cannot be read yet: %(reason)s",
                "%(count)d events cannot be read yet. The first: %(reason)s",
                len(unread),
            )
            yield messages.WARNING, still % {"count": len(unread), "reason": unread[0].error}
        yield from super().sentences(changed, rows)


class Dismiss(Action):
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

    def affects(self, row: WebhookEvent) -> bool:
        is_invalid = row.outcome == WebhookEvent.Outcome.INVALID
        return is_invalid and (row.dismissed_at is not None) == self.undoes

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        chosen = WebhookEvent.objects.fresh().filter(pk=pk)
        # Somebody may have been quicker.
        affected = chosen.filter(
            outcome=WebhookEvent.Outcome.INVALID, dismissed_at__isnull=not self.undoes
        )
        at = None if self.undoes else timezone.now()
        return list(chosen) if affected.update(dismissed_at=at) else []

    def sentences(self, changed: int, rows: Collection[WebhookEvent]) -> Iterator[Sentence]:
        done = ngettext("%(action)s: %(count)d event.", "%(action)s: %(count)d events.", changed)
        yield messages.SUCCESS, done % {"action": self.title, "count": changed}


class UndoDismissal(Dismiss):
    """Counts dismissed events as invalid again."""

    name = "undo_dismissal"
    title = gettext_lazy("Undo the dismissal")
    log = "Undid the dismissal"
    consequence = gettext_lazy("It counts as invalid again.")
    undoes = True


EVENT_ACTIONS: list[type[Action]] = [RunAgain, Reprocess, Dismiss, UndoDismissal]
CALL_ACTIONS: list[type[Action]] = [RunCallAgain, SkipCall]
"""In the order in which the pages offer them."""

EVENT_SENTENCES = {
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
            "%d event has failed and needs your attention.",
            "%d events have failed and need your attention.",
        ),
    ),
}

_CALL_FAILED = messages.ERROR, ngettext_lazy("%d call has failed.", "%d calls have failed.")
_CALL_LATER = (
    messages.WARNING,
    ngettext_lazy("%d call is made again later.", "%d calls are made again later."),
)

CALL_SENTENCES = {
    HandlerCall.State.DONE: (
        messages.SUCCESS,
        ngettext_lazy("%d call is done.", "%d calls are done."),
    ),
    HandlerCall.State.SKIPPED: (
        messages.SUCCESS,
        ngettext_lazy("%d call is skipped.", "%d calls are skipped."),
    ),
    HandlerCall.State.WAITING: _CALL_LATER,
    HandlerCall.State.RUNNING: _CALL_LATER,
    HandlerCall.State.RETRYING: _CALL_LATER,
    HandlerCall.State.FAILED: _CALL_FAILED,
    HandlerCall.State.GAVE_UP: _CALL_FAILED,
}
