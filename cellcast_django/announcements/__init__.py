"""From rows to handlers: every handler is called once per fact, again only if it has not finished.

An announcement runs after the commit and outside any transaction of ours. The outcome of each
handler is saved before the next one runs, so a crash repeats at most the call that it cut off.
``facts`` says what an event has to tell, ``schedule`` when, ``attempts`` calls the handlers.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from django.utils import timezone

from cellcast_django.announcements.attempts import end_cut_off, in_turn, run_attempt
from cellcast_django.announcements.calls import place_of
from cellcast_django.announcements.facts import Callee, callees_of, callees_to_replay
from cellcast_django.announcements.failures import tell_if_failed
from cellcast_django.announcements.patience import Patience
from cellcast_django.announcements.schedule import (
    claim,
    due_ids,
    load,
    save_if_ours,
    settled,
    unsettled,
)
from cellcast_django.conf import conf
from cellcast_django.models import WebhookEvent

logger = logging.getLogger("cellcast_django")


def announce(events: Iterable[WebhookEvent]) -> None:
    """Run the attempt that began when these events were stored.

    Events that have nothing to announce are passed over. Never raises: what goes wrong is logged,
    and the event is due again when its lease is up.
    """
    for event in events:
        if event.announce_due_at is None:
            continue
        try:
            run_attempt(event)
        except Exception as error:  # noqa: BLE001  # it is stored: nothing changes its answer
            logger.error("Announcing event %s was broken off: %s.", event.pk, place_of(error))


def announce_due(pks: Iterable[int] | None = None) -> Iterator[WebhookEvent]:
    """Announce what is due, the longest waiting first, and yield each event after its attempt.

    With ``pks``, only those of them that are due. Safe to run in several processes at once: an
    event is announced by the one that claims it. What is due for a handler that has failed for half
    a minute without finishing with anything is left to the next run. Raises ``django.db.Error``
    when the database refuses.
    """
    now = timezone.now()
    patience = Patience()
    for pk in due_ids(now) if pks is None else pks:
        event = load(pk)
        if event is None or not event.is_due(now):
            continue
        if event.announce_attempts >= conf.announce_max_attempts:
            end_cut_off(event)
        elif not _announce_patiently(event, patience):
            continue
        yield event


def _announce_patiently(event: WebhookEvent, patience: Patience) -> bool:
    """Make an attempt. False when it is for another process or for the next run to make."""
    waiting = in_turn(event, callees_of(event))
    callees = patience.with_others(waiting)
    if (waiting and not callees) or not claim(event):
        return False
    run_attempt(event, callees, patience)
    return True


def announce_again(pks: Iterable[int], *, everyone: bool = False) -> Iterator[WebhookEvent]:
    """Make one more attempt for events that failed or wait for their next attempt.

    Only the handlers that have not finished are called, those that gave up included. Yields each
    event after its attempt; events that have nothing left to announce are passed over. An event
    that another process is announcing at this moment is taken from it, which may call one handler
    twice.

    With ``everyone``, the handlers that had finished are called too, and events that had been
    announced as well: their outcomes are forgotten when the attempt begins. It is the one way in
    which a handler hears a fact again on purpose. Passed over is what nobody listens for, and what
    has been emptied of personal data.
    """
    for pk in pks:
        event = load(pk)
        if event is None:
            continue
        callees = callees_to_replay(event) if everyone else callees_of(event)
        if not (callees if everyone else event.is_unannounced):
            continue
        kept = _without_decisions_of(callees, event.announcements, everyone=everyone)
        if claim(event, announced_at=None, announcements=kept):
            run_attempt(event)
            yield event


def _without_decisions_of(
    callees: Iterable[Callee], announcements: dict[str, Any], *, everyone: bool
) -> dict[str, Any]:
    """Return the outcomes without those that would keep one of these handlers from being called."""
    kept = dict(announcements)
    for callee in callees:
        if (outcome := kept.pop(callee.name, None)) and not everyone:
            kept[callee.name] = {key: outcome[key] for key in outcome if key != "gave_up"}
    return kept


def skip(event_id: int, handler_name: str) -> bool:
    """Note that a person has decided that this handler need not be called for the event.

    The event is announced when no other handler is unfinished. False where there is nothing to
    decide: the event is not stored or is announced, the handler has finished, or is not known. A
    process that is announcing the event at this moment stops after the handler that it runs.
    """
    event = load(event_id)
    if event is None or not event.is_unannounced or event.has_finished(handler_name):
        return False
    connected = [callee.name for callee in callees_of(event)]
    known = {*connected, *event.announcements}
    if known and handler_name not in known:
        return False
    was_pending = event.state == WebhookEvent.State.PENDING
    outcome = {"at": timezone.now().isoformat(), "error": "", "skipped": True}
    event.announcements[handler_name] = outcome
    values: dict[str, Any] = {} if unsettled(event, connected) else settled(event)
    # Counted like an attempt, so that one that is running finds the event taken.
    values |= {"announce_attempts": event.announce_attempts + was_pending}
    saved = save_if_ours(event, announcements=event.announcements, **values)
    if saved and was_pending:
        tell_if_failed(event)
    return saved
