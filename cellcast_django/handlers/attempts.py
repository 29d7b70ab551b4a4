"""One run of an event: call the handlers that are due, and save each result before the next."""

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.database.transactions import (
    Watch,
    has_transaction,
    is_idle,
    is_in_test,
    is_refused_for_another,
    renew,
)
from cellcast_django.database.vendors import vendor_of
from cellcast_django.handlers.facts import Call, Fact, calls_of, facts_of
from cellcast_django.handlers.schedule import (
    due_time,
    earlier_unfinished,
    fields_when_ended,
    is_saved_as_finished,
    postpone,
    release,
    retry_time,
    save_if_latest,
    unfinished,
    wait,
)
from cellcast_django.models import (
    HandlerResult,
    WebhookEvent,
    database_alias,
    is_final,
    lease_end,
)
from cellcast_django.payloads import clean
from cellcast_django.signals import GiveUp, RetryLater, handlers_failed

logger = logging.getLogger("cellcast_django")

DELETED = "The message or opt-out was deleted before its handlers ran."
NOT_RETURNED = "NotReturned: it was called and has not returned; perhaps its process has ended."
"""The error of a handler while it is called again, and for good if its process dies."""


handler_errors: ContextVar[list[BaseException] | None] = ContextVar("handler_errors", default=None)
"""For tests: a list that is given what handlers raise, which otherwise only its text is kept of."""


class TakenOverError(Exception):
    """Another process has begun a run in the meantime, so ours must not save anything."""


