"""One attempt: call the handlers that have not finished with an event, and save each outcome."""

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.utils import timezone

from cellcast_django.handlers.calls import Failure, call_safely, in_transaction
from cellcast_django.handlers.facts import BoundHandler, facts_of, handlers_of
from cellcast_django.handlers.failures import report_if_failed
from cellcast_django.handlers.patience import Patience
from cellcast_django.handlers.schedule import ending, has_been_saved, lease_end, save_if_ours
from cellcast_django.models import WebhookEvent
from cellcast_django.signals import GiveUp

logger = logging.getLogger("cellcast_django")

INTERRUPTED = "ProcessEnded: every attempt was interrupted before the handler returned."


class TakenOverError(Exception):
    """Another process has begun an attempt in the meantime, so ours must not save anything."""


def run_attempt(
    event: WebhookEvent,
    handlers: Sequence[BoundHandler] | None = None,
    patience: Patience | None = None,
) -> None:
    """Call the handlers that have not finished with the event, and save each outcome.

    With ``handlers``, calls these, in this order. ``patience`` records how the calls ended.
    """
    connected = handlers_of(event)
    if not connected and not facts_of(event):
        error = "The message or opt-out was deleted before its handlers ran."
        save_if_ours(event, error=error, done_at=None, next_run_at=None)
        report_if_failed(event)
        return
    if handlers is None:
        handlers = unfinished(event, connected)
    names = [handler.name for handler in connected]
    attempt = _Attempt(event, names, patience or Patience())
    try:
        attempt.run(handlers)
    except TakenOverError as error:
        logger.warning(
            "Handler %s ran longer than CELLCAST_HANDLER_LEASE; another process has taken "
            "event %s over.",
            *error.args,
            event.pk,
        )
    else:
        report_if_failed(event)


def unfinished(event: WebhookEvent, connected: Sequence[BoundHandler]) -> list[BoundHandler]:
    """Return the handlers still to be called for the event, in the order of the calls.

    Handlers that have not been called yet come first: the others have had their turn.
    """
    waiting = [each for each in connected if not event.is_done_with(each.name)]
    return sorted(waiting, key=lambda each: each.name in event.handler_results)


def in_turn(event: WebhookEvent, connected: Sequence[BoundHandler]) -> list[BoundHandler]:
    """Return the handlers for the next attempt, in an order that no single handler can block.

    A handler that kills its process leaves no outcome. So that it does not keep the others from
    being called, each attempt begins with a different one of those without an outcome, and every
    second attempt begins with those that have failed before.
    """
    attempt = event.attempts + 1
    waiting = unfinished(event, connected)
    uncalled = [each for each in waiting if each.name not in event.handler_results]
    called = waiting[len(uncalled) :]
    if uncalled:
        start = attempt // 2 % len(uncalled)
        uncalled = uncalled[start:] + uncalled[:start]
    return called + uncalled if attempt > 1 and attempt % 2 else uncalled + called


def fail_interrupted(event: WebhookEvent) -> None:
    """End an event as failed whose last attempt was interrupted when its process died."""
    outcome = {"at": timezone.now().isoformat(), "error": INTERRUPTED}
    uncalled = {each.name: outcome for each in unfinished(event, handlers_of(event))}
    results = uncalled | event.handler_results
    save_if_ours(event, handler_results=results, next_run_at=None)
    report_if_failed(event)


class _Attempt:
    """The calls of one attempt, and when the handlers asked to be called again."""

    def __init__(self, event: WebhookEvent, connected: list[str], patience: Patience) -> None:
        self.event = event
        self.connected = connected
        self.patience = patience
        self.retry_times: dict[str, datetime] = {}

    def run(self, handlers: Sequence[BoundHandler]) -> None:
        """Call the handlers, and save each outcome before the next call."""
        if not handlers:
            save_if_ours(self.event, **self._ending())
        for position, handler in enumerate(handlers, start=1):
            self._call(handler, is_last=position == len(handlers))

    def _call(self, handler: BoundHandler, *, is_last: bool) -> None:
        save = partial(self._save, handler.name, is_last=is_last)
        began_at = time.monotonic()
        if handler.is_exactly_once:
            failure = call_safely(partial(in_transaction, handler.call, save))
            is_saved = failure is None or has_been_saved(self.event, handler.name)
        else:
            failure = call_safely(handler.call)
            is_saved = False
        self.patience.note(handler.name, failure, time.monotonic() - began_at)
        if failure is not None and failure.kind is TakenOverError:
            raise TakenOverError(handler.name)
        if failure is not None:
            self._log(handler.name, failure)
        if not is_saved:
            save(failure)
        if failure is not None and failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt

    def _save(self, name: str, failure: Failure | None = None, *, is_last: bool) -> None:
        self.event.handler_results[name] = self._outcome(name, failure)
        values = self._ending() if is_last else {"next_run_at": lease_end()}
        if not save_if_ours(self.event, handler_results=self.event.handler_results, **values):
            raise TakenOverError(name)

    def _outcome(self, name: str, failure: Failure | None) -> dict[str, Any]:
        now = timezone.now()
        outcome: dict[str, Any] = {"at": now.isoformat(), "error": failure.text if failure else ""}
        if failure is not None and failure.location:
            outcome["location"] = failure.location
        if failure is not None and issubclass(failure.kind, GiveUp):
            outcome["gave_up"] = True
        if failure is not None and failure.retry_after is not None:
            self.retry_times[name] = now + failure.retry_after
        return outcome

    def _log(self, name: str, failure: Failure) -> None:
        if failure.retry_after is not None:
            logger.info("Handler %s asked to retry event %s later.", name, self.event.pk)
        else:
            logger.error(
                "Handler %s failed for event %s: %s.", name, self.event.pk, failure.summary
            )

    def _ending(self) -> dict[str, datetime | None]:
        return ending(self.event, self.connected, self.retry_times)
