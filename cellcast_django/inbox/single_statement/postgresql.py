"""The common case on PostgreSQL: one statement with data-modifying CTEs."""

from functools import cache
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database import prepared_statements
from cellcast_django.database.inserts import columns_of
from cellcast_django.database.transactions import LOCK_SECONDS
from cellcast_django.inbox.single_statement.sql import (
    EVENT,
    MESSAGE,
    insert_change,
    insert_event,
    upsert,
)
from cellcast_django.inbox.single_statement.statement import Written
from cellcast_django.models import Message, StatusChange, WebhookEvent


def one_statement(connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Written:
    """Write with one statement."""
    with prepared_statements.execute(connection, _statement(), values) as cursor:
        return Written(*cursor.fetchone())


@cache
def _statement() -> str:
    """Return all three writes as one statement.

    It stays below the 4,096 characters up to which psycopg caches how it reads a statement: parsing
    it for each webhook took a tenth of the app's CPU time. The event's id is drawn first, because
    the event and its history row refer to each other.
    """
    event = insert_event(
        _given,
        source="message, event_id LEFT JOIN change ON true",
        event_id="event_id.id",
        is_news="change.id IS NOT NULL",
    )
    reported = (
        "SELECT message.id AS message_id, status, previous_status, event_id.id AS event_id "
        "FROM message, event_id"
    )
    message = upsert(_given_and_limited, into=f"{MESSAGE} AS m", stored="m.{}".format)
    return f"""
WITH message AS ({message}
    RETURNING id, status, previous_status, created_at = {_given("received_at")} AS is_new
),
event_id AS (SELECT nextval(pg_get_serial_sequence('{EVENT}', 'id')) AS id),
change AS ({insert_change(_given, source=f"({reported}) AS reported")} RETURNING id),
event AS ({event} RETURNING id)
SELECT message.*, change.id, event.id FROM message, event LEFT JOIN change ON true
"""


def _given(name: str) -> str:
    return f"%({name})s::{_casts()[name]}"


@cache
def _casts() -> dict[str, str]:
    """Return the type of each value, which PostgreSQL does not infer in a SELECT."""
    types = {"DateTimeField": "timestamptz", "JSONField": "jsonb", "BooleanField": "boolean"}
    types |= {"PositiveIntegerField": "integer"}
    columns = [
        each for model in (Message, StatusChange, WebhookEvent) for each in columns_of(model)
    ]
    casts = {each.column: types.get(each.get_internal_type(), "text") for each in columns}
    return casts | {"raw": "text", "precedence": "smallint"}


def _given_and_limited(name: str) -> str:
    """Return the placeholder; that of the key, which is evaluated first, sets ``lock_timeout`` too.

    The setting lasts until the transaction ends, and costs no statement of its own.
    """
    if name != "key":
        return _given(name)
    limit = f"set_config('lock_timeout', '{LOCK_SECONDS}s', true)"
    return f"CASE WHEN {limit} IS NOT NULL THEN {_given(name)} END"
