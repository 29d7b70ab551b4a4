"""One call of one handler: whatever it does harms neither the other handlers nor the caller."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import NamedTuple

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database import sessions
from cellcast_django.models import database_alias
from cellcast_django.payloads import clean
from cellcast_django.signals import RetryLater

MAX_ERROR_LENGTH = 1_000


class TransactionLeftOpenError(Exception):
    """The handler has left a transaction open, or autocommit off; it has been rolled back."""


class TransactionEndedError(Exception):
    """A handler marked ``exactly_once`` has ended the transaction by a statement of its own."""


class Failure(NamedTuple):
    """How a call has failed. The exception itself would keep alive what its frames hold."""

    kind: type[BaseException]
    text: str
    """The exception's type and text, cleaned and cut: what is kept."""
    place: str
    """The exception's type and where it was raised: what is logged."""
    retry_after: timedelta | None = None

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Describe an exception."""
        after = error.after if isinstance(error, RetryLater) else None
        return cls(type(error), _describe(error), place_of(error), after)


def contained(function: Callable[[], None]) -> Failure | None:
    """Call the function, and return what it raised or left behind; ``None`` when all is well.

    Nothing that it raises gets out, ``SystemExit`` included, and no transaction that it has begun
    is open afterwards: its connection is closed.
    """
    failure = None
    busy = {each.alias for each in _connections() if not sessions.is_idle(each)}
    watches: list[sessions.Watch] = []
    try:
        with ExitStack() as stack:
            watches += [
                stack.enter_context(sessions.Watch(each))
                for each in _connections()
                if each.vendor == "mysql"
            ]
            for connection in _connections():
                # In a test's own transaction, a handler's database error must not abort the test.
                if connection.in_atomic_block:
                    stack.enter_context(_savepoint(connection))
            function()
    except BaseException as error:  # noqa: BLE001  # one handler stops none
        failure = Failure.of(error)
    begun = {watch.connection.alias for watch in watches if watch.has_begun}
    for connection in _connections():
        is_idle = sessions.is_idle(connection) and connection.alias not in begun
        if connection.alias not in busy and not is_idle:
            if sessions.has_transaction(connection) or connection.alias in begun:
                failure = failure or Failure.of(_left_open(connection))
            sessions.discard(connection)
    return failure


def in_transaction(function: Callable[[], None], save: Callable[[], None]) -> None:
    """Call the function, then ``save``, in one transaction on the database of this app's models.

    Raises whatever they raise, when nothing has been committed; or what a function of the host
    project's ``on_commit`` raises, when all has.
    """
    using = database_alias()
    with transaction.atomic(using=using):
        with _unended_transaction(connections[using]):
            function()
        save()


@contextmanager
def _unended_transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Raise ``TransactionEndedError`` when the transaction is ended inside, behind Django's back.

    Only the server knows of every way to end one: a plain ``COMMIT``, a statement that commits by
    itself. The next statement may have begun another transaction, but a savepoint of the first one
    has gone with it.
    """
    depth, mark = len(connection.savepoint_ids), connection.savepoint()
    yield
    if mark is None or len(connection.savepoint_ids) > depth:
        return  # there are no savepoints, or an atomic() was not left: that is told elsewhere
    try:
        connection.savepoint_commit(mark)
    except DatabaseError as error:
        if mark not in str(error):  # it is not the savepoint that is missing
            raise
        raise TransactionEndedError(
            "exactly_once: its transaction was ended by the handler."
        ) from error


def _connections() -> Sequence[BaseDatabaseWrapper]:
    return connections.all(initialized_only=True)


@contextmanager
def _savepoint(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Roll back what was done inside when it raises, or when an ``atomic()`` was not left."""
    block = transaction.atomic(using=connection.alias)
    # The handler may commit durably, as outside of a test.
    block._from_testcase = sessions.is_in_test(connection)  # type: ignore[attr-defined]  # noqa: SLF001
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
    except Exception:  # noqa: BLE001  # the host project's __str__ may do anything
        text = "(its text cannot be read)"
    return clean(f"{type(error).__qualname__}: {text}")[:MAX_ERROR_LENGTH]


def place_of(error: BaseException) -> str:
    """Return the exception's type and where it was raised, for the log: no text, no number."""
    kind, place = type(error).__qualname__, ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        place = f" in {frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
    return kind + place
