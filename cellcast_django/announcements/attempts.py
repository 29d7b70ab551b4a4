"""One attempt: call the handlers that have not finished with an event, and keep each outcome."""

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.utils import timezone

from cellcast_django.announcements.calls import Failure, contained, in_transaction
from cellcast_django.announcements.facts import Callee, callees_of, facts_of
from cellcast_django.announcements.failures import tell_if_failed
from cellcast_django.announcements.patience import Patience
from cellcast_django.announcements.schedule import (
    ending,
    has_been_saved,
    lease_end,
    save_if_ours,
)
from cellcast_django.models import WebhookEvent
from cellcast_django.signals import GiveUp

logger = logging.getLogger("cellcast_django")

CUT_OFF = "ProcessEnded: every attempt was cut off before the handler had returned."


class TakenOverError(Exception):
    """Another process has begun an attempt in the meantime; nothing of ours may be saved."""


def run_attempt(
    event: WebhookEvent, callees: Sequence[Callee] | None = None, patience: Patience | None = None
) -> None:
    """Call the handlers that have not finished with the event, and keep each outcome.

    With ``callees``, these are called, in this order. ``patience`` learns how the calls have ended.
    """
    connected = callees_of(event)
    if not connected and not facts_of(event):
        error = "What it reported was deleted before it was announced."
        save_if_ours(event, error=error, announced_at=None, announce_due_at=None)
        tell_if_failed(event)
        return
    if callees is None:
        callees = unfinished(event, connected)
    names = [callee.name for callee in connected]
    attempt = _Attempt(event, names, patience or Patience())
    try:
        attempt.run(callees)
    except TakenOverError as error:
        logger.warning(
            "Handler %s ran longer than CELLCAST_ANNOUNCE_LEASE; another process has taken "
            "event %s over.",
            *error.args,
            event.pk,
        )
    else:
        tell_if_failed(event)


def unfinished(event: WebhookEvent, connected: Sequence[Callee]) -> list[Callee]:
    """Return those of the handlers that the event still has to be told to, in the order of calls.

    First those that have not been called yet: the others have had their turn.
    """
    waiting = [each for each in connected if not event.is_done_with(each.name)]
    return sorted(waiting, key=lambda each: each.name in event.announcements)


def in_turn(event: WebhookEvent, connected: Sequence[Callee]) -> list[Callee]:
    """Return the handlers that the next attempt calls, as the last one may have been cut off.

    A handler may kill its process, which leaves no outcome. So that it keeps no other one from
    being called, each attempt begins with another of those that have none, and every second one
    with those that have failed before.
    """
    attempt = event.announce_attempts + 1
    waiting = unfinished(event, connected)
    uncalled = [each for each in waiting if each.name not in event.announcements]
    called = waiting[len(uncalled) :]
    if uncalled:
        start = attempt // 2 % len(uncalled)
        uncalled = uncalled[start:] + uncalled[:start]
    return called + uncalled if attempt > 1 and attempt % 2 else uncalled + called


def end_cut_off(event: WebhookEvent) -> None:
    """Give up an event whose last attempt did not come to its end, as its process died."""
    outcome = {"at": timezone.now().isoformat(), "error": CUT_OFF}
    uncalled = {each.name: outcome for each in unfinished(event, callees_of(event))}
    announcements = uncalled | event.announcements
    save_if_ours(event, announcements=announcements, announce_due_at=None)
    tell_if_failed(event)


class _Attempt:
    """The calls of one attempt, and what the handlers have asked for in it."""

    def __init__(self, event: WebhookEvent, connected: list[str], patience: Patience) -> None:
        self.event = event
        self.connected = connected
        self.patience = patience
        self.asked_for: dict[str, datetime] = {}

    def run(self, callees: Sequence[Callee]) -> None:
        """Call the handlers, and save each outcome before the next call."""
        if not callees:
            save_if_ours(self.event, **self._ending())
        for position, callee in enumerate(callees, start=1):
            self._call(callee, is_last=position == len(callees))

    def _call(self, callee: Callee, *, is_last: bool) -> None:
        save = partial(self._save, callee.name, is_last=is_last)
        began_at = time.monotonic()
        if callee.handler.is_exactly_once:
            failure = contained(partial(in_transaction, callee.call, save))
            is_saved = failure is None or has_been_saved(self.event, callee.name)
        else:
            failure = contained(callee.call)
            is_saved = False
        self.patience.note(callee.name, failure, time.monotonic() - began_at)
        if failure is not None and failure.kind is TakenOverError:
            raise TakenOverError(callee.name)
        if failure is not None:
            self._log(callee.name, failure)
        if not is_saved:
            save(failure)
        if failure is not None and failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt

    def _save(self, name: str, failure: Failure | None = None, *, is_last: bool) -> None:
        self.event.announcements[name] = self._outcome(name, failure)
        values = self._ending() if is_last else {"announce_due_at": lease_end()}
        if not save_if_ours(self.event, announcements=self.event.announcements, **values):
            raise TakenOverError(name)

    def _outcome(self, name: str, failure: Failure | None) -> dict[str, Any]:
        now = timezone.now()
        outcome: dict[str, Any] = {"at": now.isoformat(), "error": failure.text if failure else ""}
        if failure is not None and issubclass(failure.kind, GiveUp):
            outcome["gave_up"] = True
        if failure is not None and failure.retry_after is not None:
            self.asked_for[name] = now + failure.retry_after
        return outcome

    def _log(self, name: str, failure: Failure) -> None:
        if failure.retry_after is not None:
            logger.info("Handler %s asks for event %s later.", name, self.event.pk)
        else:
            logger.error("Handler %s failed for event %s: %s.", name, self.event.pk, failure.place)

    def _ending(self) -> dict[str, datetime | None]:
        return ending(self.event, self.connected, self.asked_for)
