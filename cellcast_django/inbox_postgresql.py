"""The inbox's common case in one statement, as PostgreSQL can do it."""

import re
from functools import cache
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.inbox_sql import (
    EVENT,
    PARAMETERS,
    Written,
    insert_change,
    insert_event,
    upsert,
)


def one_statement(connection: BaseDatabaseWrapper, values: tuple[Any, ...]) -> Written:
    """Write with one statement."""
    with connection.cursor() as cursor:
        if not _execute_prepared(connection, cursor, values):
            cursor.execute(_statement(), dict(zip(PARAMETERS, values, strict=True)))
        return Written(*cursor.fetchone())


_has_prepared: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""The connections to PostgreSQL that have prepared the statement."""

_NOT_PREPARED = {"26000", "42P05"}  # a pooler has given us another connection's session


def _execute_prepared(
    connection: BaseDatabaseWrapper, cursor: Any, values: tuple[Any, ...]
) -> bool:
    """Execute the statement prepared, which takes PostgreSQL a third of the time.

    False, with nothing done, behind a pooler that shares sessions between transactions, and inside
    a transaction, which an error would end.
    """
    if connection.in_atomic_block or connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return False
    prepare, execute = _prepared_statement()
    try:
        if connection.connection not in _has_prepared:
            cursor.execute(prepare)
            _has_prepared[connection.connection] = True
        cursor.execute(execute, values)
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) not in _NOT_PREPARED:
            raise
        return False
    return True


@cache
def _prepared_statement() -> tuple[str, str]:
    """Return how to prepare and how to execute it, by a name that no other statement has."""
    numbers = {name: f"${number}" for number, name in enumerate(PARAMETERS, start=1)}
    statement = _statement() % numbers
    name = f"cellcast_{sha256(statement.encode()).hexdigest()[:16]}"
    places = ", ".join(["%s"] * len(PARAMETERS))
    return f"PREPARE {name} AS {statement}", f"EXECUTE {name} ({places})"


@cache
def _statement() -> str:
    """Return all three writes as one statement.

    The event's id is drawn first, because its row and that of the history name each other.
    """
    event = insert_event(
        _given,
        source="message CROSS JOIN event_id LEFT JOIN change ON true",
        event_id="event_id.id",
        is_news="change.id IS NOT NULL",
    )
    told = (
        "SELECT message.id AS message_id, status, previous_status, event_id.id AS event_id "
        "FROM message CROSS JOIN event_id"
    )
    return f"""
WITH message AS ({upsert(_given)}
    RETURNING id, status, previous_status, created_at = {_given("received_at")} AS is_new
),
event_id AS (SELECT nextval(pg_get_serial_sequence('{EVENT}', 'id')) AS id),
change AS ({insert_change(_given, source=f"({told}) AS told")} RETURNING id),
event AS ({event} RETURNING id)
SELECT message.*, change.id, event.id FROM message CROSS JOIN event LEFT JOIN change ON true
"""


def _given(name: str) -> str:
    kind = "timestamptz" if name.endswith("_at") else "text"
    return f"%({name})s::{'smallint' if name == 'announce_attempts' else kind}"
