"""From rows to handlers: every handler is called once per fact, again only if it did not finish.

Handlers run after the commit and outside any transaction of ours. Each one's result is saved before
the next one runs, so a crash repeats at most the call that it interrupted. ``facts`` says what an
event has to tell, ``schedule`` when; ``attempts`` calls the handlers.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from django.utils import timezone

from cellcast_django.handlers.attempts import Failure, Patience, Run, report_if_failed
from cellcast_django.handlers.facts import Call, calls_of, repeatable_calls
from cellcast_django.handlers.schedule import (
    due_ids,
    fields_when_ended,
    load,
    next_due,
    release,
    save_if_latest,
    unfinished,
)
from cellcast_django.models import HandlerResult, WebhookEvent, lease_end

logger = logging.getLogger("cellcast_django")

Progress = Callable[[WebhookEvent], object]
"""Called with each event after its run."""
Tally = Counter[WebhookEvent.State | None]
"""How many events are in each state after their run."""


def summary(tally: Tally) -> dict[str, int]:
    """Return the counts by the name of each state."""
    return {state.value: tally[state] for state in WebhookEvent.State}


def run(events: Iterable[WebhookEvent]) -> None:
    """Make the run that began when these events were stored, each with something to run.

    Never raises: errors are logged, and the event is due again when its lease ends.
    """
    for event in events:
        try:
            _make(Run(event, is_begun=True))
        except Exception as error:  # the event is stored: the response stays 200
            summary = Failure.of(error).summary
            logger.error("Running the handlers of event %s was broken off: %s.", event.pk, summary)


MAX_NEXT = 10
NEXT_SECONDS = 5
"""How many events that waited for one are run after it, and for how long new ones are begun."""


def _make(run: Run, progress: Progress = lambda event: None) -> None:
    """Make the run, then those of the contact's events that waited for it."""
    _make_one(run, progress)
    if run.has_released:
        _make_next(run.event.pk, run.contact, run.patience, progress)


def _make_one(run: Run, progress: Progress) -> None:
    run.make()
    if run.has_changed:
        progress(run.event)


def _make_next(pk: int, contact: str, patience: Patience, progress: Progress) -> None:
    """Run the due events of the contact that come after this one, in their order."""
    end = time.monotonic() + NEXT_SECONDS
    for _ in range(MAX_NEXT):
        event = next_due(contact, after=pk)
        if event is None:
            return
        _make_one(Run(event, patience), progress)
        if time.monotonic() > end:
            return
        pk = event.pk


def run_due(pks: Iterable[int] | None = None, *, progress: Progress = lambda event: None) -> Tally:
    """Run what is due, longest waiting first, and return how the events ended.

    With ``pks``, runs only those of them that are due. Safe in several processes at once: the one
    that claims an event runs it. Events for a handler that has spent half a minute on nothing but
    failures are left to the next run. Raises ``django.db.Error`` when the database refuses.
    """
    tally, report = _counting(progress)
    patience = Patience()
    for pk in due_ids() if pks is None else pks:
        event = load(pk)
        if event is not None and event.is_due(timezone.now()):
            _make(Run(event, patience), report)
    return tally


def _counting(progress: Progress) -> tuple[Tally, Progress]:
    """Return an empty tally, and a function that counts an event in it and reports it."""
    tally: Tally = Counter()

    def report(event: WebhookEvent) -> None:
        tally[event.state] += 1
        progress(event)

    return tally, report


def run_again(
    pks: Iterable[int], *, everyone: bool = False, progress: Progress = lambda event: None
) -> Tally:
    """Run events that have failed or are pending once more, and return how they ended.

    Calls only the handlers that have not finished, including those that gave up, and waits for no
    pause and no earlier event. Skips events with nothing left to run. An event that another process
    is running right now is taken from it, which may call one handler twice.

    With ``everyone``, calls the handlers that had finished too, also for events that are done:
    their results are cleared when the run begins. It is the only way to run a finished handler
    again on purpose. Skips events without handlers, and redacted ones.
    """
    tally, report = _counting(progress)
    for pk in pks:
        event = load(pk)
        if event is None:
            continue
        calls = repeatable_calls(event) if everyone else calls_of(event)
        if not (calls if everyone else event.is_unfinished):
            continue
        results = _results_to_keep(calls, event.handler_results, everyone=everyone)
        if _begin(event, handler_results=results):
            _make(Run(event, is_begun=True, by_person=True), report)
    return tally


def _results_to_keep(
    calls: Iterable[Call], results: dict[str, HandlerResult], *, everyone: bool
) -> dict[str, HandlerResult]:
    """Return the results without what would prevent these calls."""
    kept = dict(results)
    for call in calls:
        result = kept.pop(call.name, None)
        if result is None or everyone:
            continue
        result = {**result}
        if result["error"]:
            result.pop("gave_up", None)
            result["retry_at"] = timezone.now().isoformat()
        kept[call.name] = result
    return kept


def _begin(event: WebhookEvent, **values: Any) -> bool:
    """Count a run that a person asked for, and lease it; false if another process was quicker."""
    values |= {
        "attempts": event.attempts + 1,
        "next_run_at": lease_end(timezone.now()),
        "waiting_for": None,
        "done_at": None,
    }
    return _save(event, values)


def _save(
    event: WebhookEvent, values: dict[str, Any], then: Callable[[str], object] | None = None
) -> bool:
    saved = save_if_latest(event.pk, event.attempts, values, then)
    if saved:
        for name, value in values.items():
            setattr(event, name, value)
    return saved


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
    names = [call.name for call in calls_of(event)]
    known = {*names, *event.handler_results}
    if known and handler_name not in known:
        return False
    was_pending = event.state == WebhookEvent.State.PENDING
    result: HandlerResult = {
        "at": timezone.now().isoformat(),
        "error": "",
        "skipped": True,
        "by": username,
    }
    results = event.handler_results | {handler_name: result}
    values: dict[str, Any] = {"handler_results": results}
    if not unfinished(results, names):
        values |= fields_when_ended(results, names)
    # Counted as a run, so that one that is going on sees that the event was taken from it.
    values["attempts"] = event.attempts + was_pending
    released = 0

    def release_next(using: str) -> None:
        nonlocal released
        released = release(event.pk, event.contact)

    saved = _save(event, values, release_next)
    if saved and was_pending:
        report_if_failed(event)
    if saved and released:
        _make_next(event.pk, event.contact, Patience(), lambda event: None)
    return saved
