"""From an event to its facts and the work that they are; and how that is done safely."""

import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import isawaitable
from typing import Any, NamedTuple

from asgiref.sync import async_to_sync
from django.db import OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.connected import handlers_by_name, has_mark
from cellcast_django.database import transactions
from cellcast_django.error_reports import show_to_test
from cellcast_django.models import Direction, Message, WebhookEvent, database_alias
from cellcast_django.models.base import error_of
from cellcast_django.signals import (
    EXACTLY_ONCE,
    FactSignal,
    RetryLater,
    message_received,
    opt_out_received,
    status_changed,
)


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What a call calls: a connected handler with the arguments of a fact."""

    function: Callable[..., Any]
    arguments: dict[str, Any] = field(repr=False)
    exactly_once: bool

    def do(self) -> None:
        """Call the function, and wait for it if it is async. Raises whatever it raises."""
        returned = self.function(**self.arguments)
        if isinstance(returned, Generator | AsyncGenerator):
            raise TypeError("It returned a generator: a handler that yields is never run.")
        if isawaitable(returned):
            async_to_sync(_finish)(returned)


async def _finish(awaitable: Awaitable[Any]) -> None:
    await awaitable


@dataclass(frozen=True, slots=True)
class Fact:
    """One signal with its arguments."""

    signal: FactSignal
    sender: type[models.Model]
    arguments: dict[str, Any] = field(repr=False)

    def work(self) -> dict[str, Work]:
        """Return the work of each connected handler by its name, as they connected."""
        arguments = {"signal": self.signal, "sender": self.sender, **self.arguments}
        handlers = handlers_by_name(self.signal, self.sender)
        return {
            name: Work(function, arguments, exactly_once=has_mark(function, EXACTLY_ONCE))
            for name, function in handlers.items()
        }


ROWS_OF_FACTS = ("message", "status_change", "opt_out_change__opt_out")
"""What the facts of an event consist of, as ``select_related`` takes them."""


def facts_of(event: WebhookEvent) -> list[Fact]:
    """Return the facts of an event, in the order in which they are told."""
    return [fact for fact in (_message_fact(event), _opt_out_fact(event)) if fact is not None]


def _message_fact(event: WebhookEvent) -> Fact | None:
    message = event.message
    if message is None or (change := getattr(event, "status_change", None)) is None:
        return None
    if message.direction == Direction.INBOUND and not change.previous_status:
        return Fact(message_received, Message, {"message": message, "event": event})
    change.message = message  # the same object, even if both were read from the database
    arguments = {"message": message, "status_change": change, "event": event}
    return Fact(status_changed, Message, arguments)


def _opt_out_fact(event: WebhookEvent) -> Fact | None:
    if (change := getattr(event, "opt_out_change", None)) is None:
        return None
    arguments = {"contact": change.opt_out.contact, "opt_out": change.opt_out, "event": event}
    return Fact(opt_out_received, WebhookEvent, arguments)


class TransactionLeftOpenError(Exception):
    """The handler left a transaction open, or autocommit off; it has been rolled back."""


class TakenOverError(Exception):
    """The call is not ours any more, so nothing of a handler ``exactly_once`` stays."""


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
        after = getattr(error, "after", None) if isinstance(error, RetryLater) else None
        is_time = isinstance(after, timedelta)  # a subclass may not have called __init__
        return cls(type(error), error_of(error), _location_of(error), after if is_time else None)

    @property
    def summary(self) -> str:
        """The exception's type and location, for the log: no text, so no number."""
        name = self.kind.__qualname__
        return f"{name} in {self.location}" if self.location else name


def do_safely(work: Work, save: Callable[[], bool] | None = None) -> Failure | None:
    """Do the work, and return what it raised or left open; ``None`` if all is well.

    With ``save``, that is called after it in the same transaction; returning false, it rolls back
    with ``TakenOverError``. Lets no exception out, not even ``SystemExit``.
    """
    failure = None
    connected = connections.all(initialized_only=True)
    open_before = [each for each in connected if not transactions.is_idle(each)]
    try:
        with _savepoints(open_before):
            work.do() if save is None else in_transaction(work, save)
    except BaseException as error:  # one handler must not stop another
        show_to_test(error)
        failure = Failure.of(error)
    error_left_open = _close_left_open(open_before)
    if failure is None and error_left_open is not None:
        show_to_test(error_left_open)
        failure = Failure.of(error_left_open)
    return failure


@contextmanager
def _savepoints(open_before: list[BaseDatabaseWrapper]) -> Iterator[None]:
    """Keep a handler's database error from aborting the test in whose transaction it runs."""
    with ExitStack() as stack:
        for connection in open_before:
            if connection.in_atomic_block:
                block = transaction.atomic(using=connection.alias)
                # Lets the handler use durable=True, as it may outside a test.
                block._from_testcase = transactions.is_in_test(connection)  # type: ignore[attr-defined]
                stack.enter_context(block)
        yield


def _close_left_open(open_before: list[BaseDatabaseWrapper]) -> TransactionLeftOpenError | None:
    """Close the connections that are no longer idle; return the error that this is."""
    error = None
    for connection in connections.all(initialized_only=True):  # the handler may have opened one
        if connection not in open_before and not transactions.is_idle(connection):
            if transactions.has_transaction(connection):  # a session that is closed has none
                error = TransactionLeftOpenError(
                    f"It left a transaction open on the database {connection.alias}, which was "
                    "rolled back."
                )
            transactions.discard(connection)
    return error


def in_transaction(work: Work, save: Callable[[], bool]) -> None:
    """Do the work, then ``save``, in one transaction on the database of this app's models.

    It has the host project's isolation level. Raises what they raise, with nothing committed; or
    what one of the host project's ``on_commit`` functions raises, with everything committed.
    """
    using = database_alias()

    def do_and_save() -> None:
        with transaction.atomic(using=using):
            with connections[using].execute_wrapper(_notice_refusal):
                work.do()
            if not save():
                raise TakenOverError

    transactions.again_if_refused(do_and_save, using=using)


def _notice_refusal(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Let nothing be saved after a deadlock: Django notices only those of the ORM's own writes."""
    # MariaDB has rolled back all that came before, and the handler may go on.
    try:
        return execute(sql, params, many, context)
    except OperationalError as error:
        connection = context["connection"]
        connection.needs_rollback = connection.needs_rollback or transactions.is_refused(error)
        raise


def _location_of(error: BaseException) -> str:
    location = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        location = f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
    return location
