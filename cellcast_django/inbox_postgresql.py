"""The inbox's common case in one statement, as PostgreSQL can do it."""

import re
from datetime import datetime
from functools import cache
from hashlib import sha256
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic

from cellcast_django.inbox_sql import Outbox, Written, columns, fields, upsert, values
from cellcast_django.models import StatusChange, WebhookEvent


def one_statement(
    connection: BaseDatabaseWrapper,
    status: str,
    message_values: list[Any],
    event: WebhookEvent,
    heard_at: datetime,
    outbox: Outbox | None,
) -> Written:
    """Write with one statement: a transaction of its own, that spares BEGIN and COMMIT.

    An outbox has to write in the same transaction, so then there is one around both.
    """
    parameters = [*message_values, status, heard_at, *values(event, connection)]
    with connection.cursor() as cursor:
        if outbox or connection.in_atomic_block or not connection.get_autocommit():
            with atomic(using=connection.alias, durable=True):
                cursor.execute(_statement(status), parameters)
                written = Written(*cursor.fetchone())
                if outbox and written.change_id is not None:
                    outbox([written.event_id])
                return written
        if not _execute_prepared(connection, cursor, status, parameters):
            cursor.execute(_statement(status), parameters)
        return Written(*cursor.fetchone())


_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""The names of the prepared statements of each connection to PostgreSQL."""

_NOT_PREPARED = {"26000", "42P05"}  # a pooler has given us another connection's session


def _execute_prepared(
    connection: BaseDatabaseWrapper, cursor: Any, status: str, parameters: list[Any]
) -> bool:
    """Execute the statement prepared, which takes PostgreSQL a third of the time.

    False, with nothing done, behind a pooler that shares sessions between transactions.
    """
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return False
    names = _prepared.setdefault(connection.connection, set())
    name, prepare, execute = _prepared_statement(status)
    try:
        if name not in names:
            cursor.execute(prepare)
            names.add(name)
        cursor.execute(execute, parameters)
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) not in _NOT_PREPARED:
            raise
        return False
    return True


@cache
def _prepared_statement(status: str) -> tuple[str, str, str]:
    """Return a name that no other statement has, and how to prepare and how to execute it."""
    statement = _statement(status)
    name = f"cellcast_{sha256(statement.encode()).hexdigest()[:16]}"
    numbers = (f"${number}" for number in count(1))
    prepare = f"PREPARE {name} AS {re.sub('%s', lambda _: next(numbers), statement)}"
    return name, prepare, f"EXECUTE {name} ({', '.join(['%s'] * statement.count('%s'))})"


@cache
def _statement(status: str) -> str:
    """Return all three writes as one statement.

    The event's id is drawn first, because its row and that of the history name each other.
    """
    event_table = WebhookEvent._meta.db_table
    if_new = "CASE WHEN change.id IS NULL THEN {} ELSE %s{} END"
    special = {
        "outcome": if_new.format("'duplicate'", ""),
        "announced_at": if_new.format("NULL", "::timestamptz"),
        "announce_due_at": if_new.format("NULL", "::timestamptz"),
        "announce_attempts": if_new.format("0", "::smallint"),
        "message_id": "COALESCE(%s, message.id)",
    }
    event_values = ", ".join(special.get(f.column, "%s") for f in fields(WebhookEvent))
    return f"""
WITH message AS ({upsert(status)}),
event_id AS (SELECT nextval(pg_get_serial_sequence('"{event_table}"', 'id')) AS id),
change AS (
    INSERT INTO "{StatusChange._meta.db_table}"
    (message_id, status, previous_status, applied, recorded_at, event_id)
    SELECT message.id, %s, message.previous_status, message.status <> message.previous_status,
           %s::timestamptz, event_id.id
    FROM message, event_id
    ON CONFLICT (message_id, status) DO NOTHING RETURNING id
),
event AS (
    INSERT INTO "{event_table}" (id, {columns(WebhookEvent)})
    SELECT event_id.id, {event_values}
    FROM message CROSS JOIN event_id LEFT JOIN change ON true
    RETURNING id
)
SELECT message.*, change.id AS change_id, event.id AS event_id
FROM message CROSS JOIN event LEFT JOIN change ON true
"""
