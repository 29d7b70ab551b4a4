"""When an event's handlers are called: each change of its state by a run, once.

A run changes rows only here, and only if it is the latest one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cache, partial
from typing import Any

from django.db import connections, transaction
from django.db.models import F, Q
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.database.transactions import own_statement, own_transaction, with_retries
from cellcast_django.database.vendors import vendor_of
from cellcast_django.handlers.calls import Call, Failure, calls_of
from cellcast_django.models import (
    HandlerResult,
    WebhookEvent,
    WebhookEventQuerySet,
    database_alias,
    error_type,
    fresh_events,
    time_of,
    username_of,
)
from cellcast_django.signals import GiveUp

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
SPREAD = 0.08  # the fraction of a pause by which it may be shortened
GOLDEN_RATIO = (5**0.5 - 1) / 2
LONG_AGO = 86_400.0
BATCH_SIZE = 1_000  # how many ids of due events are read at a time

NOT_RETURNED = "NotReturned: it was called and has not returned; perhaps its process has ended."
"""The error of a handler while it is called again, and for good if its process dies."""


# When a handler is called again


def pause_after(attempts: int, *, spread_by: int = 0) -> timedelta:
    """Return the pause after this many attempts: a minute, two, four … and at most six hours.

    It is up to 8 % shorter, depending on the event's id in ``spread_by``, so that everything that
    failed in one outage is not retried in the same second. Multiples of the golden ratio spread
    consecutive ids evenly.
    """
    doublings = min(attempts - 1, 16)  # more would overflow, and the longest is reached by 9
    pause = min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
    return pause * (1 - SPREAD * (spread_by * GOLDEN_RATIO % 1))


def usual_time() -> timedelta:
    """Return how long the pauses between all attempts take: 20 hours for twelve."""
    return sum(map(pause_after, range(1, conf.handler_max_attempts)), timedelta())


def is_open(result: HandlerResult | None) -> bool:
    """Whether a handler with this result will be called without anybody asking for it."""
    if result is None:
        return True
    if not result["error"] or result.get("gave_up"):
        return False
    return "retry_at" in result or result.get("attempts", 0) < conf.handler_max_attempts


def due_time(result: HandlerResult | None) -> datetime:
    """Return from when on a handler with this result may be called; long ago if it never was."""
    text = result.get("retry_at") if result else None
    return time_of(text) if text else datetime.fromtimestamp(LONG_AGO, tz=timezone.now().tzinfo)


def lease() -> timedelta:
    """Return how long other processes leave a running attempt alone."""
    return timedelta(seconds=conf.handler_lease)


def _is_awaited(result: HandlerResult | None) -> bool:
    """Whether a handler will be called, or may be in the middle of its last call."""
    if result is None or is_open(result):
        return True
    return result["error"] == NOT_RETURNED and time_of(result["at"]) + lease() > timezone.now()


def _counted(result: HandlerResult, attempts: int, retry_at: datetime | None) -> HandlerResult:
    """Return the result with the number of calls, and with when the handler is called again."""
    counted: HandlerResult = {**result, "attempts": attempts}
    counted.pop("retry_at", None)
    if retry_at is not None:
        counted["retry_at"] = retry_at.isoformat()
    return counted


class Run(Enum):
    """Why an event's handlers are run."""

    FIRST = auto()
    """It has just been stored, which has counted and leased the run."""
    DUE = auto()
    """Its time has come."""
    BY_PERSON = auto()


@dataclass(frozen=True, slots=True)
class Saved:
    """What a change that has been saved means."""

    is_over: bool
    """The run has ended, perhaps before its last call: a person has skipped another handler."""
    has_failed: bool
    """The event has ended as failed."""