class Run:
    """One run of an event.

    ``is_begun``: it has been counted and leased already, and calls whatever is unfinished.
    ``by_person``: somebody asked for this event by name, so no handler waits for another event.
    """

    def __init__(
        self,
        event: WebhookEvent,
        patience: "Patience | None" = None,
        *,
        is_begun: bool = False,
        by_person: bool = False,
    ) -> None:
        self.event = event
        self.contact = event.contact
        self.patience = patience or Patience()
        self.has_changed = False
        """Whether it has called a handler or ended the event."""
        self.has_released = False
        """Whether other events of the contact waited for this one, and are due now."""
        self._is_begun = is_begun
        self._by_person = by_person
        self._is_repeated = not is_begun and event.attempts > 0
        # Handlers are given the event and may change it, so this is what the run goes by.
        self._pk, self._number = event.pk, event.attempts
        self._results: dict[str, HandlerResult] = dict(event.handler_results)
        self._calls = calls_of(event)
        self._names = [call.name for call in self._calls]

    def make(self) -> None:
        """Call the handlers that are due, and save how each call ended.

        Lets none of their exceptions out but ``KeyboardInterrupt``. Raises ``django.db.Error`` when
        the database refuses.
        """
        try:
            if self._calls or facts_of(self.event):
                self._make()
            else:
                self._save(self._release, error=DELETED, done_at=None, next_run_at=None)
        except TakenOverError as error:
            logger.warning(
                "Handler %s ran longer than CELLCAST_HANDLER_LEASE; another process has taken "
                "event %s over.",
                *error.args,
                self._pk,
            )
            return
        if self.has_changed:
            report_if_failed(self.event)

    def _make(self) -> None:
        due = self._due_calls()
        calls = self.patience.worth_calling(due)
        if due and not calls:
            return  # left to the next run
        while calls:
            earlier = self._make_calls(calls)
            if earlier is None or self._wait(earlier):
                return
            calls = list(earlier)
        if not due:
            self._end_without_calls()

    def _make_calls(self, calls: Sequence[Call]) -> dict[Call, WebhookEvent] | None:
        """Make the calls, except those that wait for an earlier event; return these.

        ``None`` if another process was quicker.
        """
        earlier: dict[Call, WebhookEvent] = {}
        for call in calls:
            if (other := self._earlier(call)) is not None:
                earlier[call] = other
                continue
            attempts = self._attempts_of(call) + 1
            if not self._begin(call, attempts):
                return None
            self._call(call, attempts, is_last=call is calls[-1] and not earlier)
        return earlier

    def _earlier(self, call: Call) -> WebhookEvent | None:
        if self._by_person or not call.in_order:
            return None
        return earlier_unfinished(self._pk, self.contact, call.handler)

    def _wait(self, earlier: Mapping[Call, WebhookEvent]) -> bool:
        """Plan the event for when the earlier ones run; false if there is none any more."""
        if not earlier:
            return False
        waiting = {call.name for call in earlier}
        times = [
            due_time(self._results.get(name)) for name in self._unfinished() if name not in waiting
        ]
        values = {
            "done_at": None,
            "next_run_at": min(times, default=None),
            "handler_results": self._results,
        }
        others = {call.handler: other for call, other in earlier.items()}
        return wait(self._pk, self._number, self.contact, others, values)

    def _due_calls(self) -> list[Call]:
        """Return what to call, in the order of the calls: first what was never called.

        If nobody's time has come, whoever is next is due: a process has died, or a person has moved
        the event's time.
        """
        times = {name: due_time(self._results.get(name)) for name in self._unfinished()}
        horizon = max(timezone.now(), min(times.values(), default=timezone.now()))
        due = {name for name, time in times.items() if self._is_begun or time <= horizon}
        self._count_missing(due.difference(self._names))
        suspect = self._suspect()
        if suspect is not None and self._attempts_of(suspect) >= conf.handler_max_attempts:
            self._results[suspect.name] = self._not_returned(self._attempts_of(suspect))
            due.remove(suspect.name)
        calls = [call for call in self._calls if call.name in due]
        return sorted(calls, key=lambda call: (times[call.name], call is suspect))

    def _unfinished(self) -> list[str]:
        return unfinished(self._results, self._names)

    def _suspect(self) -> Call | None:
        """Return the handler that was probably called when the first run's process died.

        The first run saves nothing before a call, so that it costs no more than it must. A handler
        ``in_order`` may have waited instead.
        """
        if not self._is_repeated or self._number != 1:
            return None
        uncalled = (call for call in self._calls if call.name not in self._results)
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
            self._results[name] = _counted(
                self._results[name], attempts, retry_time(self.event, attempts)
            )

    # Saving

    def _begin(self, call: Call, attempts: int) -> bool:
        """Count and lease the run, and note a repeated call; false if it is not ours any more."""
        values: dict[str, Any] = {}
        if not self._is_begun:
            values = {
                "attempts": self._number + 1,
                "next_run_at": lease_end(timezone.now()),
                "waiting_for": None,
            }
        if self._is_repeated:  # if it kills its process, it must not do so for ever
            self._results[call.name] = self._not_returned(attempts)
            values |= {
                "handler_results": self._results,
                "next_run_at": lease_end(timezone.now()),
            }
        self._is_begun = True
        return not values or self._save(**values)

    def _not_returned(self, attempts: int) -> HandlerResult:
        now = timezone.now()
        result: HandlerResult = {"at": now.isoformat(), "error": NOT_RETURNED}
        is_last = attempts >= conf.handler_max_attempts
        return _counted(result, attempts, None if is_last else lease_end(now))

    def _call(self, call: Call, attempts: int, *, is_last: bool) -> None:
        def save(failure: Failure | None = None) -> None:
            self._save_result(call, attempts, failure, is_last=is_last)

        began_at = time.monotonic()
        failure = call_safely(call, save if call.exactly_once else None)
        self.patience.note(call.name, failure, time.monotonic() - began_at)
        if failure is not None and failure.kind is TakenOverError:
            raise TakenOverError(call.name)
        if failure is not None:
            self._log(call, failure)
        if not (call.exactly_once and self._is_finished(call, failure)):
            save(failure)
        if failure is not None and failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt

    def _is_finished(self, call: Call, failure: "Failure | None") -> bool:
        """Whether the success of a call ``exactly_once`` is saved, whatever was raised since."""
        if failure is None:
            return True
        result = self._results.get(call.name)  # an error if it was never about to be saved
        return (
            result is not None and not result["error"] and is_saved_as_finished(self._pk, call.name)
        )

    def _save_result(
        self, call: Call, attempts: int, failure: "Failure | None", *, is_last: bool
    ) -> None:
        now = timezone.now()
        result: HandlerResult = {"at": now.isoformat(), "error": failure.text if failure else ""}
        retry_at = None
        if failure is not None:
            if failure.location:
                result["location"] = failure.location
            if issubclass(failure.kind, GiveUp):
                result["gave_up"] = True
            else:
                retry_at = retry_time(self.event, attempts, failure.retry_after)
        self._results[call.name] = _counted(result, attempts, retry_at)
        values = self._ending() if is_last else {"next_run_at": lease_end(now)}
        then = self._then(values, call) if is_last or call.in_order else None
        if not self._save(then, handler_results=self._results, **values):
            raise TakenOverError(call.name)

    def _end_without_calls(self) -> None:
        """End a run in which there was nothing to call."""
        values: dict[str, Any] = self._ending()
        if not self._names and values["done_at"] is not None:
            # The handler it was stored for is connected in another process.
            number = self._number + (not self._is_begun)
            retry_at = retry_time(self.event, number)
            values = {"attempts": number, "done_at": None, "next_run_at": retry_at}
        self._save(self._then(values), handler_results=self._results, **values)

    def _ending(self) -> dict[str, Any]:
        return fields_when_ended(self._results, self._names)

    def _then(
        self, values: Mapping[str, Any], call: Call | None = None
    ) -> Callable[[str], None] | None:
        """Return what to do, as these fields are saved, about the events that wait for this one.

        Nothing unless a handler is ``in_order``, or may be so where it is connected.
        """
        in_order = any(each.in_order for each in self._calls)
        is_all_here = bool(self._calls) and self._results.keys() <= set(self._names)
        if not self.contact or (is_all_here and not in_order):
            return None
        has_ended = call is not None and call.in_order and is_final(self._results[call.name])
        if has_ended or values["next_run_at"] is None:
            return self._release
        until = values["next_run_at"]
        return lambda using: postpone(self._pk, self.contact, until)

    def _release(self, using: str) -> None:
        self.has_released = release(self._pk, self.contact) > 0

    def _save(self, then: Callable[[str], None] | None = None, **values: Any) -> bool:
        """Save these fields if the run is still the latest; its event has them then too."""
        if not save_if_latest(self._pk, self._number, values, then):
            return False
        self._number = values.get("attempts", self._number)
        self.has_changed = True
        for name, value in values.items():
            setattr(self.event, name, value)
        self.event.attempts = self._number
        self.event.handler_results = {name: {**each} for name, each in self._results.items()}
        return True

    def _log(self, call: Call, failure: "Failure") -> None:
        if failure.retry_after is not None:
            logger.info("Handler %s asked to retry event %s later.", call.name, self._pk)
        else:
            logger.error(
                "Handler %s failed for event %s: %s.", call.name, self._pk, failure.summary
            )


