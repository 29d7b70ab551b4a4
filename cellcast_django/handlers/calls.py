"""One call of one handler: nothing it does can harm the other handlers or the caller."""

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
    open_before = {each.alias for each in _connections() if not sessions.is_idle(each)}
    watches: list[sessions.Watch] = []
    try:
        with ExitStack() as stack:
            watches += [
                stack.enter_context(sessions.Watch(each))
                for each in _connections()
                if each.vendor == "mysql"
            ]
            for connection in _connections():
                # Inside a test's transaction, a handler's database error must not abort the test.
                if connection.in_atomic_block:
                    stack.enter_context(_savepoint(connection))
            function()
    except BaseException as error:  # noqa: BLE001  # one handler must not stop another
        failure = Failure.of(error)
    begun_by_statement = {watch.connection.alias for watch in watches if watch.has_begun}
    for connection in _connections():
        is_idle = sessions.is_idle(connection) and connection.alias not in begun_by_statement
        if connection.alias not in open_before and not is_idle:
            if sessions.has_transaction(connection) or connection.alias in begun_by_statement:
                failure = failure or Failure.of(_left_open(connection))
            sessions.discard(connection)
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
        text = "(the exception has no readable text)"
    return clean(f"{type(error).__qualname__}: {text}")[:MAX_ERROR_LENGTH]


def _location_of(error: BaseException) -> str:
    location = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        location = f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
    return location
