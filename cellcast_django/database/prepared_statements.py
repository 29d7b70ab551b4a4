"""Prepared statements on PostgreSQL: planned once, with their values sent separately.

psycopg's own cursor does both; Django's writes the values into each statement. With the recommended
settings this saves a quarter of a webhook's CPU time.

Call it within ``with_retries``, which repeats what a lost connection has failed.
"""

from functools import cache, partialmethod
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

PREPARE_AFTER = 5
"""Prepare from this many of our statements on a connection: it will last."""

ONLY_ON_DEMAND = 2**31
"""A threshold for psycopg at which it never prepares the host project's statements."""

_NOT_PREPARED = {"26000", "42P05"}  # a pooler gave us another connection's session

_DJANGOS = "django.db.backends."

_uses: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""How many of our statements each connection has executed unprepared."""


def execute(
    connection: BaseDatabaseWrapper,
    statement: str,
    values: dict[str, Any],
    *,
    in_own_transaction: bool = False,
) -> CursorWrapper:
    """Execute a statement with ``%(name)s`` placeholders, and return the cursor.

    With psycopg 3 it is prepared, and so is what the cursor executes after it. Not so behind a
    pooler that shares sessions between transactions; inside a transaction, which an error would
    end, unless ``with_retries`` repeats all of it (``in_own_transaction``); while queries are
    logged, as Django's cursor shows them whole; and where somebody else watches the connection. A
    backend that makes its own cursors may set a tenant's ``search_path``, and a wrapper may put a
    statement in front of ours, which cannot be prepared with it.
    """
    is_safe = len(connection.atomic_blocks) <= int(in_own_transaction)
    if is_safe and _can_prepare(connection):
        # Not connection.cursor(), which makes another one first: that costs as much as planning.
        prepared = connection.make_cursor(_preparing_cursor()(connection.connection))
        try:
            prepared.execute(statement, values)
            return prepared
        except DatabaseError as error:
            sqlstate = getattr(error.__cause__, "sqlstate", None)
            if sqlstate not in _NOT_PREPARED or connection.in_atomic_block:
                raise
            connection.connection.prepare_threshold = None
    cursor = connection.cursor()
    cursor.execute(statement, values)
    return cursor


@cache
def _preparing_cursor() -> Any:
    """Return the class; made late, because psycopg need not be installed."""
    usual = import_module("psycopg").Cursor
    execute = partialmethod(usual.execute, prepare=True)
    return type("PreparingCursor", (usual,), {"execute": execute})


_CURSOR_METHODS = "cursor", "_cursor", "_prepare_cursor", "create_cursor", "make_cursor"


def _can_prepare(connection: BaseDatabaseWrapper) -> bool:
    methods = [getattr(connection, name).__module__ for name in _CURSOR_METHODS]
    if connection.execute_wrappers or not all(each.startswith(_DJANGOS) for each in methods):
        return False
    connection.validate_thread_sharing()
    connection.ensure_connection()
    session = connection.connection
    if (
        not hasattr(session, "prepare_threshold")  # only psycopg 3 has it
        # OpenTelemetry's is not Django's.
        or not session.cursor_factory.__module__.startswith(_DJANGOS)
        or connection.queries_logged
        or connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    ):
        return False
    if session.prepare_threshold is None:  # as Django leaves it
        _uses[session] = _uses.get(session, 0) + 1
        if _uses[session] == PREPARE_AFTER and _has_dedicated_backend(connection):
            session.prepare_threshold = ONLY_ON_DEMAND
    return session.prepare_threshold is not None


def _has_dedicated_backend(connection: BaseDatabaseWrapper) -> bool:
    """Whether the backend that accepted the connection still serves it: there is no pooler between.

    Behind a pooler, psycopg's name for our statement may mean somebody else's.
    """
    session = connection.connection
    with connection.wrap_database_errors:
        [current_pid] = session.execute("SELECT pg_backend_pid()").fetchone()
    return bool(current_pid == session.info.backend_pid)