def _counted(result: HandlerResult, attempts: int, retry_at: datetime | None) -> HandlerResult:
    """Return the result with the number of calls, and with when the handler is called again."""
    counted: HandlerResult = {**result, "attempts": attempts}
    counted.pop("retry_at", None)
    if retry_at is not None:
        counted["retry_at"] = retry_at.isoformat()
    return counted


def report_if_failed(event: WebhookEvent) -> None:
    """Send ``handlers_failed`` if what was just saved made the event failed.

    Raises nothing except ``KeyboardInterrupt``: the errors of that signal's handlers are logged.
    """
    if event.state != WebhookEvent.State.FAILED:
        return
    arguments = {"event": event, "errors": event.handler_errors()}
    for call in Fact(handlers_failed, WebhookEvent, arguments).calls():
        failure = call_safely(call)
        if failure is None:
            continue
        logger.error("Handler %s of handlers_failed failed: %s.", call.name, failure.summary)
        if failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt


MAX_SECONDS = 30
MIN_FAILURES = 3
"""One slow call says little about the next."""


class Patience:
    """The time each handler has spent failing in this run, since it last finished with an event."""

    def __init__(self) -> None:
        self._calls: dict[str, list[float]] = {}

    def worth_calling(self, calls: Sequence[Call]) -> list[Call]:
        """Return the calls without those of handlers that have used up our patience."""
        return [call for call in calls if not self._is_lost_with(call.name)]

    def _is_lost_with(self, name: str) -> bool:
        calls = self._calls.get(name, ())
        return len(calls) >= MIN_FAILURES and sum(calls) > MAX_SECONDS

    def note(self, name: str, failure: "Failure | None", seconds: float) -> None:
        """Record how a call ended, and how long it took."""
        if failure is None:
            self._calls.pop(name, None)
        else:
            self._calls.setdefault(name, []).append(seconds)


# The call itself

MAX_ERROR_LENGTH = 1_000


class TransactionLeftOpenError(Exception):
    """The handler left a transaction open, or autocommit off; it has been rolled back."""


class TransactionEndedError(Exception):
    """A handler marked ``exactly_once`` ended the transaction with a statement of its own."""


class Failure(NamedTuple):
    """How a call failed. Keeping the exception would keep everything in its frames alive."""

    kind: type[BaseException]
    text: str
    """The exception's type and text, cleaned and cut: what is stored."""
    location: str
    """Function, file and line where it was raised; empty if it was raised in none."""
    retry_after: timedelta | None = None

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Describe an exception."""
        after = error.after if isinstance(error, RetryLater) else None
        return cls(type(error), _text_of(error), _location_of(error), after)

    @property
    def summary(self) -> str:
        """The exception's type and location, for the log: no text, so no number."""
        name = self.kind.__qualname__
        return f"{name} in {self.location}" if self.location else name


