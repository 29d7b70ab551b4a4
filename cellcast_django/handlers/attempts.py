"""Which call is made when: begun, made and ended, one after the other. No SQL of its own."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from enum import Enum, auto
from itertools import groupby
from operator import attrgetter, itemgetter

from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.handlers import steps
from cellcast_django.handlers.work import (
    ROWS_OF_FACTS,
    Fact,
    Failure,
    TakenOverError,
    Work,
    do_safely,
    facts_of,
)
from cellcast_django.models import HandlerCall, HandlerCallQuerySet, WebhookEvent
from cellcast_django.signals import handlers_failed

logger = logging.getLogger("cellcast_django")

Progress = Callable[[HandlerCall], object]
"""Called with each call after an attempt."""
Tally = Counter[HandlerCall.State]
"""How many calls are in each state after their attempt."""
MAX_SECONDS = 60
"""A run of what is due begins nothing after this time: the next one goes on."""
MAX_NEXT, NEXT_SECONDS = 10, 5
"""How many calls that waited for one are made after it, and for how long new ones are begun."""


def run(calls: Sequence[HandlerCall]) -> None:
    """Make the calls of events that have just been stored. Never raises: errors are logged.

    Once the database refuses, the rest is left to the next run: each might take seconds.
    """
    turn = Turn(begun=[call.pk for call in calls if call.state == HandlerCall.State.RUNNING])
    for event_id, some in groupby(calls, attrgetter("event_id")):
        stored = list(some)
        try:
            turn.make(stored, {call.pk for call in stored})
        except Exception as error:  # the event is stored: the response stays 200
            summary = Failure.of(error).summary
            logger.error("Making the calls of event %s was broken off: %s.", event_id, summary)
            return


def run_due(
    event_ids: Iterable[int] | None = None,
    *,
    progress: Progress = lambda call: None,
    is_over: Callable[[], bool] = lambda: False,
) -> Tally:
    """Make the calls that are due, longest waiting first, each once; return how they ended.

    With ``event_ids``, only theirs. Begins nothing after a minute, or once it ``is_over``. Safe in
    several processes at once: the one that begins a call makes it.
    """
    calls, began_at = HandlerCall.objects.fresh(), timezone.now()
    if event_ids is not None:
        calls = calls.filter(event__in=event_ids)
    ends_at = time.monotonic() + MAX_SECONDS
    turn = Turn(progress, is_over=lambda: is_over() or time.monotonic() > ends_at)
    due = calls.due(began_at).order_by("next_attempt_at", "pk").values_list("event_id", "pk")
    # Asked again, since what ends in order lets the next become due. What fails is due later.
    while keys := [(event_id, pk) for event_id, pk in due.all() if pk not in turn.tried]:
        for event_id, pks in _by_event(keys):
            if turn.is_over():
                return turn.tally
            turn.make_due(event_id, pks)
    return turn.tally


def _by_event(keys: Iterable[tuple[int, int]]) -> Iterator[tuple[int, set[int]]]:
    """Yield an event's id with the keys of its calls that follow one another."""
    for event_id, some in groupby(keys, itemgetter(0)):
        yield event_id, {pk for _, pk in some}


def run_again(
    calls: HandlerCallQuerySet,
    *,
    since: datetime | None = None,
    progress: Progress = lambda call: None,
) -> int:
    """Make these calls in this process, each anew and once, and return how many they were.

    Waits for no pause and no earlier event, calls again what is done or was skipped, and takes over
    what is running, which may call that handler twice. What has begun or ended ``since`` (by
    default now; a longer run says when it began) stays as it is: another process has made it, or
    this one after a call that it waited for; or it was skipped, and does not count. Leaves redacted
    events alone. Raises ``django.db.Error`` when the database refuses.
    """
    since = since or timezone.now()
    turn, count = Turn(progress), 0
    for event_id, pks in _by_event(sorted(calls.values_list("event_id", "pk"))):
        loaded = _load(event_id)
        asked_for = [call for call in loaded if call.pk in pks and call.event.body]
        # A clock may step back meanwhile, so it does not decide on what this run has made.
        left = [call for call in asked_for if call.pk in turn.made or call.was_made_since(since)]
        reopened = {call.pk for call in asked_for if call not in left and steps.reopen(call)}
        count += len(reopened) + sum(call.state != HandlerCall.State.SKIPPED for call in left)
        turn.make(loaded, reopened, in_order=False)
    return count


