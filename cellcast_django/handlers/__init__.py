"""From rows to handlers: every handler is called once per fact, again only if it did not finish.

Handlers run after the commit and outside any transaction of ours. Each one's result is saved before
the next one runs, so a crash repeats at most the call that it interrupted. ``facts`` says what an
event has to tell, ``schedule`` when; ``attempts`` calls the handlers.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.handlers.attempts import (
    Failure,
    Patience,
    fail_interrupted,
    in_turn,
    report_if_failed,
    run_attempt,
)
from cellcast_django.handlers.facts import BoundHandler, handlers_of, handlers_to_replay
from cellcast_django.handlers.schedule import (
    claim,
    due_ids,
    load,
    save_if_ours,
    settled,
    unsettled,
)
from cellcast_django.models import WebhookEvent

logger = logging.getLogger("cellcast_django")


def run(events: Iterable[WebhookEvent]) -> None:
    """Run the attempt that began when these events were stored.

    Skips events that have nothing to run. Never raises: errors are logged, and the event is
    due again when its lease ends.
    """
    for event in events:
        if event.next_run_at is None:
            continue
        try:
            run_attempt(event)
        except Exception as error:  # the event is stored: the response stays 200
            summary = Failure.of(error).summary
            logger.error("Running the handlers of event %s was broken off: %s.", event.pk, summary)


def run_due(pks: Iterable[int] | None = None) -> Iterator[WebhookEvent]:
    """Run what is due, longest waiting first, and yield each event after its attempt.

    With ``pks``, only those of them that are due. Safe to run in several processes at once: the one
    that claims an event runs it. Events for a handler that has spent half a minute on nothing
    but failures are left to the next run. Raises ``django.db.Error`` when the database refuses.
    """
    now = timezone.now()
    patience = Patience()
    for pk in due_ids(now) if pks is None else pks:
        event = load(pk)
        if event is None or not event.is_due(now):
            continue
        if event.attempts >= conf.handler_max_attempts:
            fail_interrupted(event)
        elif not _run_patiently(event, patience):
            continue
        yield event


def _run_patiently(event: WebhookEvent, patience: Patience) -> bool:
    """Make an attempt; false if it is left to another process or to the next run."""
    waiting = in_turn(event, handlers_of(event))
    handlers = patience.worth_calling(waiting)
    if (waiting and not handlers) or not claim(event):
        return False
    run_attempt(event, handlers, patience)
    return True


def run_again(pks: Iterable[int], *, everyone: bool = False) -> Iterator[WebhookEvent]:
    """Make one more attempt for events that have failed or are pending.

    Calls only the handlers that have not finished, including those that gave up. Yields each event
    after its attempt, and skips events with nothing left to run. An event that another process
    is running right now is taken from it, which may call one handler twice.

    With ``everyone``, calls the handlers that had finished too, also for events that are done:
    their results are cleared when the attempt begins. It is the only way to run a finished handler
    again on purpose. Skips events without handlers, and those emptied of personal data.
    """
    for pk in pks:
        event = load(pk)
        if event is None:
            continue
        handlers = handlers_to_replay(event) if everyone else handlers_of(event)
        if not (handlers if everyone else event.is_unfinished):
            continue
        outcomes = _outcomes_to_keep(handlers, event.handler_results, everyone=everyone)
        if claim(event, done_at=None, handler_results=outcomes):
            run_attempt(event)
            yield event


def _outcomes_to_keep(
    handlers: Iterable[BoundHandler], results: dict[str, Any], *, everyone: bool
) -> dict[str, Any]:
    """Return the outcomes without those that would prevent a call of one of these handlers."""
    kept = dict(results)
    for handler in handlers:
        if (outcome := kept.pop(handler.name, None)) and not everyone:
            kept[handler.name] = {key: outcome[key] for key in outcome if key != "gave_up"}
    return kept


def skip(event_id: int, handler_name: str, *, username: str = "") -> bool:
    """Record a person's decision that this handler need not be called for the event.

    ``username`` says whose, and stays with the handler's result.

    If no other handler is unfinished, the event is done. Returns false if there is nothing to
    decide: the event is not stored or is done, or the handler has finished or is unknown. A
    process that is running it right now stops after its current handler.
    """
    event = load(event_id)
    if event is None or not event.is_unfinished or event.has_finished(handler_name):
        return False
    connected = [handler.name for handler in handlers_of(event)]
    known = {*connected, *event.handler_results}
    if known and handler_name not in known:
        return False
    was_pending = event.state == WebhookEvent.State.PENDING
    outcome = {"at": timezone.now().isoformat(), "error": "", "skipped": True, "by": username}
    event.handler_results[handler_name] = outcome
    values: dict[str, Any] = {} if unsettled(event, connected) else settled(event)
    # Counted as an attempt, so that a running one sees that the event was taken from it.
    values |= {"attempts": event.attempts + was_pending}
    saved = save_if_ours(event, handler_results=event.handler_results, **values)
    if saved and was_pending:
        report_if_failed(event)
    return saved
