"""Statements of ours on PostgreSQL: planned once, and their values sent as they are.

psycopg does both, with a cursor of its own; Django's writes the values into each statement. That
saves a quarter of a webhook's CPU time with the recommended settings.
"""

from functools import cache
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

FREQUENT = 5
"""After so many of our statements on a connection they are prepared: it will not end at once."""

ONLY_ON_DEMAND = 2**31
"""psycopg's threshold with which it prepares none of the host project's statements."""

_NOT_PREPARED = {"26000", "42P05"}  # a pooler has given us another connection's session

_DJANGOS = "django.db.backends."

_uses: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""How many of our statements each connection has executed before they were prepared."""


def execute(
    connection: BaseDatabaseWrapper, statement: str, values: dict[str, Any]
) -> CursorWrapper:
    """Execute a statement with ``%(name)s`` for each of the values, and return the cursor.

    Where psycopg 3 is the driver it is prepared, but neither behind a pooler that shares sessions
    between transactions, nor inside a transaction, which an error would end, nor while queries are
    logged: Django's own cursor shows them whole. Nor where the backend makes cursors of its own,
    as it may set a tenant's ``search_path`` there, or count.
    """
    if _has_djangos_own_cursors(connection) and _can_prepare(connection):
        # Not by connection.cursor(), which makes another one first: that costs as much as planning.
        cursor = _preparing_cursor()(connection.connection)
        try:
            return _executed(connection.make_cursor(cursor), statement, values)
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) not in _NOT_PREPARED:
                raise
            connection.connection.prepare_threshold = None
    return _executed(connection.cursor(), statement, values)


def _executed(cursor: CursorWrapper, statement: str, values: dict[str, Any]) -> CursorWrapper:
    cursor.execute(statement, values)
    return cursor


@cache
def _preparing_cursor() -> Any:
    """Return the class, made when psycopg is known to be the driver: it need not be installed."""
    usual: Any = import_module("psycopg").Cursor

    class PreparingCursor(usual):  # type: ignore[misc]
        def execute(self, query: Any, params: Any = None) -> Any:
            return super().execute(query, params, prepare=True)

    return PreparingCursor


def _has_djangos_own_cursors(connection: BaseDatabaseWrapper) -> bool:
    makers = ("cursor", "_cursor", "_prepare_cursor", "create_cursor", "make_cursor")
    return all(getattr(connection, name).__module__.startswith(_DJANGOS) for name in makers)


def _can_prepare(connection: BaseDatabaseWrapper) -> bool:
    connection.validate_thread_sharing()
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    session = connection.connection
    if (
        not hasattr(session, "prepare_threshold")  # of no driver but psycopg 3
        or connection.in_atomic_block
        or connection.queries_logged
        or connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    ):
        return False
    if session.prepare_threshold is None:  # as Django leaves it
        _uses[session] = _uses.get(session, 0) + 1
        if _uses[session] == FREQUENT and _is_its_own(connection):
            session.prepare_threshold = ONLY_ON_DEMAND
    return session.prepare_threshold is not None


def _is_its_own(connection: BaseDatabaseWrapper) -> bool:
    """Whether we were greeted by the process that answers now, and not by a pooler.

    Behind one, psycopg's name for our statement may stand for somebody else's.
    """
    session = connection.connection
    with connection.wrap_database_errors:
        [answering] = session.execute("SELECT pg_backend_pid()").fetchone()
    return bool(answering == session.info.backend_pid)