def call_safely(call: Call, save: Callable[[], None] | None = None) -> Failure | None:
    """Make the call, and return what it raised or left open; ``None`` if all is well.

    With ``save``, that is called after it in the same transaction. Lets no exception out, not even
    ``SystemExit``. A connection on which the handler left a transaction open is closed.
    """
    failure = None
    open_before = {each.alias for each in _connections() if not is_idle(each)}
    watches: list[Watch] = []
    try:
        with ExitStack() as stack:
            watches += [
                stack.enter_context(Watch(each))
                for each in _connections()
                if not vendor_of(each).knows_begin
            ]
            for connection in _connections():
                # Inside a test's transaction, a handler's database error must not abort the test.
                if connection.in_atomic_block:
                    stack.enter_context(_savepoint(connection))
            if save is None:
                call.make()
            else:
                in_transaction(call, save)
    except BaseException as error:  # one handler must not stop another
        failure = _failure(error)
    begun_by_statement = {watch.connection.alias for watch in watches if watch.has_begun}
    for connection in _connections():
        is_left_open = not is_idle(connection) or connection.alias in begun_by_statement
        if is_left_open and connection.alias not in open_before:
            if has_transaction(connection) or connection.alias in begun_by_statement:
                failure = failure or _failure(_left_open(connection))
            renew(connection)
    return failure


def _failure(error: BaseException) -> Failure:
    if (errors := handler_errors.get()) is not None:
        errors.append(error)
    return Failure.of(error)


def in_transaction(call: Call, save: Callable[[], None]) -> None:
    """Make the call, then ``save``, in one transaction on the database of this app's models.

    It has the host project's isolation level, and is tried again when the database refuses it
    because of another one. Raises what they raise, with nothing committed; or what one of the host
    project's ``on_commit`` functions raises, with everything committed.
    """
    using = database_alias()

    def make_and_save() -> None:
        with transaction.atomic(using=using):
            with _unended_transaction(connections[using]):
                call.make()
            save()

    for pause in PAUSES_OF_REFUSED:
        try:
            return make_and_save()
        except OperationalError as error:
            if not is_refused_for_another(error) or connections[using].in_atomic_block:
                raise
        time.sleep(pause)
    return make_and_save()


PAUSES_OF_REFUSED = (0.05, 0.2)
"""Seconds before an ``exactly_once`` handler is tried again after a refused transaction."""


@contextmanager
def _unended_transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Raise ``TransactionEndedError`` if the block ends the transaction behind Django's back.

    Only the server knows every way to end one, such as a plain ``COMMIT`` or a statement that
    commits implicitly. A later statement may have begun another transaction, but a savepoint of the
    first one is gone.
    """
    depth, mark = len(connection.savepoint_ids), connection.savepoint()
    yield
    if mark is None or len(connection.savepoint_ids) > depth:
        return  # there are no savepoints, or an atomic() is still open, which is reported elsewhere
    try:
        connection.savepoint_commit(mark)
    except DatabaseError as error:
        if mark not in str(error):  # the error is not about a missing savepoint
            raise
        raise TransactionEndedError(
            "exactly_once: its transaction was ended by the handler."
        ) from error


def _connections() -> Sequence[BaseDatabaseWrapper]:
    return connections.all(initialized_only=True)


@contextmanager
def _savepoint(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Roll back what was done inside if it raises or does not leave its own ``atomic()``."""
    block = transaction.atomic(using=connection.alias)
    # Lets the handler use durable=True, as it may outside a test.
    block._from_testcase = is_in_test(connection)  # type: ignore[attr-defined]
    with block:
        depth, blocks = len(connection.savepoint_ids), len(connection.atomic_blocks)
        try:
            yield
        finally:  # otherwise atomic() would pop a savepoint that is not its own
            is_left_open = len(connection.savepoint_ids) > depth
            del connection.savepoint_ids[depth:], connection.atomic_blocks[blocks:]
        if is_left_open:
            raise _left_open(connection)


def _left_open(connection: BaseDatabaseWrapper) -> TransactionLeftOpenError:
    return TransactionLeftOpenError(
        f"It left a transaction open on the database {connection.alias}, which was rolled back."
    )


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # the host project's __str__ may do anything
        text = "(the exception has no readable text)"
    return clean(f"{type(error).__qualname__}: {text}")[:MAX_ERROR_LENGTH]


def _location_of(error: BaseException) -> str:
    location = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        location = f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
    return location