def skip(calls: HandlerCallQuerySet, *, username: str = "") -> int:
    """Record a person's decision that these calls need not be made; return how many they were.

    ``username`` stays with the call. Those that are done stay so. A handler that is being called
    right now is not stopped, but the call stays skipped. Then makes, for at most five seconds, what
    waited for them in order. Raises ``django.db.Error`` when the database refuses.
    """
    chosen = [call for call in calls.all() if call.state not in HandlerCall.ENDED_WELL]
    # The others' events had failed before this, and that has been told.
    were_unfinished = {call.event_id for call in chosen if call.is_unfinished}
    count = steps.end_as_skipped([call.pk for call in chosen], username)
    Turn().make_next(chosen)
    for event in WebhookEvent.objects.fresh().filter(pk__in=were_unfinished).failed():
        _tell_if_failed(_load(event.pk))
    return count


def summary(tally: Tally) -> dict[str, int]:
    """Return how many calls are done, made again later, and have failed for good."""
    states = HandlerCall.State
    failed = sum(tally[state] for state in HandlerCall.FAILED)
    return {"done": tally[states.DONE], "retrying": tally[states.RETRYING], "failed": failed}


class Result(Enum):
    """What became of an attempt."""

    MADE = auto()
    LEFT = auto()
    """It waits for another event; or it was made, but is not ours to end any more."""
    TAKEN = auto()
    """Another process has begun it."""


class Turn:
    """Calls that one process makes one after the other, each once."""

    def __init__(
        self,
        progress: Progress = lambda call: None,
        *,
        is_over: Callable[[], bool] = lambda: False,
        begun: Collection[int] = (),
    ) -> None:
        self.tally: Tally = Counter()
        self.tried: set[int] = set()
        self.made: set[int] = set()
        self.is_over = is_over
        self._progress = progress
        self._begun = begun
        """The calls that this process has inserted as running, so that it need not begin them."""

    def make(
        self,
        calls: Sequence[HandlerCall],
        chosen: Set[int],
        *,
        in_order: bool = True,
        goes_on: bool = True,
    ) -> None:
        """Make the chosen ones of an event's calls; if it ``goes_on``, what waited for them too."""
        self.tried |= chosen
        if not calls:  # the event was deleted
            return
        # Handlers are given the event and may change it, so this is what the turn goes by.
        received_at = calls[0].event.received_at
        work = {fact.signal.name: fact.work() for fact in facts_of(calls[0].event)}
        made = []
        for call in calls:
            if call.pk not in chosen:
                continue
            result = self._attempt(call, work, received_at, in_order=in_order)
            if result is Result.TAKEN:
                break  # by another process, which goes on with the event's others
            if result is Result.MADE:
                made.append(call)
                self.made.add(call.pk)
                self.tally[HandlerCall.State(call.state)] += 1
                self._progress(call)
        ended = [call for call in made if call.next_attempt_at is None]
        if made and len(ended) == len(made):  # with one to make again, it has not failed yet
            _tell_if_failed(calls)
        if goes_on:
            self.make_next(ended)

    def make_due(self, event_id: int, pks: Set[int], *, goes_on: bool = True) -> None:
        """Load an event's calls, and ``make`` those of ``pks`` that are still due."""
        self.tried |= pks
        calls, now = _load(event_id), timezone.now()
        calls.sort(key=lambda call: call.attempts)  # one that ends the process holds up no other
        due = {call.pk for call in calls if call.pk in pks and call.is_due(now)}
        self.make(calls, due, goes_on=goes_on)

    def make_next(self, ended: Iterable[HandlerCall]) -> None:
        """Make what waited for these in order: of each handler and contact a few calls."""
        ends_at = time.monotonic() + NEXT_SECONDS
        waited_for = {(call.handler, call.contact) for call in ended if call.contact}
        for handler, contact in sorted(waited_for):
            unfinished = HandlerCall.objects.fresh().unfinished().order_by("event_id", "pk")
            for _ in range(MAX_NEXT):
                if self.is_over() or time.monotonic() > ends_at:
                    return
                first = unfinished.filter(handler=handler, contact=contact).first()
                if first is None or first.pk in self.tried or not first.is_due(timezone.now()):
                    break
                self.make_due(first.event_id, {first.pk}, goes_on=False)

    def _attempt(
        self,
        call: HandlerCall,
        work: Mapping[str, Mapping[str, Work]],
        received_at: datetime,
        *,
        in_order: bool,
    ) -> Result:
        """Begin and make a call, unless there is nothing to call, or it is not its turn."""
        if call.signal not in work:
            return _not_called(call, steps.fail(call, steps.DELETED))
        todo = work[call.signal].get(call.handler)
        if todo is not None and call.pk in self._begun:
            return _do(call, todo, received_at)
        has_not_returned = call.state == HandlerCall.State.RUNNING  # to whoever had begun it
        if has_not_returned and call.attempts >= conf.handler_max_attempts:
            return _not_called(call, steps.fail(call, steps.NOT_RETURNED))
        if todo is None:
            return _not_called(call, steps.miss(call, received_at))
        if not steps.begin(call, in_order=in_order):
            if not in_order or not call.contact:
                return Result.TAKEN
            # It waits for an earlier one; or another process has begun it, and nothing changes.
            if not call.is_due(timezone.now()):  # just inserted, so ours for a lease
                steps.release(call)
            return Result.LEFT
        if has_not_returned:
            _log(call, steps.NOT_RETURNED)
        return _do(call, todo, received_at)


