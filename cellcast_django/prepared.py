"""Statements that PostgreSQL prepares: from the second time on they cost it a third."""

from functools import cache
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

_names: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""The names of the prepared statements of each connection to PostgreSQL."""

_NOT_PREPARED = {"26000", "42P05"}  # a pooler has given us another connection's session


def execute(
    connection: BaseDatabaseWrapper, cursor: Any, statement: str, values: dict[str, Any]
) -> None:
    """Execute a statement with ``%(name)s`` for each of the values; prepared where that can be.

    That is on PostgreSQL, but neither behind a pooler that shares sessions between transactions
    nor inside a transaction, which an error would end.
    """
    can_prepare = (
        connection.vendor == "postgresql"
        and not connection.in_atomic_block
        and not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    )
    if not (can_prepare and _execute_prepared(connection, cursor, statement, values)):
        cursor.execute(statement, values)


def _execute_prepared(
    connection: BaseDatabaseWrapper, cursor: Any, statement: str, values: dict[str, Any]
) -> bool:
    """Return whether that went well; nothing is done where the statement is not prepared."""
    names = _names.setdefault(connection.connection, set())
    name, prepare, execute = _prepared(statement, tuple(values))
    try:
        if name not in names:
            cursor.execute(prepare)
            names.add(name)
        cursor.execute(execute, tuple(values.values()))
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) not in _NOT_PREPARED:
            raise
        return False
    return True


@cache
def _prepared(statement: str, parameters: tuple[str, ...]) -> tuple[str, str, str]:
    """Return a name that no other statement has, and how to prepare and how to execute it."""
    numbers = {name: f"${number}" for number, name in enumerate(parameters, start=1)}
    statement %= numbers
    name = f"cellcast_{sha256(statement.encode()).hexdigest()[:16]}"
    places = ", ".join(["%s"] * len(parameters))
    return name, f"PREPARE {name} AS {statement}", f"EXECUTE {name} ({places})"
