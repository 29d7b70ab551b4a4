"""The inbox's common case in SQL of its own: one event that speaks of one documented status.

The portable way through ``inbox`` takes seven statements; PostgreSQL can do the same in one, and
SQLite in three. Both begin with one upsert, which locks the message's row and moves its status, and
both leave it to the unique constraint of the history whether the status is news.
"""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from functools import cache
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic

from cellcast_django.models import FILLED_IN, Message, StatusChange, WebhookEvent
from cellcast_django.statuses import PRECEDENCE, precedence


def can_write(connection: BaseDatabaseWrapper, status: str) -> bool:
    """Whether ``write`` knows this database and this status."""
    return connection.vendor in _WRITERS and status in PRECEDENCE


def write(
    connection: BaseDatabaseWrapper, message: Message, event: WebhookEvent, heard_at: datetime
) -> None:
    """Write message, history and event, in a transaction of their own.

    ``message`` carries the status that was heard of, ``event`` all that it has when that is news.
    Afterwards ``event.message`` is the message as it is stored now, and ``event.status_change`` its
    new row; a duplicate has none.
    """
    stored, change_id, event.pk = _WRITERS[connection.vendor](connection, message, event, heard_at)
    _note_saved(event, connection)
    event.message = stored
    if change_id is None:
        event.mark_duplicate()
        return
    change = _change_of(stored, message.status, heard_at)
    change.pk = change_id
    change.event = event
    _note_saved(change, connection)


def _change_of(stored: Message, status: str, heard_at: datetime) -> StatusChange:
    return StatusChange(
        message=stored,
        status=status,
        previous_status=stored.previous_status,
        applied=stored.status != stored.previous_status,
        recorded_at=heard_at,
    )


def _note_saved(instance: models.Model, connection: BaseDatabaseWrapper) -> None:
    instance._state.adding = False
    instance._state.db = connection.alias


Written = tuple[Message, int | None, int]
"""The message as it is stored now, the id of its new history row, and the id of the event."""


def _write_postgresql(
    connection: BaseDatabaseWrapper, message: Message, event: WebhookEvent, heard_at: datetime
) -> Written:
    parameters = [
        *_values(message, connection),
        *(message.status, heard_at),
        *_values(event, connection),
    ]
    # A single statement is a transaction, and spares BEGIN and COMMIT.
    in_autocommit = connection.get_autocommit() and not connection.in_atomic_block
    with (
        nullcontext() if in_autocommit else atomic(using=connection.alias, durable=True),
        connection.cursor() as cursor,
    ):
        cursor.execute(_postgresql_statement(message.status), parameters)
        *row, change_id, event_id = cursor.fetchone()
    return Message.from_db(connection.alias, _names(Message), row), change_id, event_id


def _write_sqlite(
    connection: BaseDatabaseWrapper, message: Message, event: WebhookEvent, heard_at: datetime
) -> Written:
    with atomic(using=connection.alias, durable=True), connection.cursor() as cursor:
        [stored] = Message.objects.using(connection.alias).raw(
            _upsert(message.status), _values(message, connection)
        )
        event.message = stored
        cursor.execute(_insert(WebhookEvent), _values(event, connection))
        [event_id] = cursor.fetchone()
        change = _change_of(stored, message.status, heard_at)
        change.event_id = event_id
        cursor.execute(_insert(StatusChange), _values(change, connection))
        inserted = cursor.fetchone()
        if inserted is None:
            cursor.execute(_mark_duplicate(), [event_id])
    return stored, inserted and inserted[0], event_id


Writer = Callable[[BaseDatabaseWrapper, Message, WebhookEvent, datetime], Written]
_WRITERS: dict[str, Writer] = {
    "postgresql": _write_postgresql,
    "sqlite": _write_sqlite,
}


# The statements, made once each


def _fields(model: type[models.Model]) -> list[Any]:
    return [field for field in model._meta.concrete_fields if not field.primary_key]


def _names(model: type[models.Model]) -> list[str]:
    return ["id", *(field.attname for field in _fields(model))]


def _values(instance: models.Model, connection: BaseDatabaseWrapper) -> list[Any]:
    return [
        field.get_db_prep_save(getattr(instance, field.attname), connection)
        for field in _fields(type(instance))
    ]


def _columns(model: type[models.Model]) -> str:
    return ", ".join(f'"{field.column}"' for field in _fields(model))


@cache
def _insert(model: type[models.Model]) -> str:
    """Insert a row unless a unique constraint says that it is there; return its id."""
    places = ", ".join(["%s"] * len(_fields(model)))
    return (
        f'INSERT INTO "{model._meta.db_table}" ({_columns(model)}) VALUES ({places}) '
        "ON CONFLICT DO NOTHING RETURNING id"
    )


@cache
def _upsert(status: str) -> str:
    """Insert the message, or move its status and fill in what is empty; return the row as it is."""
    moves = _moves(status)
    changes = {
        "previous_status": "old.status",
        "status": f"CASE WHEN {moves} THEN excluded.status ELSE old.status END",
        "status_changed_at": (
            f"CASE WHEN {moves} THEN excluded.status_changed_at ELSE old.status_changed_at END"
        ),
    }
    for name in FILLED_IN:
        changes[name] = f"CASE WHEN old.{name} = '' THEN excluded.{name} ELSE old.{name} END"
    assignments = ", ".join(f"{name} = {value}" for name, value in changes.items())
    places = ", ".join(["%s"] * len(_fields(Message)))
    return (
        f'INSERT INTO "{Message._meta.db_table}" AS old ({_columns(Message)}) VALUES ({places}) '
        f"ON CONFLICT (key) DO UPDATE SET {assignments} RETURNING id, {_columns(Message)}"
    )


def _moves(status: str) -> str:
    """Return the condition under which a message's old status gives way to this one."""
    if status == "received":
        return "old.status = ''"  # even an unknown status stands
    standing = [each for each in PRECEDENCE if precedence(each) >= precedence(status)]
    return f"old.status NOT IN ({', '.join(repr(each) for each in standing)})"


@cache
def _mark_duplicate() -> str:
    return (
        f"UPDATE \"{WebhookEvent._meta.db_table}\" SET outcome = 'duplicate', announced_at = NULL, "
        "announce_due_at = NULL, announce_attempts = 0 WHERE id = %s"
    )


@cache
def _postgresql_statement(status: str) -> str:
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
    event_values = ", ".join(special.get(f.column, "%s") for f in _fields(WebhookEvent))
    return f"""
WITH message AS ({_upsert(status)}),
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
    INSERT INTO "{event_table}" (id, {_columns(WebhookEvent)})
    SELECT event_id.id, {event_values}
    FROM message CROSS JOIN event_id LEFT JOIN change ON true
    RETURNING id
)
SELECT message.*, change.id AS change_id, event.id AS event_id
FROM message CROSS JOIN event LEFT JOIN change ON true
"""
