"""What a database session says of itself, and how one of our transactions is limited in it."""

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from django.db.backends.base.base import BaseDatabaseWrapper

_answers: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()


def ask_once(connection: BaseDatabaseWrapper, question: str) -> tuple[Any, ...]:
    """Return the row that answers a query; each session is asked its vendor's one question once."""
    connection.ensure_connection()
    session = connection.connection
    if session not in _answers:
        with connection.cursor() as cursor:
            cursor.execute(question)
            _answers[session] = tuple(cursor.fetchone())
    return _answers[session]


class Limits(NamedTuple):
    """How lock waits are limited in a session, and what our next transaction in it reads."""

    restore: Callable[[], object] | None = None
    """Gives the session its own limits and level again, if they were changed."""
    first: str = ""
    """The statement that a transaction begins with, if any."""
    needs_transaction: bool = False
    """Whether a single statement keeps to the limits only inside a transaction."""
