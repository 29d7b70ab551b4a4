"""The states of one event: when its handlers are called, and how each run leaves it.

A run changes the event only here, and only while it is the event's latest run.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cache, partial
from typing import Any

from django.db import connections
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.database.transactions import own_statement, own_transaction, with_retries
from cellcast_django.handlers import in_order
from cellcast_django.handlers.calls import Call, Failure, with_facts
from cellcast_django.handlers.in_order import Earlier
from cellcast_django.models import (
    HandlerResult,
    WebhookEvent,
    database_alias,
    error_type,
    time_of,
    username_of,
)
from cellcast_django.signals import GiveUp

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)

NOT_RETURNED = "NotReturned: it was called and has not returned; perhaps its process has ended."
"""The error of a handler while it is called again, and for good if its process dies."""


# When a handler is called again


def pause_after(attempts: int) -> timedelta:
    """Return the pause after this many attempts: a minute, two, four … and at most six hours."""
    doublings = min(attempts - 1, 16)  # more would overflow, and the longest is reached by 9
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


def usual_time() -> timedelta:
    """Return how long the pauses between all attempts take: 20 hours for twelve."""
    return sum(map(pause_after, range(1, conf.handler_max_attempts)), timedelta())


def _look_again_at(received_at: datetime) -> datetime | None:
    """Return when another process may have an event's handlers; ``None`` if that took too long.

    The pauses double, as those of a handler do: each is as long as all before it.
    """
    now = timezone.now()
    age = now - received_at
    return now + min(max(age, FIRST_PAUSE), LONGEST_PAUSE) if age < usual_time() else None


def is_open(result: HandlerResult | None) -> bool:
    """Whether a handler with this result is called again automatically."""
    if result is None:
        return True
    if not result["error"] or result.get("gave_up"):
        return False
    return "retry_at" in result or result.get("attempts", 0) < conf.handler_max_attempts


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


def _attempts_of(result: HandlerResult | None) -> int:
    return result.get("attempts", 0) if result else 0


def _not_returned(attempts: int, retry_at: datetime) -> HandlerResult:
    result: HandlerResult = {"at": timezone.now().isoformat(), "error": NOT_RETURNED}
    is_last = attempts >= conf.handler_max_attempts
    return _counted(result, attempts, None if is_last else retry_at)


class Trigger(Enum):
    """Why an event's handlers are run."""

    STORED = auto()
    """It has just been stored, which has counted and leased the run."""
    DUE = auto()
    """Its time has come."""
    PERSON = auto()
    """A person has asked for it."""
    REPLAY = auto()
    """A past event is given to one handler."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What saving told us."""

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

    def __init__(
        self,
        event: WebhookEvent,
        calls: list[Call],
        trigger: Trigger,
        *,
        is_fresh: bool = True,
        only: Collection[str] = (),
    ) -> None:
        """Begin a run; one that is not ``is_fresh`` comes after the runs of other events.

        ``only``: the names of the calls of a replay. They begin anew.
        """
        self.event = event
        self.calls = calls
        self.trigger = trigger
        # Handlers are given the event and may change it, so this is what the run goes by.
        self.pk, self.contact = event.pk, event.contact
        self._is_redacted = not event.body
        self._runs, self._interventions = event.attempts, event.interventions
        self._runs_before = event.attempts - (trigger is Trigger.STORED)
        self._leased_until = event.next_run_at if trigger is Trigger.STORED and is_fresh else None
        self._results: dict[str, HandlerResult] = dict(event.handler_results)
        self._in_order = {call.name: call.in_order for call in calls}
        self._only = only
        # Nobody runs such an event, so a replay need not claim it, and brings in nobody else.
        self._is_settled = trigger is Trigger.REPLAY and event.next_run_at is None
        self._had_failed = self._is_settled and event.done_at is None
        self._has_ended_in_order = False
        self.has_released = False
        """Whether other events of the contact waited for this one, and are due now."""
        self.is_waiting = False
        """Whether the event waits for an earlier one."""
        is_repeated = self._runs_before > 0 and trigger in (Trigger.DUE, Trigger.REPLAY)
        self.notes_calls = is_repeated or conf.handler_max_attempts == 1
        """Whether each call is noted before it is made."""
        is_interrupted = is_repeated and not self._is_settled and not event.calls_are_noted
        if is_interrupted and conf.handler_max_attempts > 1:
            self._count_interrupted_call()
        for name in only:
            self._results.pop(name, None)

    def _count_interrupted_call(self) -> None:
        """Count the call in which the process of the run before has died: it was not noted."""
        uncalled = (call.name for call in self.calls if call.name not in self._results)
        if (name := next(uncalled, None)) is not None:
            self._results[name] = _not_returned(1, self.event.received_at)

    # What to call

    def due_calls(self) -> list[Call]:
        """Return what to call, in the order of the calls: first what was never called.

        If nobody's time has come, whoever is next is due: a process has died, or a person has moved
        the event's time.
        """
        now = timezone.now()
        times = self._due_times(now)
        horizon = max(now, min(times.values(), default=now))
        due = {name for name, time in times.items() if time <= horizon}
        if self._only:
            due.intersection_update(self._only)
        missing = due - self._in_order.keys() if self.trigger is Trigger.DUE else ()
        for name in missing:  # perhaps for good, and their events must not be pending for ever
            attempts = _attempts_of(self._results.get(name)) + 1
            retry_at = self._retry_time(attempts)
            self._results[name] = _counted(self._results[name], attempts, retry_at)
        calls = [call for call in self.calls if call.name in due]
        return sorted(calls, key=lambda call: (call.name in self._results, times[call.name]))

    def _due_times(self, now: datetime) -> dict[str, datetime]:
        """Return from when on each handler that has not finished may be called."""
        return {
            name: time_of(result["retry_at"]) if result and "retry_at" in result else now
            for name in self._known()
            if is_open(result := self._results.get(name))
        }

    def _known(self) -> dict[str, bool]:
        """Return the handlers, connected or called before: whether they are or may be in order."""
        known = dict.fromkeys(self._results, True) | self._in_order
        return {name: known[name] for name in self._only} if self._is_settled else known

    # Before and after a call

    def begin(self, call: Call) -> int | None:
        """Count and lease the run, note the call, and return which attempt it is.

        ``None`` if another process has begun a run. For an event that has just been stored nobody
        is asked, and nothing is written; nor for one that is settled.
        """
        now, attempts = timezone.now(), _attempts_of(self._results.get(call.name)) + 1
        is_ours = self._leased_until is not None and now < self._leased_until
        count = self._count()
        if self._is_settled or (is_ours and not count and not self.notes_calls):
            return attempts
        values = count | {
            "next_run_at": now + lease(),
            "calls_are_noted": self.notes_calls,
        }
        if self.notes_calls:  # if it kills its process, it must not do so for ever
            self._results[call.name] = _not_returned(attempts, now + lease())
        while self._save(**values) is None:
            skipped = self._take_in_interventions()
            if skipped is None or skipped:
                return None
        return attempts

    def _count(self) -> dict[str, Any]:
        """Return the fields that count the run, if that is still to be done."""
        if self._runs > self._runs_before:
            return {}
        return {"attempts": self._runs + 1, "done_at": None, "waiting_for": None}

    def save_result(
        self, call: Call, attempts: int, failure: Failure | None, *, seconds: float, is_last: bool
    ) -> Saved | None:
        """Save how a call ended, and with the last one in which state that leaves the event.

        If people have skipped other handlers meanwhile, the run ends: what is left is up to the
        next one.
        """
        result = self._results[call.name] = self._result_of(attempts, failure)
        result["seconds"] = round(seconds, 3)
        has_ended = call.in_order and not is_open(result)
        self._has_ended_in_order |= has_ended
        while True:
            if is_last:
                saved = self._save_end(**self._count() | self._when_ended())
            else:
                release = self._release if has_ended and self._interventions else None
                values = self._count() | {"next_run_at": timezone.now() + lease()}
                saved = self._save(release, **values)
            if saved is not None:
                return saved
            skipped = self._take_in_interventions()
            if skipped is None or call.name in skipped:
                return None
            is_last = is_last or bool(skipped)

    def _result_of(self, attempts: int, failure: Failure | None) -> HandlerResult:
        result: HandlerResult = {"at": timezone.now().isoformat(), "error": ""}
        if failure is None:
            return _counted(result, attempts, None)
        # The text may quote what redaction has emptied; nothing redacts the event again.
        result["error"] = error_type(failure.text) if self._is_redacted else failure.text
        if failure.location:
            result["location"] = failure.location
        if issubclass(failure.kind, GiveUp):
            result["gave_up"] = True
            return _counted(result, attempts, None)
        return _counted(result, attempts, self._retry_time(attempts, failure.retry_after))

    def _retry_time(self, attempts: int, after: timedelta | None = None) -> datetime | None:
        """Return when to call a handler again that has failed this often; ``None`` for never.

        ``after`` is what it asked for by ``RetryLater``: that is granted for as long as the
        attempts or the time that they usually take are not used up.
        """
        now = timezone.now()
        if attempts < conf.handler_max_attempts:
            return now + (pause_after(attempts) if after is None else after)
        if after is not None and now < self.event.received_at + usual_time():
            return now + after
        return None

    def is_saved_as_done(self, call: Call) -> bool:
        """Whether a call ``exactly_once`` is done in the database, whatever was raised since."""
        result = self._results.get(call.name)
        if result is None or result["error"]:
            return False  # it was never about to be saved
        stored = WebhookEvent.objects.fresh().filter(pk=self.pk)
        return any(event.has_finished(call.name) for event in stored)

    # How a run ends

    def end(self) -> Saved | None:
        """End the run without another call."""
        values = self._when_ended()
        if not self.calls and values["done_at"] is not None:
            # The handler it was stored for is connected in another process.
            values = {"done_at": None, "next_run_at": _look_again_at(self.event.received_at)}
        return self._save_end(**values)

    def end_without_facts(self, error: str) -> Saved | None:
        """End as failed: what the event told of is not stored any more."""
        return self._save_end(error=error, done_at=None, next_run_at=None)

    def _when_ended(self) -> dict[str, Any]:
        """Return the event's fields after a run: done, failed, or due again.

        A handler that failed counts even if it is not connected in this process.
        """
        now = timezone.now()
        times = self._due_times(now)
        if times:
            return {"done_at": None, "next_run_at": min(times.values()), "calls_are_noted": True}
        has_failed = any(result["error"] for result in self._results.values())
        return {"done_at": None if has_failed else now, "next_run_at": None}

    # Saving

    def _save_end(self, **values: Any) -> Saved | None:
        """Save the end of a run; in the same transaction, tell the events that wait for this one.

        There are none if nobody has intervened.
        """
        if not self._interventions:
            return self._save(is_over=True, **values)
        then = partial(self._release_or_postpone, values["next_run_at"])
        return self._save(then, is_over=True, **values)

    def _save(
        self, then: Callable[[], None] | None = None, *, is_over: bool = False, **values: Any
    ) -> Saved | None:
        """Save these fields and the results if the run is still the latest; the event has them too.

        ``then`` is called in the same transaction.
        """
        values["handler_results"] = self._results

        def save(using: str) -> bool:
            if then is None:
                return self._update(using, values)
            with own_transaction(using, durable=False):
                if is_saved := self._update(using, values):
                    then()
            return is_saved

        if not with_retries(save, using=database_alias()):
            return None
        self._runs = values.get("attempts", self._runs)
        self._interventions = values.get("interventions", self._interventions)
        self._leased_until = values.get("next_run_at")
        self.event.attempts, self.event.interventions = self._runs, self._interventions
        for name, value in values.items():
            setattr(self.event, name, value)
        self.event.handler_results = {name: {**each} for name, each in self._results.items()}
        has_failed = is_over and values["done_at"] is values["next_run_at"] is None
        if self._had_failed and not any(self._results[name]["error"] for name in self._only):
            has_failed = False  # it had before, for another handler
        return Saved(is_over, has_failed)

    def _update(self, using: str, values: dict[str, Any]) -> bool:
        """Save these fields, unless somebody else has changed the event since this run knows it.

        One statement, at a third of the cost of ``update()``. Raises ``django.db.Error``.
        """
        connection = connections[using]
        field: Any = WebhookEvent._meta.get_field
        params = {
            name: field(name).get_db_prep_save(value, connection) for name, value in values.items()
        }
        params |= {"id": self.pk, "runs": self._runs, "known": self._interventions}
        sql = _update_statement(tuple(values))
        with own_statement(using), connection.cursor() as cursor:
            cursor.execute(sql, params)
            return bool(cursor.rowcount == 1)

    def _take_in_interventions(self) -> set[str] | None:
        """Take in what was not saved by a run, and return the handlers that people have skipped.

        ``None`` if another run has begun, or the event was deleted.
        """

        def read(using: str) -> WebhookEvent | None:
            # Locked, so that a snapshot of exactly_once does not hide it.
            with own_transaction(using, durable=False):
                return WebhookEvent.objects.fresh().select_for_update().filter(pk=self.pk).first()

        event, known = with_retries(read, using=database_alias()), self._interventions
        if event is None or event.attempts != self._runs or event.interventions == known:
            return None
        skipped = {
            name: result
            for name, result in event.handler_results.items()
            if result.get("skipped") and result != self._results.get(name)
        }
        self._results |= skipped
        self._interventions = event.interventions
        return set(skipped)

    # A contact's events, in order

    def earlier(self, call: Call) -> Earlier | None:
        """Return the event that a handler ``in_order`` has to finish before this one.

        None if a person has asked for this one.
        """
        if not call.in_order or self.trigger is Trigger.PERSON:
            return None
        results = in_order.before(self.pk, self.contact, call.handler)
        return next((earlier for earlier, result in results if _is_awaited(result)), None)

    def wait(self, earlier: Mapping[Call, Earlier]) -> list[Call]:
        """Save what the event waits for, by call; if that has changed, return the calls instead.

        Whoever ends an earlier event locks its row, and then tells those that wait for it. So the
        row is locked here too before it is looked at for the last time.
        """

        def write(using: str) -> list[Call] | None:
            with own_transaction(using, durable=False):
                values = self._when_waiting(earlier)
                if values and self._update(using, values):
                    self.is_waiting = True
                    if self._interventions:
                        in_order.postpone(self.contact, self.pk, values["next_run_at"])
                    return []
            return None if values else list(earlier)

        calls = with_retries(write, using=database_alias())
        if calls is not None:
            return calls
        skipped = self._take_in_interventions()
        return [] if skipped is None else [call for call in earlier if call.name not in skipped]

    def _when_waiting(self, earlier: Mapping[Call, Earlier]) -> dict[str, Any]:
        """Lock what the event waits for, and return its fields; empty if not all need waiting."""
        pending = in_order.lock({each.pk for each in earlier.values()})
        for pk, name in earlier.values():
            if pk not in pending or not _is_awaited(pending[pk].handler_results.get(name)):
                return {}
        waiting = {call.name for call in earlier}
        times = self._due_times(timezone.now())
        own = [time for name, time in times.items() if name not in waiting]
        theirs = [each.next_run_at for each in pending.values() if each.next_run_at]
        return {
            "done_at": None,
            "next_run_at": min(own or theirs),
            "waiting_for": min(pending),
            "calls_are_noted": True,
            "handler_results": self._results,
        }

    def _release_or_postpone(self, next_run_at: datetime | None) -> None:
        """Release the events that wait for this one, or let them wait for its next run."""
        is_open = [self._known()[name] for name in self._due_times(timezone.now())]
        is_awaited = any(is_open) or not is_open
        if next_run_at is not None and is_awaited and not self._has_ended_in_order:
            in_order.postpone(self.contact, self.pk, next_run_at)
        else:
            self._release()

    def _release(self) -> None:
        self.has_released |= in_order.release(self.contact, self.pk)

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
        values: dict[str, Any] = {"interventions": self._interventions + 1}
        times = self._due_times(timezone.now())
        if not times:
            values |= self._when_ended()
        elif self.event.next_run_at is not None:
            # The others keep their pauses. Not sooner: one may be running at this moment.
            values["next_run_at"] = max(min(times.values()), self.event.next_run_at)
        is_released = self._interventions > 0 and (not times or self._known()[name])
        return self._save(self._release if is_released else None, is_over=not times, **values)


# Reading events


def due_ids(since: datetime | None = None, until: datetime | None = None) -> Iterable[int]:
    """Return the ids of due events, longest waiting first.

    With ``since`` and ``until``, of those that became due after the one and by the other.
    """
    due = WebhookEvent.objects.fresh().due(until or timezone.now())
    if since is not None:
        due = due.filter(next_run_at__gt=since)
    return due.order_by("next_run_at", "pk").values_list("pk", flat=True)


def load(pk: int) -> WebhookEvent | None:
    """Return the event with its message, its history row and its opt-out."""
    return with_facts(WebhookEvent.objects.fresh()).filter(pk=pk).first()


def may_be_running(event: WebhookEvent) -> bool:
    """Whether another process may be running the event right now: it has a lease, not a pause."""
    if event.next_run_at is None or event.next_run_at <= timezone.now():
        return False
    errors = event.handler_errors().values()
    return not event.calls_are_noted or NOT_RETURNED in errors


# Writing them


def renew_leases(pks: Iterable[int]) -> None:
    """Keep other processes from the first runs of these events, where none has begun one."""
    pending = WebhookEvent.objects.fresh().pending()
    events = pending.filter(pk__in=pks, attempts=1, waiting_for__isnull=True)
    events.update(next_run_at=timezone.now() + lease())


@cache
def _update_statement(names: tuple[str, ...]) -> str:
    assignments = ", ".join(f"{name} = %({name})s" for name in names)
    return (
        f"UPDATE {WebhookEvent._meta.db_table} SET {assignments} "
        "WHERE id = %(id)s AND attempts = %(runs)s AND interventions = %(known)s"
    )