class Schedule:
    """The results of one event's handlers during a run, and when each is called next.

    Whatever it saves, it saves only while the run is the latest one of its event, which then has
    the same values; ``None`` says that it is not. Its methods raise ``django.db.Error`` when the
    database refuses.
    """

    def __init__(self, event: WebhookEvent, calls: list[Call], run: Run) -> None:
        self.event = event
        self.calls = calls
        self.run = run
        # Handlers are given the event and may change it, so this is what the run goes by.
        self.pk, self.contact = event.pk, event.contact
        self._is_redacted = not event.body
        self._runs = event.attempts
        self._runs_before = event.attempts - (run is Run.FIRST)
        self._results: dict[str, HandlerResult] = dict(event.handler_results)
        self._in_order = {call.name: call.in_order for call in calls}
        self.has_released = False
        """Whether other events of the contact waited for this one, and are due now."""

    # What to call

    def due_calls(self) -> list[Call]:
        """Return what to call, in the order of the calls: first what was never called.

        If nobody's time has come, whoever is next is due: a process has died, or a person has moved
        the event's time.
        """
        now = timezone.now()
        if self.run is Run.DUE and self._runs_before == 1 and (suspect := self._uncalled()):
            # Probably called when the first run's process died: that saves nothing before a call,
            # so that it costs no more than it must. Due before those that have a pause.
            self._results[suspect.name] = self._not_returned(1, self.event.received_at)
        times = self._due_times()
        horizon = max(now, min(times.values(), default=now))
        due = {name for name, time in times.items() if time <= horizon}
        missing = due - self._in_order.keys() if self.run is Run.DUE else ()
        for name in missing:  # perhaps for good, and their events must not be pending for ever
            attempts = self._attempts_of(name) + 1
            retry_at = self._retry_time(attempts)
            self._results[name] = _counted(self._results[name], attempts, retry_at)
        calls = [call for call in self.calls if call.name in due]
        return sorted(calls, key=lambda call: times[call.name])

    def _known(self) -> dict[str, bool]:
        """Return the handlers, connected or called before: whether they are or may be in order."""
        return dict.fromkeys(self._results, True) | self._in_order

    def _due_times(self) -> dict[str, datetime]:
        """Return from when on each handler that has not finished may be called."""
        result = self._results.get
        return {name: due_time(result(name)) for name in self._known() if is_open(result(name))}

    def _uncalled(self) -> Call | None:
        """Return the first handler without a result; one ``in_order`` may have waited instead."""
        uncalled = (call for call in self.calls if call.name not in self._results)
        return next((call for call in uncalled if not call.in_order), None)

    def _attempts_of(self, name: str) -> int:
        result = self._results.get(name)
        return result.get("attempts", 0) if result else 0

    # Before and after a call

    def begin(self, call: Call) -> int | None:
        """Count and lease the run, note a repeated call, and return which attempt it is.

        ``None`` if another process has begun a run.
        """
        attempts = self._attempts_of(call.name) + 1
        is_counted = self._runs > self._runs_before
        is_noted = self.run is Run.DUE and self._runs_before > 0
        if is_counted and not is_noted:
            return attempts
        values: dict[str, Any] = {"next_run_at": timezone.now() + lease()}
        if not is_counted:
            values |= {"attempts": self._runs + 1, "done_at": None, "waiting_for": None}
        if is_noted:  # if it kills its process, it must not do so for ever
            self._results[call.name] = self._not_returned(attempts, values["next_run_at"])
        if self._save(**values) is None:
            return None
        self._runs = values.get("attempts", self._runs)
        return attempts

    def _not_returned(self, attempts: int, retry_at: datetime) -> HandlerResult:
        result: HandlerResult = {"at": timezone.now().isoformat(), "error": NOT_RETURNED}
        is_last = attempts >= conf.handler_max_attempts
        return _counted(result, attempts, None if is_last else retry_at)

    def save_result(
        self, call: Call, attempts: int, failure: Failure | None, *, is_last: bool
    ) -> Saved | None:
        """Save how a call ended, and with the last one in which state that leaves the event."""
        now = timezone.now()
        result: HandlerResult = {"at": now.isoformat(), "error": ""}
        retry_at = None
        if failure is not None:
            # The text may quote what redaction has emptied; nothing redacts the event again.
            result["error"] = error_type(failure.text) if self._is_redacted else failure.text
            if failure.location:
                result["location"] = failure.location
            if issubclass(failure.kind, GiveUp):
                result["gave_up"] = True
            else:
                retry_at = self._retry_time(attempts, failure.retry_after)
        self._results[call.name] = _counted(result, attempts, retry_at)
        values = self._when_ended() if is_last else {"next_run_at": now + lease()}
        then = self._then(values, call) if is_last or call.in_order else None
        return self._save(then, **values) or self._save_beside_skip(call.name)

    def _save_beside_skip(self, name: str) -> Saved | None:
        """Save this handler's result all the same if people have only skipped others meanwhile.

        The handler must not be called again for that. What is left is up to the next run.
        """
        event = fresh_events().filter(pk=self.pk).first()
        skipped = {
            each: result
            for each, result in (event.handler_results if event else {}).items()
            if result.get("skipped") and result != self._results.get(each)
        }
        runs = self._runs + len(skipped)
        if not skipped or name in skipped or event is None or event.attempts != runs:
            return None
        self._results |= skipped
        self._runs = runs
        return self._save(self._release, **self._when_ended())

    def _retry_time(self, attempts: int, after: timedelta | None = None) -> datetime | None:
        """Return when to call a handler again that has failed this often; ``None`` for never.

        ``after`` is what it asked for by ``RetryLater``: that is granted for as long as the
        attempts or the time that they usually take are not used up.
        """
        now = timezone.now()
        if attempts < conf.handler_max_attempts:
            return now + (pause_after(attempts, spread_by=self.pk) if after is None else after)
        if after is not None and now < self.event.received_at + usual_time():
            return now + after
        return None

    def is_saved_as_done(self, call: Call) -> bool:
        """Whether a call ``exactly_once`` is done in the database, whatever was raised since."""
        result = self._results.get(call.name)
        if result is None or result["error"]:
            return False  # it was never about to be saved
        return any(event.has_finished(call.name) for event in fresh_events().filter(pk=self.pk))

    # How a run ends

    def end_without_calls(self) -> Saved | None:
        values = self._when_ended()
        if not self.calls and values["done_at"] is not None:
            # The handler it was stored for is connected in another process.
            runs = self._runs_before + 1
            values = {"attempts": runs, "done_at": None, "next_run_at": self._retry_time(runs)}
        return self._save(self._then(values), **values)

    def end_without_facts(self, error: str) -> Saved | None:
        """End as failed: what the event told of is not stored any more."""
        return self._save(self._release, error=error, done_at=None, next_run_at=None)

    def _when_ended(self, earlier: Mapping[Call, WebhookEvent] | None = None) -> dict[str, Any]:
        """Return the event's fields after a run: done, failed, or due again.

        A handler that failed counts even if it is not connected in this process. ``earlier``: what
        calls wait for.
        """
        times: dict[str, Any] = {**self._due_times()}
        times |= {call.name: event.next_run_at for call, event in (earlier or {}).items()}
        if not times:
            has_failed = any(result["error"] for result in self._results.values())
            return {"done_at": None if has_failed else timezone.now(), "next_run_at": None}
        # Not long ago, where no other event would see it: see ``pending_of``.
        values = {"done_at": None, "next_run_at": max(min(times.values()), timezone.now())}
        if self._runs == 1 and self._uncalled():
            values["attempts"] = 2  # the first run's process has not died: see ``due_calls``
        return values

    def _save(self, then: Callable[[], None] | None = None, **values: Any) -> Saved | None:
        """Save these fields and the results if the run is still the latest; the event has them too.

        ``then`` is called in the same transaction.
        """
        values["handler_results"] = self._results

        def save(using: str) -> bool:
            if then is None:
                return self._update(using, values)
            with _transaction(using):
                if is_saved := self._update(using, values):
                    then()
            return is_saved

        if not with_retries(save, using=database_alias()):
            return None
        self.event.attempts = self._runs
        for name, value in values.items():
            setattr(self.event, name, value)
        self.event.handler_results = {name: {**each} for name, each in self._results.items()}
        is_over = "done_at" in values
        has_failed = is_over and values["done_at"] is values["next_run_at"] is None
        return Saved(is_over, has_failed)

    def _update(self, using: str, values: dict[str, Any]) -> bool:
        """Save these fields, unless another process has begun a run of the event since this one.

        One statement, at a third of the cost of ``update()``. Raises ``django.db.Error``.
        """
        connection = connections[using]
        field: Any = WebhookEvent._meta.get_field
        params = {
            name: field(name).get_db_prep_save(value, connection) for name, value in values.items()
        }
        params |= {"id": self.pk, "runs": self._runs}
        sql = _update_statement(tuple(values))
        with own_statement(using), vendor_of(connection).execute(connection, sql, params) as cursor:
            return bool(cursor.rowcount == 1)

    # A contact's events, in order

    def earlier(self, call: Call) -> WebhookEvent | None:
        """Return the event that a handler ``in_order`` has to finish before this one.

        None if a person has asked for this one.
        """
        if not call.in_order or self.run is Run.BY_PERSON:
            return None
        for event in _pending_before(self.pk, self.contact):
            for other in calls_of(event):
                result = event.handler_results.get(other.name)
                if other.handler == call.handler and _is_awaited(result):
                    return event
        return None

    def wait(self, earlier: Mapping[Call, WebhookEvent]) -> list[Call]:
        """Save what the event waits for, by call; if that has changed, return the calls instead.

        Whoever ends an earlier event locks its row, and then tells those that wait for it. So the
        row is locked here too before it is looked at for the last time.
        """
        pks = {event.pk for event in earlier.values()}

        def write(using: str) -> list[Call]:
            with _transaction(using):
                # Writes nothing, but locks on every database.
                fresh_events().filter(pk__in=pks).update(next_run_at=F("next_run_at"))
                now = {call: event for call in earlier if (event := self.earlier(call))}
                if now != earlier:  # events are the same if their keys are
                    return list(earlier)
                values = {"waiting_for": min(pks), "handler_results": self._results}
                self._update(using, values | self._when_ended(now))
                return []

        return with_retries(write, using=database_alias())

    def _then(self, values: dict[str, Any], call: Call | None = None) -> Callable[[], None] | None:
        """Return what to do, as these fields are saved, about the events that wait for this one.

        Nothing unless a handler is ``in_order``, or may be so where it is connected.
        """
        known = self._known()
        if not self.contact or (known and not any(known.values())):
            return None
        has_ended = call and call.in_order and not is_open(self._results[call.name])
        if has_ended or values["next_run_at"] is None:
            return self._release
        return partial(self._postpone, values["next_run_at"])

    def _release(self) -> None:
        """Make the events due that wait for this one, or for one before it."""
        waiting = pending_of(self.contact).filter(waiting_for__lte=self.pk)
        self.has_released |= waiting.update(next_run_at=timezone.now(), waiting_for=None) > 0

    def _postpone(self, until: datetime) -> None:
        """Let the events that wait for this one wait until it is run again.

        Those for which another handler is to be called before that keep their time.
        """
        waiting = pending_of(self.contact).filter(waiting_for=self.pk)
        sooner = [
            event.pk
            for event in waiting.only("handler_results")
            for result in event.handler_results.values()
            if "retry_at" in result and due_time(result) < until
        ]
        waiting.exclude(pk__in=sooner).update(next_run_at=until)

    # What a person asks for

    def call_again(self, calls: Iterable[Call], *, everyone: bool) -> None:
        """Let these be called in this run.

        They begin anew with ``everyone``, and otherwise with the attempts that they have made.
        """
        now = timezone.now().isoformat()
        for call in calls:
            result = self._results.pop(call.name, None)
            if result is not None and not everyone:
                self._results[call.name] = {**result, "retry_at": now}
                self._results[call.name].pop("gave_up", None)

    def skip(self, name: str, *, username: str) -> Saved | None:
        """Save that this handler need not be called."""
        self._results[name] = {
            "at": timezone.now().isoformat(),
            "error": "",
            "skipped": True,
            "by": username_of(username),
        }
        values: dict[str, Any] = {}
        times = self._due_times()
        if not times:
            values = self._when_ended()
        elif self.event.next_run_at is not None:
            # The others keep their pauses. Not sooner: one may be running at this moment.
            values["next_run_at"] = max(min(times.values()), self.event.next_run_at)
        # Counted as a run, so that whoever loaded the event before sees that it has changed; never
        # as the first, whose process would seem to have died.
        return self._save(self._release, attempts=max(self._runs, 1) + 1, **values)


