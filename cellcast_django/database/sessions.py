"""What a database session is told, and what it says of itself, asked once."""

from typing import Any
from weakref import WeakKeyDictionary

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

_answers: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()


def execute(
    connection: BaseDatabaseWrapper, statement: str, values: dict[str, Any] | None = None
) -> CursorWrapper:
    """Execute a statement with ``%(name)s`` placeholders, and return the cursor."""
    cursor = connection.cursor()
    cursor.execute(statement, values)
    return cursor


def ask_once(connection: BaseDatabaseWrapper, question: str) -> tuple[Any, ...]:
    """Return the row that answers a query; each session is asked its vendor's one question once."""
    connection.ensure_connection()
    session = connection.connection
    if session not in _answers:
        with execute(connection, question) as cursor:
            _answers[session] = tuple(cursor.fetchone())
    return _answers[session]
