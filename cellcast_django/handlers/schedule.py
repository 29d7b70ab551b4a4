"""When an event's handlers are called: each change of its state by a run, once.

A run changes rows only here, and only if it is the latest one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cache
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


class TakenOverError(Exception):
    """Another process has begun a run in the meantime, so ours must not save anything."""


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


def _counted(result: HandlerResult, attempts: int, retry_at: datetime | None) -> HandlerResult:
    """Return the result with the number of calls, and with when the handler is called again."""
    counted: HandlerResult = {**result, "attempts": attempts}
    counted.pop("retry_at", None)
    if retry_at is not None:
        counted["retry_at"] = retry_at.isoformat()
    return counted


class Schedule:
    """The results of one event's handlers during a run, and when each is called next.

    Whatever it saves, it saves only while the run is the latest one of its event, which then has
    the same values. ``is_begun``: the run has been counted and leased already, and calls whatever
    is unfinished. Its methods raise ``django.db.Error`` when the database refuses.
    """

    def __init__(self, event: WebhookEvent, calls: list[Call], *, is_begun: bool = False) -> None:
        self.event = event
        self.calls = calls
        # Handlers are given the event and may change it, so this is what the run goes by.
        self.pk, self.contact = event.pk, event.contact
        self._number = event.attempts
        self._results: dict[str, HandlerResult] = dict(event.handler_results)
        self._names = [call.name for call in calls]
        self._lease = timedelta(seconds=conf.handler_lease)
        self._is_redacted = event.body == ""
        self._is_begun = is_begun
        self._is_repeated = not is_begun and event.attempts > 0
        self._is_by_person = False
        self.has_changed = False
        """Whether a handler has been called, or the event has ended."""
        self.has_failed = False
        """Whether the event has ended as failed."""
        self.is_cut_short = False
        """Whether a person has skipped a handler meanwhile, so that no other one may be called."""
        self.has_released = False
        """Whether other events of the contact waited for this one, and are due now."""

    # What to call

    def unfinished(self) -> list[str]:
        """Return the names of the handlers still to be called, connected or failed before."""
        known = dict.fromkeys([*self._names, *self._results])
        return [name for name in known if is_open(self._results.get(name))]

    def due_calls(self) -> list[Call]:
        """Return what to call, in the order of the calls: first what was never called.

        If nobody's time has come, whoever is next is due: a process has died, or a person has moved
        the event's time.
        """
        times = {name: due_time(self._results.get(name)) for name in self.unfinished()}
        horizon = max(timezone.now(), min(times.values(), default=timezone.now()))
        due = {name for name, time in times.items() if self._is_begun or time <= horizon}
        if not self._is_by_person:
            self._count_missing(due.difference(self._names))
        suspect = self._suspect()
        if suspect is not None and self._attempts_of(suspect) >= conf.handler_max_attempts:
            self._results[suspect.name] = self._not_returned(self._attempts_of(suspect))
            due.remove(suspect.name)
        calls = [call for call in self.calls if call.name in due]
        return sorted(calls, key=lambda call: (times[call.name], call is suspect))

    def _suspect(self) -> Call | None:
        """Return the handler that was probably called when the first run's process died.

        The first run saves nothing before a call, so that it costs no more than it must. A handler
        ``in_order`` may have waited instead.
        """
        if not self._is_repeated or self._number != 1:
            return None
        if any(result.get("skipped") for result in self._results.values()):
            return None  # a person's decision was counted as the first run
        uncalled = (call for call in self.calls if call.name not in self._results)
        return next((call for call in uncalled if not call.in_order), None)

    def _attempts_of(self, call: Call) -> int:
        if (result := self._results.get(call.name)) is not None:
            return result.get("attempts", 0)
        return int(call is self._suspect())

    def _count_missing(self, names: Iterable[str]) -> None:
        """Count an attempt of handlers that failed elsewhere and are not connected here.

        They may be gone for good, and their events must not be pending for ever.
        """
        for name in names:
            attempts = self._results[name].get("attempts", 0) + 1
            retry_at = self._retry_time(attempts)
            self._results[name] = _counted(self._results[name], attempts, retry_at)

    # Before and after a call

    def begin(self, call: Call) -> int | None:
        """Count and lease the run, note a repeated call, and return its number for this handler.

        ``None`` if another process has begun a run.
        """
        attempts = self._attempts_of(call) + 1
        lease_end = timezone.now() + self._lease
        values: dict[str, Any] = {}
        if not self._is_begun:
            values = {"attempts": self._number + 1, "next_run_at": lease_end, "waiting_for": None}
        if self._is_repeated:  # if it kills its process, it must not do so for ever
            self._results[call.name] = self._not_returned(attempts)
            values |= {"handler_results": self._results, "next_run_at": lease_end}
        self._is_begun = True
        return attempts if not values or self._save(**values) else None

    def _not_returned(self, attempts: int) -> HandlerResult:
        now = timezone.now()
        result: HandlerResult = {"at": now.isoformat(), "error": NOT_RETURNED}
        is_last = attempts >= conf.handler_max_attempts
        return _counted(result, attempts, None if is_last else now + self._lease)

    def save_result(
        self, call: Call, attempts: int, *, failure: Failure | None = None, is_last: bool
    ) -> None:
        """Save how a call ended, and with the last one in which state that leaves the event.

        Raises ``TakenOverError``.
        """
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
        values = self._when_ended() if is_last else {"next_run_at": now + self._lease}
        then = self._then(values, call) if is_last or call.in_order else None
        is_saved = self._save(then, handler_results=self._results, **values)
        if not is_saved and not self._save_beside_skip(call.name):
            raise TakenOverError(call.name)

    def _save_beside_skip(self, name: str) -> bool:
        """Save this handler's result all the same if people have only skipped others meanwhile.

        The handler must not be called again for that. What is left is up to the next run.
        """
        event = fresh_events().filter(pk=self.pk).first()
        results = event.handler_results if event is not None else {}
        skipped = {
            each: result
            for each, result in results.items()
            if result.get("skipped") and result != self._results.get(each)
        }
        number = self._number + len(skipped)
        if not skipped or name in skipped or event is None or event.attempts != number:
            return False
        self._results |= skipped
        self._number = number
        self.is_cut_short = True
        return self._save(self._release, handler_results=self._results, **self._when_ended())

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
        [saved] = fresh_events().filter(pk=self.pk).values_list("handler_results", flat=True)
        return WebhookEvent(handler_results=saved).has_finished(call.name)

    # How a run ends

    def end_without_calls(self) -> None:
        values: dict[str, Any] = self._when_ended()
        if not self._names and values["done_at"] is not None:
            # The handler it was stored for is connected in another process.
            number = self._number + (not self._is_begun)
            retry_at = self._retry_time(number)
            values = {"attempts": number, "done_at": None, "next_run_at": retry_at}
        self._save(self._then(values), handler_results=self._results, **values)

    def end_without_facts(self, error: str) -> None:
        """End as failed: what the event told of is not stored any more."""
        self._save(self._release, error=error, done_at=None, next_run_at=None)

    def _when_ended(self) -> dict[str, datetime | None]:
        """Return the event's fields after a run: done, failed, or due again.

        A handler that failed counts even if it is not connected in this process.
        """
        if waiting := self.unfinished():
            due_at = min(due_time(self._results.get(name)) for name in waiting)
            return {"done_at": None, "next_run_at": max(due_at, timezone.now())}
        has_failed = any(result["error"] for result in self._results.values())
        return {"done_at": None if has_failed else timezone.now(), "next_run_at": None}

    def _save(self, then: Callable[[str], None] | None = None, **values: Any) -> bool:
        """Save these fields if the run is still the latest; its event has them then too.

        ``then`` is called with the database's alias in the same transaction.
        """

        def save(using: str) -> bool:
            if then is None:
                return self._update(using, values)
            with _transaction(using):
                if is_saved := self._update(using, values):
                    then(using)
            return is_saved

        if not with_retries(save, using=database_alias()):
            return False
        self._number = values.get("attempts", self._number)
        self.has_changed = True
        has_ended = "done_at" in values and values["next_run_at"] is None
        self.has_failed = has_ended and values["done_at"] is None
        for name, value in values.items():
            setattr(self.event, name, value)
        self.event.attempts = self._number
        self.event.handler_results = {name: {**each} for name, each in self._results.items()}
        return True

    def _update(self, using: str, values: dict[str, Any]) -> bool:
        """Save these fields, unless another process has begun a run of the event since this one.

        One statement, at a third of the cost of ``update()``. Raises ``django.db.Error``.
        """
        connection = connections[using]
        field: Any = WebhookEvent._meta.get_field
        adapted = {
            name: field(name).get_db_prep_save(value, connection) for name, value in values.items()
        }
        adapted |= {"id": self.pk, "run": self._number}
        statement = _update_statement(tuple(values))
        execute = vendor_of(connection).execute
        with own_statement(using), execute(connection, statement, adapted) as cursor:
            return bool(cursor.rowcount == 1)

    # A contact's events, in order

    def earlier(self, call: Call) -> WebhookEvent | None:
        """Return the event that a handler ``in_order`` has to finish before this one.

        None if a person has asked for this one by name.
        """
        if self._is_by_person:
            return None
        for event in _pending_before(self.pk, self.contact):
            for other in calls_of(event):
                result = event.handler_results.get(other.name)
                if other.handler == call.handler and self._is_awaited(result):
                    return event
        return None

    def _is_awaited(self, result: HandlerResult | None) -> bool:
        """Whether a handler will be called, or may be in the middle of its last call."""
        if is_open(result):
            return True
        if result is None or result["error"] != NOT_RETURNED:
            return False
        called_at = datetime.fromisoformat(result["at"]).timestamp()
        return called_at + self._lease.total_seconds() > timezone.now().timestamp()

    def wait(self, earlier: Mapping[Call, WebhookEvent]) -> bool:
        """Save what the event waits for, by call; false if that has changed.

        Whoever ends an earlier event locks its row, and then tells those that wait for it. So the
        row is locked here too before it is looked at for the last time.
        """
        waiting = {call.name for call in earlier}
        times = [
            due_time(self._results.get(name)) for name in self.unfinished() if name not in waiting
        ]
        pks = {event.pk for event in earlier.values()}

        def write(using: str) -> bool:
            with _transaction(using):
                # Writes nothing, but locks on every database.
                fresh_events().filter(pk__in=pks).update(next_run_at=F("next_run_at"))
                now = [self.earlier(call) for call in earlier]
                found = {event.pk: event.next_run_at for event in now if event is not None}
                if None in now or set(found) != pks:
                    return False
                planned = [*times, *(time for time in found.values() if time is not None)]
                # Not long ago, where no other event would see it: see ``pending_of``.
                values = {
                    "done_at": None,
                    "next_run_at": max(min(planned), timezone.now()),
                    "waiting_for": min(pks),
                    "handler_results": self._results,
                }
                self._update(using, values)
                return True

        return with_retries(write, using=database_alias())

    def _then(
        self, values: Mapping[str, Any], call: Call | None = None
    ) -> Callable[[str], None] | None:
        """Return what to do, as these fields are saved, about the events that wait for this one.

        Nothing unless a handler is ``in_order``, or may be so where it is connected.
        """
        in_order = any(each.in_order for each in self.calls)
        is_all_here = bool(self.calls) and self._results.keys() <= set(self._names)
        if not self.contact or (is_all_here and not in_order):
            return None
        has_ended = call and call.in_order and not is_open(self._results[call.name])
        if has_ended or values["next_run_at"] is None:
            return self._release
        until = values["next_run_at"]
        return lambda _using: self._postpone(until)

    def _release(self, _using: str) -> None:
        """Make the events due that wait for this one, or for one before it."""
        waiting = pending_of(self.contact).filter(waiting_for__lte=self.pk)
        self.has_released = waiting.update(next_run_at=timezone.now(), waiting_for=None) > 0

    def _postpone(self, until: datetime) -> None:
        """Let the events that wait for this one wait until it is run again.

        Those for which another handler is to be called before that keep their time.
        """
        waiting = pending_of(self.contact).filter(waiting_for=self.pk)
        sooner = [
            event.pk
            for event in waiting.only("handler_results")
            if any(
                "retry_at" in result and due_time(result) < until
                for result in event.handler_results.values()
            )
        ]
        waiting.exclude(pk__in=sooner).update(next_run_at=until)

    # What a person asks for

    def begin_again(self, calls: Iterable[Call], *, everyone: bool) -> bool:
        """Count and lease a run of these calls; false if another process was quicker.

        They begin anew with ``everyone``, and otherwise with the attempts that they have made.
        """
        now = timezone.now()
        for call in calls:
            result = self._results.pop(call.name, None)
            if result is not None and not everyone:
                self._results[call.name] = {**result, "retry_at": now.isoformat()}
                self._results[call.name].pop("gave_up", None)
        self._is_begun, self._is_repeated, self._is_by_person = True, False, True
        return self._save(
            attempts=self._number + 1,
            next_run_at=now + self._lease,
            waiting_for=None,
            done_at=None,
            handler_results=self._results,
        )

    def skip(self, name: str, *, username: str) -> bool:
        """Save that this handler need not be called; false if another process was quicker."""
        self._results[name] = {
            "at": timezone.now().isoformat(),
            "error": "",
            "skipped": True,
            "by": username_of(username),
        }
        values: dict[str, Any] = {"handler_results": self._results}
        unfinished = self.unfinished()
        if not unfinished:
            values |= self._when_ended()
        elif self.event.next_run_at is not None:
            # The others keep their pauses. Not sooner: one may be running at this moment.
            due_at = min(due_time(self._results.get(each)) for each in unfinished)
            values["next_run_at"] = max(due_at, self.event.next_run_at)
        # Counted as a run, so that whoever loaded the event before sees that it has changed.
        values["attempts"] = self._number + 1
        return self._save(self._release, **values)


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
        "WHERE id = %(id)s AND attempts = %(run)s"
    )
