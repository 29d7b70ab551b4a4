"""The common case on SQLite: one statement, or three on a connection made for one request.

No SQLite statement writes three tables, but a trigger can: the values are inserted into a temporary
view, whose trigger does the rest and passes the result to a function of ours. So the database's one
lock is never held while Python works, which nearly doubles the rate of two workers. View and
trigger end with their connection and are in no schema; a connection that lasts for one request is
not worth making them.
"""

from contextlib import nullcontext
from functools import cache
from threading import local
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database import lock_waits
from cellcast_django.database.transactions import own_transaction
from cellcast_django.inbox.single_statement.sql import (
    EVENT,
    HISTORY,
    MESSAGE,
    insert_change,
    insert_event,
    upsert,
)
from cellcast_django.inbox.single_statement.statement import Written


def write(connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Written:
    """Write in the way that suits the connection, and return the result."""
    is_kept = connection.settings_dict["CONN_MAX_AGE"] != 0
    # SQLite has RETURNING from 3.35.
    if is_kept or not connection.features.can_return_columns_from_insert:
        return _by_trigger(connection, values)
    return _by_three_statements(connection, values)


# Three statements


def _by_three_statements(connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Written:
    message, event, change = _three_statements()
    own = nullcontext() if connection.in_atomic_block else own_transaction(connection.alias)
    with own, connection.cursor() as cursor:
        cursor.execute(message, values)
        found = cursor.fetchone()
        values = values | {"message_id": found[0]}
        cursor.execute(event, values)
        [event_id] = cursor.fetchone()
        cursor.execute(change, values | {"event_id": event_id})
        row = cursor.fetchone()
    return Written._make((*found, row and row[0], event_id))


@cache
def _three_statements() -> tuple[str, str, str]:
    message = f"{MESSAGE} AS message WHERE message.id = %(message_id)s"
    in_history = f"SELECT 1 FROM {HISTORY} WHERE message_id = message.id AND status = %(status)s"
    reported = (
        f"SELECT id AS message_id, status, previous_status, %(event_id)s AS event_id FROM {message}"
    )
    statements = (
        upsert(_given),
        insert_event(_given, source=message, is_news=f"NOT EXISTS ({in_history})"),
        insert_change(_given, source=f"({reported})"),
    )
    found = f"id, status, previous_status, created_at = {_given('received_at')}"
    first, second, third = statements
    return f"{first} RETURNING {found}", f"{second} RETURNING id", f"{third} RETURNING id"


def _given(name: str) -> str:
    return f"%({name})s"


# One statement


def _by_trigger(connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Written:
    names = tuple(values)
    _result.row = ()  # never the one of the previous webhook
    try:
        lock_waits.execute(connection, _insert(names), values)
    except OperationalError as error:
        if "cellcast_webhook" not in str(error):
            raise
        # A new connection has no view yet.
        connection.connection.create_function("cellcast_result", len(Written._fields), _keep)
        with connection.cursor() as cursor:
            cursor.execute(_view(names))
            cursor.execute(_trigger())
        lock_waits.execute(connection, _insert(names), values)
    return Written(*_result.row)


_result = local()


def _keep(*row: Any) -> None:
    _result.row = row


@cache
def _insert(names: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(map(_given, names))
    return f"INSERT INTO cellcast_webhook ({columns}) VALUES ({values})"


def _view(names: tuple[str, ...]) -> str:
    columns = ", ".join(f'0 AS "{name}"' for name in names)
    return f"CREATE TEMP VIEW IF NOT EXISTS cellcast_webhook AS SELECT {columns}"


def _trigger() -> str:
    """Return the trigger. ``last_insert_rowid`` and ``changes`` refer to the statement before."""
    in_history = f"SELECT 1 FROM {HISTORY} WHERE message_id = message.id AND status = NEW.status"
    message = f"{MESSAGE} AS message WHERE message.key = NEW.key"
    reported = (
        "SELECT id AS message_id, status, previous_status, last_insert_rowid() AS event_id "
        f"FROM {message}"
    )
    return f"""
CREATE TEMP TRIGGER IF NOT EXISTS cellcast_store INSTEAD OF INSERT ON cellcast_webhook BEGIN
    {upsert(_new)};
    {insert_event(_new, source=message, is_news=f"NOT EXISTS ({in_history})")};
    {insert_change(_new, source=f"({reported})")};
    SELECT cellcast_result(
        id, status, previous_status, created_at = NEW.received_at,
        CASE WHEN changes() = 1 THEN last_insert_rowid() END,
        (SELECT max(id) FROM {EVENT})
    ) FROM {message};
END
"""


def _new(name: str) -> str:
    return f"NEW.{name}"
