"""Running an event's handlers: one attempt after the other, each result saved before the next."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, takewhile

from django.utils import timezone

from cellcast_django.handlers.calls import (
    Call,
    Fact,
    Failure,
    TakenOverError,
    call_safely,
    calls_of,
    connected_handlers,
    facts_of,
    names_for,
    repeatable_calls,
)
from cellcast_django.handlers.in_order import next_due, release_orphans
from cellcast_django.handlers.schedule import (
    Saved,
    Schedule,
    Trigger,
    due_ids,
    lease,
    load,
    may_be_running,
    renew_leases,
)
from cellcast_django.models import WebhookEvent, time_of
from cellcast_django.signals import handlers_failed

logger = logging.getLogger("cellcast_django")

DELETED = "The message or opt-out was deleted before its handlers ran."

Progress = Callable[[WebhookEvent], object]
"""Called with each event after its run."""
Tally = Counter[WebhookEvent.State | None]
"""How many events are in each state after their run."""


def run(events: Sequence[WebhookEvent]) -> None:
    """Make the run that began when these events were stored, each with something to run.

    Never raises: errors are logged, and the event is due again when its lease ends.
    """
    batch = Batch(behind=[event.pk for event in events])
    for event in events:
        batch.behind.remove(event.pk)
        is_fresh = event is events[0]
        try:
            batch.run(Schedule(event, calls_of(event), Trigger.STORED, is_fresh=is_fresh))
        except Exception as error:  # the event is stored: the response stays 200
            summary = Failure.of(error).summary
            logger.error("Running the handlers of event %s was broken off: %s.", event.pk, summary)


def run_due(
    pks: Iterable[int] | None = None,
    *,
    progress: Progress = lambda event: None,
    is_over: Callable[[], bool] = lambda: False,
) -> Tally:
    """Run what is due, longest waiting first, and return how the events ended.

    With ``pks``, runs only those of them that are due; without, goes on until nothing new is due,
    or until ``is_over``. Runs each event once. Safe in several processes at once: the one that
    claims an event runs it. Events for a handler that has spent half a minute on nothing but
    failures are left to the next run. Raises ``django.db.Error`` when the database refuses.
    """
    batch = Batch(progress)
    if pks is not None:
        batch.run_due(pks)
        return batch.tally
    since = None
    while True:
        until = timezone.now()
        due = chain(release_orphans(), due_ids(since, until))
        has_run = batch.run_due(takewhile(lambda _: not is_over(), due))
        if is_over() or not (batch.run_waiting() or has_run):
            return batch.tally
        since = until


def run_again(
    pks: Iterable[int],
    *,
    everyone: bool = False,
    only: str = "",
    progress: Progress = lambda event: None,
) -> Tally:
    """Run events that have failed or are pending once more, and return how they ended.

    Calls only the handlers that have not finished, including those that gave up, and waits for no
    pause and no earlier event. Skips events with nothing left to run; one whose handlers are not
    connected in this process stays as it is, and is reported as that. An event that another process
    is running right now is taken from it, which may call one handler twice.

    With ``everyone``, calls the handlers that had finished too, also for events that are done:
    their results are cleared when the run begins. Skips events without handlers, and redacted ones.

    With ``only``, calls that handler alone, finished or not, ``in_order`` if it is so marked; its
    attempts begin anew, and the others' results and pauses stay. Skips events without a fact for
    it, tests, redacted events, and those that another process may be running right now. Raises
    ``ValueError`` if the handler is not connected.
    """
    if only:
        return replay(pks, only, finished=True, progress=progress)
    batch = Batch(progress)
    for pk in pks:
        event = load(pk)
        if event is None or not (everyone or event.is_unfinished):
            continue
        calls = repeatable_calls(event) if everyone else calls_of(event)
        wanted = [call for call in calls if everyone or not event.has_finished(call.name)]
        if wanted:
            schedule = Schedule(event, calls, Trigger.PERSON)
            schedule.call_again(wanted, everyone=everyone)
            batch.run(schedule)
        elif not everyone:
            batch.report(event)
    return batch.tally


def replay(
    pks: Iterable[int],
    handler: str,
    *,
    finished: bool,
    progress: Progress = lambda event: None,
) -> Tally:
    """Give events to one handler, as ``run_again`` does; what it has finished if ``finished``."""
    if handler not in connected_handlers():
        raise ValueError(f"No handler of this name is connected: {handler}")
    began_at, batch = timezone.now(), Batch(progress)
    for pk in pks:
        event = load(pk)
        if event is None or may_be_running(event):
            continue
        # One that waited may have been run since, after the one that it waited for.
        names = [
            name
            for name in names_for(event, handler)
            if not event.has_finished(name)
            or (finished and time_of(event.handler_results[name]["at"]) < began_at)
        ]
        if names:
            batch.run(Schedule(event, calls_of(event), Trigger.REPLAY, only=names))
    return batch.tally


def skip(event_id: int, handler_name: str, *, username: str = "") -> bool:
    """Record a person's decision that this handler need not be called for the event.

    ``username`` says whose, and stays with the handler's result.

    If no other handler is unfinished, the event is done. Returns false if there is nothing to
    decide: the event is not stored or is done, or the handler has finished or is not known, by its
    connection or by a result. A process that is running it right now stops after its current
    handler. Raises ``TypeError`` for an event or a function in place of its id or name.
    """
    if type(event_id) is not int:  # nor a bool
        raise TypeError(f"event_id is an event's id, not {type(event_id).__name__}.")
    if not isinstance(handler_name, str):
        raise TypeError(f"handler_name is a handler's name, not {type(handler_name).__name__}.")
    event = load(event_id)
    if event is None or not event.is_unfinished or event.has_finished(handler_name):
        return False
    calls = calls_of(event)
    if handler_name not in {*(call.name for call in calls), *event.handler_results}:
        return False
    was_pending = event.state == WebhookEvent.State.PENDING
    schedule = Schedule(event, calls, Trigger.PERSON)
    saved = schedule.skip(handler_name, username=username)
    if saved is None:
        return False
    if was_pending and saved.has_failed:
        _report_failed(event)
    if schedule.has_released:
        Batch().run_next(schedule.contact, after=schedule.pk)
    return True


def summary(tally: Tally) -> dict[str, int]:
    """Return the counts by the name of each state."""
    return {state.value: tally[state] for state in WebhookEvent.State}


MAX_NEXT = 10
NEXT_SECONDS = 5
"""How many events that waited for one are run after it, and for how long new ones are begun."""

MAX_SECONDS_LOST = 30


class Batch:
    """Events that are run one after the other: how they ended, and the time lost in them."""

    def __init__(self, progress: Progress | None = None, *, behind: Iterable[int] = ()) -> None:
        """``behind``: events that have just been stored, and whose runs have not begun."""
        self.tally: Tally = Counter()
        self.behind = list(behind)
        self._renewed_at = timezone.now()
        self._progress = progress
        self._seconds_lost: dict[str, float] = defaultdict(float)
        """What each handler has spent failing since it last finished with an event."""
        self._has_waited: dict[int, bool] = {}
        """The events that were run and are pending: those that have waited may be run again."""
        self._waiting: dict[str, int] = {}
        """After which event to go on, for the contacts of which more is due."""

    def run_due(self, pks: Iterable[int]) -> bool:
        """Run those of the events that are due, each once; return whether there was any."""
        has_run = False
        for pk in pks:
            event = None if pk in self._has_waited else load(pk)
            if event is not None and event.is_due(timezone.now()):
                self.run(Schedule(event, calls_of(event), Trigger.DUE))
                has_run = True
        return has_run

    def run(self, schedule: Schedule) -> None:
        """Run the event's handlers, and then those of the contact's events that waited for it.

        Lets none of their exceptions out but ``KeyboardInterrupt``. Raises ``django.db.Error`` when
        the database refuses.
        """
        self._run_one(schedule)
        if schedule.has_released:
            self.run_next(schedule.contact, after=schedule.pk)

    def run_waiting(self) -> bool:
        """Go on with the contacts of which more is due, a batch each; false if there is none."""
        waiting, self._waiting = self._waiting, {}
        for contact, pk in waiting.items():
            self.run_next(contact, after=pk)
        return bool(waiting)

    def run_next(self, contact: str, *, after: int) -> None:
        """Run the due events of the contact that come after this one, in their order: a batch."""
        end = time.monotonic() + NEXT_SECONDS
        for _ in range(MAX_NEXT):
            event = next_due(contact, after=after)
            if event is None:
                return
            after = event.pk
            if self._has_waited.get(after, True):
                self._run_one(Schedule(event, calls_of(event), Trigger.DUE))
            if time.monotonic() > end:
                break
        self._waiting[contact] = after

    def _run_one(self, schedule: Schedule) -> None:
        """Run the event's handlers; report it if that was saved: no other process was quicker."""
        saved = self._call_handlers(schedule)
        if saved is None or schedule.event.next_run_at is not None:
            self._has_waited[schedule.pk] = schedule.is_waiting
        if saved is not None:
            if saved.has_failed:
                _report_failed(schedule.event)
            self.report(schedule.event)

    def report(self, event: WebhookEvent) -> None:
        """Count an event that has been run."""
        if self._progress is not None:
            self.tally[event.state] += 1
            self._progress(event)

    def _call_handlers(self, schedule: Schedule) -> Saved | None:
        """Call what is due, and save how each call ended; return what was saved last."""
        if not schedule.calls and not facts_of(schedule.event):
            return schedule.end_without_facts(DELETED)
        calls = schedule.due_calls()
        if not calls:
            return schedule.end()
        left_out = []
        if schedule.trigger is Trigger.DUE:
            left_out = [call for call in calls if self._seconds_lost[call.name] > MAX_SECONDS_LOST]
            calls = [call for call in calls if call not in left_out]
        saved = None
        while calls:
            earlier = {}
            for call in calls:
                if (other := schedule.earlier(call)) is not None:
                    earlier[call] = other
                    schedule.notes_calls = True
                    continue
                is_last = call is calls[-1] and not earlier
                saved = self._attempt(schedule, call, is_last=is_last)
                if saved is None or saved.is_over:
                    return saved
            if earlier and left_out:
                return schedule.end()
            calls = schedule.wait(earlier) if earlier else []
        return saved

    def _attempt(self, schedule: Schedule, call: Call, *, is_last: bool) -> Saved | None:
        """Call a handler, and save how that ended; ``None`` if another process was quicker."""
        if self.behind:
            self._renew_leases()
        attempts = schedule.begin(call)
        if attempts is None:
            return None
        saved: Saved | None = None

        def save(failure: Failure | None = None) -> bool:
            nonlocal saved
            seconds = time.monotonic() - began_at
            saved = schedule.save_result(call, attempts, failure, seconds=seconds, is_last=is_last)
            return saved is not None

        began_at = time.monotonic()
        failure = call_safely(call, save if call.exactly_once else None)
        seconds = time.monotonic() - began_at
        if failure is None:
            self._seconds_lost[call.name] = 0
        else:
            self._seconds_lost[call.name] += seconds
        if failure is None:
            if not call.exactly_once:
                save()
        elif failure.kind is not TakenOverError:
            _log(call, schedule.pk, failure)
            if not schedule.is_saved_as_done(call):
                save(failure)
        if saved is None:
            logger.warning(
                "The result of handler %s for event %s is not saved: it ran longer than "
                "CELLCAST_HANDLER_LEASE, and another process has taken the event over; or the "
                "event was deleted.",
                call.name,
                schedule.pk,
            )
        if failure is not None and failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt
        return saved

    def _renew_leases(self) -> None:
        """Keep the events behind to this process while a call takes nearly as long as a lease."""
        now = timezone.now()
        if now > self._renewed_at + lease() / 10:
            renew_leases(self.behind)
            self._renewed_at = now


def _log(call: Call, pk: int, failure: Failure) -> None:
    if failure.retry_after is not None:
        logger.info("Handler %s asked to retry event %s later.", call.name, pk)
    else:
        logger.error("Handler %s failed for event %s: %s.", call.name, pk, failure.summary)


def _report_failed(event: WebhookEvent) -> None:
    """Send ``handlers_failed`` for an event that has just failed.

    Raises nothing except ``KeyboardInterrupt``: the errors of that signal's handlers are logged.
    """
    arguments = {"event": event, "errors": event.handler_errors()}
    for call in Fact(handlers_failed, WebhookEvent, arguments).calls():
        failure = call_safely(call)
        if failure is None:
            continue
        logger.error("Handler %s of handlers_failed failed: %s.", call.name, failure.summary)
        if failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt
