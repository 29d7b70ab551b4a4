"""One attempt: call the handlers that have not finished with an event, and save each outcome."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from cellcast_django.database.transactions import (
    Watch,
    discard,
    has_transaction,
    is_idle,
    is_in_test,
)
from cellcast_django.handlers.facts import BoundHandler, facts_of, handlers_of
from cellcast_django.handlers.schedule import ending, has_been_saved, lease_end, save_if_ours
from cellcast_django.models import WebhookEvent, database_alias
from cellcast_django.payloads import clean
from cellcast_django.signals import GiveUp, RetryLater, handlers_failed

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
        return cls(type(error), _describe(error), _location_of(error), after)

    @property
    def summary(self) -> str:
        """The exception's type and location, for the log: no text, so no number."""
        name = self.kind.__qualname__
        return f"{name} in {self.location}" if self.location else name


def call_safely(function: Callable[[], None]) -> Failure | None:
    """Call the function, and return what it raised or left open; ``None`` if all is well.

    Lets no exception out, not even ``SystemExit``. A connection on which the function left a
    transaction open is closed.
    """
    failure = None
    open_before = {each.alias for each in _connections() if not is_idle(each)}
    watches: list[Watch] = []
    try:
        with ExitStack() as stack:
            watches += [
                stack.enter_context(Watch(each))
                for each in _connections()
                if each.vendor == "mysql"
            ]
            for connection in _connections():
                # Inside a test's transaction, a handler's database error must not abort the test.
                if connection.in_atomic_block:
                    stack.enter_context(_savepoint(connection))
            function()
    except BaseException as error:  # one handler must not stop another
        failure = Failure.of(error)
    begun_by_statement = {watch.connection.alias for watch in watches if watch.has_begun}
    for connection in _connections():
        is_left_open = not is_idle(connection) or connection.alias in begun_by_statement
        if is_left_open and connection.alias not in open_before:
            if has_transaction(connection) or connection.alias in begun_by_statement:
                failure = failure or Failure.of(_left_open(connection))
            discard(connection)
    return failure


def in_transaction(function: Callable[[], None], save: Callable[[], None]) -> None:
    """Call the function, then ``save``, in one transaction on the database of this app's models.

    Raises what they raise, with nothing committed; or what one of the host project's ``on_commit``
    functions raises, with everything committed.
    """
    using = database_alias()
    with transaction.atomic(using=using):
        with _unended_transaction(connections[using]):
            function()
        save()


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
        finally:  # or the block would end another one than its own
            is_left_open = len(connection.savepoint_ids) > depth
            del connection.savepoint_ids[depth:], connection.atomic_blocks[blocks:]
        if is_left_open:
            raise _left_open(connection)


def _left_open(connection: BaseDatabaseWrapper) -> TransactionLeftOpenError:
    return TransactionLeftOpenError(
        f"It left a transaction open on the database {connection.alias}, which was rolled back."
    )


def _describe(error: BaseException) -> str:
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


logger = logging.getLogger("cellcast_django")


def report_if_failed(event: WebhookEvent) -> None:
    """Send ``handlers_failed`` if what was just saved made the event failed.

    Raises nothing except ``KeyboardInterrupt``: the errors of that signal's handlers are logged.
    """
    if event.state != WebhookEvent.State.FAILED:
        return
    for handler in handlers_failed.handlers(WebhookEvent):
        call = partial(
            handler.call,
            signal=handlers_failed,
            sender=WebhookEvent,
            event=event,
            errors=event.handler_errors(),
        )
        failure = call_safely(call)
        if failure is None:
            continue
        logger.error("Handler %s of handlers_failed failed: %s.", handler.name, failure.summary)
        if failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt


MAX_SECONDS = 30
MIN_FAILURES = 3
"""One slow call says little about the next."""


class Patience:
    """The time each handler has spent failing in this run, since it last finished with an event."""

    def __init__(self) -> None:
        self._calls: dict[str, list[float]] = {}

    def worth_calling(self, handlers: Sequence[BoundHandler]) -> list[BoundHandler]:
        """Return the handlers without those that have used up our patience."""
        return [handler for handler in handlers if not self._is_lost_with(handler.name)]

    def _is_lost_with(self, name: str) -> bool:
        calls = self._calls.get(name, ())
        return len(calls) >= MIN_FAILURES and sum(calls) > MAX_SECONDS

    def note(self, name: str, failure: Failure | None, seconds: float) -> None:
        """Record how a call ended, and how long it took."""
        if failure is None:
            self._calls.pop(name, None)
        else:
            self._calls.setdefault(name, []).append(seconds)


INTERRUPTED = "ProcessEnded: every attempt was interrupted before the handler returned."


class TakenOverError(Exception):
    """Another process has begun an attempt in the meantime, so ours must not save anything."""


def run_attempt(
    event: WebhookEvent,
    handlers: Sequence[BoundHandler] | None = None,
    patience: Patience | None = None,
) -> None:
    """Call the handlers that have not finished with the event, and save each outcome.

    With ``handlers``, calls these, in this order. ``patience`` records how the calls ended.
    """
    connected = handlers_of(event)
    if not connected and not facts_of(event):
        error = "The message or opt-out was deleted before its handlers ran."
        save_if_ours(event, error=error, done_at=None, next_run_at=None)
        report_if_failed(event)
        return
    if handlers is None:
        handlers = unfinished(event, connected)
    names = [handler.name for handler in connected]
    attempt = _Attempt(event, names, patience or Patience())
    try:
        attempt.run(handlers)
    except TakenOverError as error:
        logger.warning(
            "Handler %s ran longer than CELLCAST_HANDLER_LEASE; another process has taken "
            "event %s over.",
            *error.args,
            event.pk,
        )
    else:
        report_if_failed(event)


def unfinished(event: WebhookEvent, connected: Sequence[BoundHandler]) -> list[BoundHandler]:
    """Return the handlers still to be called for the event, in the order of the calls.

    Handlers that have not been called yet come first: the others have had their turn.
    """
    waiting = [each for each in connected if not event.is_done_with(each.name)]
    return sorted(waiting, key=lambda each: each.name in event.handler_results)


def in_turn(event: WebhookEvent, connected: Sequence[BoundHandler]) -> list[BoundHandler]:
    """Return the handlers for the next attempt, in an order that no single handler can block.

    A handler that kills its process leaves no outcome. So that it does not keep the others from
    being called, each attempt begins with a different one of those without an outcome, and every
    second attempt begins with those that have failed before.
    """
    attempt = event.attempts + 1
    waiting = unfinished(event, connected)
    uncalled = [each for each in waiting if each.name not in event.handler_results]
    called = waiting[len(uncalled) :]
    if uncalled:
        start = attempt // 2 % len(uncalled)
        uncalled = uncalled[start:] + uncalled[:start]
    return called + uncalled if attempt > 1 and attempt % 2 else uncalled + called


def fail_interrupted(event: WebhookEvent) -> None:
    """End an event as failed whose last attempt was interrupted when its process died."""
    outcome = {"at": timezone.now().isoformat(), "error": INTERRUPTED}
    uncalled = {each.name: outcome for each in unfinished(event, handlers_of(event))}
    results = uncalled | event.handler_results
    save_if_ours(event, handler_results=results, next_run_at=None)
    report_if_failed(event)


class _Attempt:
    """The calls of one attempt, and when the handlers asked to be called again."""

    def __init__(self, event: WebhookEvent, connected: list[str], patience: Patience) -> None:
        self.event = event
        self.connected = connected
        self.patience = patience
        self.retry_times: dict[str, datetime] = {}

    def run(self, handlers: Sequence[BoundHandler]) -> None:
        """Call the handlers, and save each outcome before the next call."""
        if not handlers:
            save_if_ours(self.event, **self._ending())
        for position, handler in enumerate(handlers, start=1):
            self._call(handler, is_last=position == len(handlers))

    def _call(self, handler: BoundHandler, *, is_last: bool) -> None:
        save = partial(self._save, handler.name, is_last=is_last)
        began_at = time.monotonic()
        if handler.is_exactly_once:
            failure = call_safely(partial(in_transaction, handler.call, save))
            is_saved = failure is None or has_been_saved(self.event, handler.name)
        else:
            failure = call_safely(handler.call)
            is_saved = False
        self.patience.note(handler.name, failure, time.monotonic() - began_at)
        if failure is not None and failure.kind is TakenOverError:
            raise TakenOverError(handler.name)
        if failure is not None:
            self._log(handler.name, failure)
        if not is_saved:
            save(failure)
        if failure is not None and failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt

    def _save(self, name: str, failure: Failure | None = None, *, is_last: bool) -> None:
        self.event.handler_results[name] = self._outcome(name, failure)
        values = self._ending() if is_last else {"next_run_at": lease_end()}
        if not save_if_ours(self.event, handler_results=self.event.handler_results, **values):
            raise TakenOverError(name)

    def _outcome(self, name: str, failure: Failure | None) -> dict[str, Any]:
        now = timezone.now()
        outcome: dict[str, Any] = {"at": now.isoformat(), "error": failure.text if failure else ""}
        if failure is not None and failure.location:
            outcome["location"] = failure.location
        if failure is not None and issubclass(failure.kind, GiveUp):
            outcome["gave_up"] = True
        if failure is not None and failure.retry_after is not None:
            self.retry_times[name] = now + failure.retry_after
        return outcome

    def _log(self, name: str, failure: Failure) -> None:
        if failure.retry_after is not None:
            logger.info("Handler %s asked to retry event %s later.", name, self.event.pk)
        else:
            logger.error(
                "Handler %s failed for event %s: %s.", name, self.event.pk, failure.summary
            )

    def _ending(self) -> dict[str, datetime | None]:
        return ending(self.event, self.connected, self.retry_times)