def _load(event_id: int) -> list[HandlerCall]:
    """Return all calls of an event, in their order, with the event and its facts."""
    calls = HandlerCall.objects.fresh().filter(event=event_id).order_by("pk")
    return list(calls.select_related("event", *(f"event__{fact}" for fact in ROWS_OF_FACTS)))


def _not_called(call: HandlerCall, is_saved: bool) -> Result:
    """Log why an attempt called no handler, unless another process has the call."""
    if not is_saved:
        return Result.TAKEN
    _log(call, call.error)
    return Result.MADE


def _do(call: HandlerCall, work: Work, received_at: datetime) -> Result:
    """Call the handler, and save how that ended: if ``exactly_once``, in its own transaction."""
    began_at = time.monotonic()

    def end(failure: Failure | None = None) -> bool:
        seconds = time.monotonic() - began_at
        return steps.end(call, failure, seconds=seconds, received_at=received_at)

    failure = do_safely(work, end if work.exactly_once else None)
    if failure is None:
        is_saved = work.exactly_once or end()
    elif failure.kind is TakenOverError:
        is_saved = False
    else:
        _log(call, failure.summary, is_asked_for=failure.retry_after is not None)
        # What the host project's on_commit functions raise comes after the commit.
        is_saved = (work.exactly_once and steps.is_saved_as_done(call)) or end(failure)
    if not is_saved:
        logger.warning(
            "The end of handler %s for event %s is not saved: the call is not ours any more. It "
            "was skipped or deleted, or ran longer than CELLCAST_HANDLER_LEASE.",
            call.handler,
            call.event_id,
        )
    if failure is not None and failure.kind is KeyboardInterrupt:
        raise KeyboardInterrupt
    return Result.MADE if is_saved else Result.LEFT


def _log(call: HandlerCall, problem: str, *, is_asked_for: bool = False) -> None:
    if is_asked_for:
        logger.info("Handler %s asked to retry event %s later.", call.handler, call.event_id)
    else:
        problem = problem.partition(": ")[0]  # of NOT_RETURNED and the like, the type alone
        logger.error("Handler %s failed for event %s: %s.", call.handler, call.event_id, problem)


def _tell_if_failed(calls: Sequence[HandlerCall]) -> None:
    """Send ``handlers_failed`` if the end of some of an event's calls has left it failed.

    What its handlers raise is only logged.
    """
    if all(call.state in HandlerCall.ENDED_WELL for call in calls):
        return  # none has failed, and an event gets no more of them
    stored = list(HandlerCall.objects.fresh().filter(event=calls[0].event_id))
    errors = {call.handler: call.error for call in stored if call.state in HandlerCall.FAILED}
    if not errors or any(call.is_unfinished for call in stored):
        return
    fact = Fact(handlers_failed, WebhookEvent, {"event": calls[0].event, "errors": errors})
    for name, work in fact.work().items():
        failure = do_safely(work)
        if failure is None:
            continue
        logger.error("Handler %s of handlers_failed failed: %s.", name, failure.summary)
        if failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt
