"""What a database session says of itself: asked once, and known until the session ends."""

from typing import Any
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
