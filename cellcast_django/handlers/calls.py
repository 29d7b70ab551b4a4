"""From an event to its facts, to the calls that they ask for; and how one call is made safely."""

import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from inspect import isawaitable
from typing import Any, NamedTuple
from weakref import ReferenceType

from asgiref.sync import async_to_sync
from django.db import OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.transactions import (
    again_if_refused,
    discard,
    has_transaction,
    is_idle,
    is_in_test,
    is_refused,
)
from cellcast_django.models import (
    Direction,
    Message,
    WebhookEvent,
    WebhookEventQuerySet,
    database_alias,
)
from cellcast_django.payloads import clean
from cellcast_django.signals import (
    EXACTLY_ONCE,
    IN_ORDER,
    FactSignal,
    RetryLater,
    message_received,
    opt_out_received,
    status_changed,
)

OPT_OUT_SUFFIX = " (opt_out_received)"
"""Ends the results' names for a reply's second fact: its handlers may be those of its first."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of one handler for one fact; its result is saved under ``name``."""

    name: str
    handler: str
    """The handler's own name: ``name`` without the suffix of a second fact."""
    function: Callable[..., Any]
    arguments: dict[str, Any] = field(repr=False)
    exactly_once: bool = False
    in_order: bool = False

    def make(self) -> None:
        """Call the function, and wait for it if it is async. Raises whatever it raises."""
        returned = self.function(**self.arguments)
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
    suffix: str = ""

    def calls(self) -> list[Call]:
        """Return one call for each connected handler, in the order in which they connected."""
        arguments = {"signal": self.signal, "sender": self.sender, **self.arguments}
        return [
            Call(
                handler + self.suffix,
                handler,
                function,
                arguments,
                exactly_once=_has_mark(function, EXACTLY_ONCE),
                in_order=_has_mark(function, IN_ORDER),
            )
            for handler, function in handlers_by_name(self.signal, self.sender).items()
        ]


def handlers_by_name(signal: FactSignal, sender: type) -> dict[str, Callable[..., Any]]:
    """Return the functions connected for ``sender`` by name, in the order they connected."""
    handlers: dict[str, Callable[..., Any]] = {}
    for (uid, sender_id), receiver, *_ in list(signal.receivers):
        function = receiver() if isinstance(receiver, ReferenceType) else receiver
        if function is None or sender_id not in (id(None), id(sender)):
            continue
        name = first = uid if isinstance(uid, str) else handler_name(function)
        count = 1
        while name in handlers:
            count += 1
            name = f"{first}#{count}"
        handlers[name] = function
    return handlers


def connected_handlers() -> list[str]:
    """Return the names of all connected handlers of facts, in alphabetical order."""
    signals = {message_received: Message, status_changed: Message, opt_out_received: WebhookEvent}
    return sorted(
        {name for each, sender in signals.items() for name in handlers_by_name(each, sender)}
    )


def handler_name(function: Callable[..., Any]) -> str:
    """Return ``module.qualname``, of a partial's function or of a callable object's class."""
    function = _unwrapped(function)[-1]
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _has_mark(function: Callable[..., Any], mark: str) -> bool:
    return any(hasattr(each, mark) for each in _unwrapped(function))


def _unwrapped(function: Callable[..., Any]) -> list[Any]:
    """Return the function, and if it is a partial that of the partial, down to the last one."""
    return [function, *(_unwrapped(function.func) if isinstance(function, partial) else ())]


# Which calls an event asks for


def with_facts(events: WebhookEventQuerySet) -> WebhookEventQuerySet:
    """Read the rows that the facts of the events consist of in the same query."""
    return events.select_related("message", "status_change", "opt_out_change__opt_out")


def facts_of(event: WebhookEvent) -> list[Fact]:
    """Return the facts of an event, in the order in which their handlers are called.

    A reply that is a stop word has two. A duplicate or invalid event has none, nor has one whose
    message or opt-out has been deleted since.
    """
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
    if event.kind not in (WebhookEvent.Kind.REPLY, WebhookEvent.Kind.OPT_OUT):
        return None
    if (change := getattr(event, "opt_out_change", None)) is None:
        return None
    suffix = OPT_OUT_SUFFIX if event.kind == WebhookEvent.Kind.REPLY else ""
    arguments = {"contact": change.opt_out.contact, "opt_out": change.opt_out, "event": event}
    return Fact(opt_out_received, WebhookEvent, arguments, suffix)