# Reading events


def due_ids() -> Iterator[int]:
    """Yield the ids of due events, longest waiting first; after an outage there are many."""
    due = fresh_events().due(timezone.now()).order_by("next_run_at", "pk")
    rest = due
    while True:
        batch = list(rest.values_list("next_run_at", "pk")[:BATCH_SIZE])
        yield from (pk for _, pk in batch)
        if len(batch) < BATCH_SIZE:
            return
        at, last = batch[-1]
        is_later = Q(next_run_at__gt=at) | Q(pk__gt=last)
        rest = due.filter(is_later, next_run_at__gte=at)  # for the index


def load(pk: int) -> WebhookEvent | None:
    """Return the event with its message, its history row and its opt-out."""
    return _with_facts(fresh_events()).filter(pk=pk).first()


def _with_facts(events: WebhookEventQuerySet) -> WebhookEventQuerySet:
    """Read the rows that the facts of the events consist of in the same query."""
    return events.select_related("message", "status_change", "opt_out_change__opt_out")


def pending_of(contact: str) -> WebhookEventQuerySet:
    """Return the contact's pending events, by the index that begins with these two columns."""
    return fresh_events().filter(contact=contact, next_run_at__gt=due_time(None))


def _pending_before(pk: int, contact: str) -> Iterable[WebhookEvent]:
    """Return the contact's pending events before this one, the last one first."""
    earlier = pending_of(contact).filter(pk__lt=pk).order_by("-pk")
    if not contact or not earlier.exists():  # a third of the cost of reading no rows with facts
        return ()
    return _with_facts(earlier)


def next_due(contact: str, after: int) -> WebhookEvent | None:
    """Return the contact's first due event after the one with this key."""
    due = pending_of(contact).filter(pk__gt=after, next_run_at__lte=timezone.now())
    return _with_facts(due).order_by("pk").first()


# Writing them


def _transaction(using: str) -> AbstractContextManager[None]:
    is_inside = connections[using].in_atomic_block
    return transaction.atomic(using=using) if is_inside else own_transaction(using)


@cache
def _update_statement(names: tuple[str, ...]) -> str:
    assignments = ", ".join(f"{name} = %({name})s" for name in names)
    return (
        f"UPDATE {WebhookEvent._meta.db_table} SET {assignments} "
        "WHERE id = %(id)s AND attempts = %(runs)s"
    )
