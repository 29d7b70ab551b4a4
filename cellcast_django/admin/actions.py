"""What a person can do with events and calls, one class each: whom it affects, and what it does."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from django.db.models import Model
from django.utils import timezone
from django.utils.translation import gettext_lazy

from cellcast_django import handlers, receiving
from cellcast_django.database.transactions import again_if_refused
from cellcast_django.models import HandlerCall, WebhookEvent


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

    def __init__(self) -> None:
        self.began_at = timezone.now()
        """An action is made for one request: what has run since does not run again."""

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
        return list(call) if handlers.run_again(call, since=self.began_at) else []


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
        return list(call) if handlers.skip(call, username=username) else []


class RunAgain(Action):
    """Makes the calls of an event that have not ended well."""

    name = "run_again"
    title = gettext_lazy("Run again")
    log = "Ran the unfinished handlers again"

    def affects(self, row: WebhookEvent) -> bool:
        return bool(self.calls(row))

    def calls(self, row: WebhookEvent) -> list[HandlerCall]:
        return [call for call in row.calls.all() if call.state not in HandlerCall.ENDED_WELL]

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        calls = HandlerCall.objects.fresh().filter(event=pk)
        unfinished = calls.exclude(state__in=HandlerCall.ENDED_WELL)
        count = handlers.run_again(unfinished, since=self.began_at)
        # A colleague may have made them, or this click, after an event that they waited for.
        are_made = count or any(call.was_made_since(self.began_at) for call in calls.done())
        return list(WebhookEvent.objects.fresh().filter(pk=pk)) if are_made else []


class Reprocess(Action):
    """Reads what could not be understood, or stored, and stores it if it can be now."""

    name = "reprocess"
    permission = "reprocess"
    title = gettext_lazy("Read again")
    log = "Read again"
    consequence = gettext_lazy("Events that can now be read are stored, and their handlers run.")

    def affects(self, row: WebhookEvent) -> bool:
        return row.outcome in {WebhookEvent.Outcome.INVALID, WebhookEvent.Outcome.DEFERRED}

    def run(self, pk: int, username: str) -> list[WebhookEvent]:
        event = WebhookEvent.objects.fresh().filter(pk=pk).first()
        return receiving.read_again(event) if event and self.affects(event) else []


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
        dismiss = partial(affected.update, dismissed_at=None if self.undoes else timezone.now())
        return list(chosen) if again_if_refused(dismiss, using=affected.db) else []


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