def calls_of(event: WebhookEvent) -> list[Call]:
    """Return the calls of the handlers that are connected for the event's facts."""
    return [call for fact in facts_of(event) for call in fact.calls()]


def repeatable_calls(event: WebhookEvent) -> list[Call]:
    """Return all calls that a person may repeat, finished or not.

    None for a redacted event: without its number its opt-out would match another contact.
    """
    return calls_of(event) if event.body else []


def names_for(event: WebhookEvent, handler: str) -> list[str]:
    """Return the names of the calls that a replay of the event makes of one handler.

    None for a test: it is nothing that a customer did.
    """
    calls = [] if event.is_test else repeatable_calls(event)
    return [call.name for call in calls if call.handler == handler]


# Making one call

MAX_ERROR_LENGTH = 1_000


handler_errors: ContextVar[list[BaseException] | None] = ContextVar("handler_errors", default=None)
"""For tests: a list that collects what handlers raise; otherwise only its text is kept."""


class TransactionLeftOpenError(Exception):
    """The handler left a transaction open, or autocommit off; it has been rolled back."""


class TakenOverError(Exception):
    """Another process has begun a run meanwhile, so nothing of a call ``exactly_once`` stays."""


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
        after = getattr(error, "after", None) if isinstance(error, RetryLater) else None
        is_time = isinstance(after, timedelta)  # a subclass may not have called __init__
        return cls(type(error), _text_of(error), _location_of(error), after if is_time else None)

    @property
    def summary(self) -> str:
        """The exception's type and location, for the log: no text, so no number."""
        name = self.kind.__qualname__
        return f"{name} in {self.location}" if self.location else name


def call_safely(call: Call, save: Callable[[], bool] | None = None) -> Failure | None:
    """Make the call, and return what it raised or left open; ``None`` if all is well.

    With ``save``, that is called after it in the same transaction; returning false, it rolls back
    with ``TakenOverError``. Lets no exception out, not even ``SystemExit``. A connection on which
    the handler left a transaction open is closed.
    """
    failure = None
    connected = connections.all(initialized_only=True)
    open_before = [each for each in connected if not is_idle(each)]
    try:
        with ExitStack() as stack:
            # Inside a test's transaction, a handler's database error must not abort the test.
            for each in [each for each in open_before if each.in_atomic_block]:
                stack.enter_context(_savepoint(each))
            call.make() if save is None else in_transaction(call, save)
    except BaseException as error:  # one handler must not stop another
        failure = _failure(error)
    error_left_open = _close_left_open(open_before)
    if failure is None and error_left_open is not None:
        failure = _failure(error_left_open)
    return failure


def _close_left_open(open_before: list[BaseDatabaseWrapper]) -> TransactionLeftOpenError | None:
    """Close the connections that are no longer idle; return the error that this is."""
    error = None
    for connection in connections.all(initialized_only=True):  # the handler may have opened one
        if connection not in open_before and not is_idle(connection):
            if has_transaction(connection):
                error = TransactionLeftOpenError(
                    f"It left a transaction open on the database {connection.alias}, which was "
                    "rolled back."
                )
            discard(connection)
    return error


def _failure(error: BaseException) -> Failure:
    if (errors := handler_errors.get()) is not None:
        errors.append(error)
    return Failure.of(error)


def in_transaction(call: Call, save: Callable[[], bool]) -> None:
    """Make the call, then ``save``, in one transaction on the database of this app's models.

    It has the host project's isolation level, and is tried again when the database refuses it
    because of another one. Raises what they raise, with nothing committed; or what one of the host
    project's ``on_commit`` functions raises, with everything committed.
    """
    using = database_alias()

    def make_and_save() -> None:
        with transaction.atomic(using=using):
            with connections[using].execute_wrapper(_notice_refusal):
                call.make()
            if not save():
                raise TakenOverError

    again_if_refused(make_and_save, using=using)


def _notice_refusal(execute: Callable[..., Any], *arguments: Any) -> Any:
    """Let nothing be saved after a deadlock, even if the handler goes on.

    MariaDB has rolled back all that came before. Django knows that after the ORM's writes alone.
    """
    try:
        return execute(*arguments)
    except OperationalError as error:
        connection = arguments[-1]["connection"]
        connection.needs_rollback = connection.needs_rollback or is_refused(error)
        raise


def _savepoint(connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
    block = transaction.atomic(using=connection.alias)
    # Lets the handler use durable=True, as it may outside a test.
    block._from_testcase = is_in_test(connection)  # type: ignore[attr-defined]
    return block


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
