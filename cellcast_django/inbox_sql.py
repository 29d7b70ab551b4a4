"""The inbox's common case in SQL of its own: one event that speaks of one documented status.

The portable way through ``inbox`` takes seven statements. SQLite can do the same in three, and
PostgreSQL in one (``inbox_postgresql``). Both begin with one upsert, which locks the message's row
and moves its status, and both leave it to the unique constraint of the history whether the status
is news.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic

from cellcast_django.models import FILLED_IN, Message, StatusChange, WebhookEvent
from cellcast_django.statuses import PRECEDENCE, precedence


class Written(NamedTuple):
    """What a writer has found and done; ``change_id`` is ``None`` for a duplicate."""

    message_id: int
    status: str
    previous_status: str
    created_at: Any
    change_id: int | None
    event_id: int


Outbox = Callable[[list[int]], None]
"""Takes the ids of events that have something to announce, before their transaction commits."""

Writer = Callable[
    [BaseDatabaseWrapper, str, list[Any], WebhookEvent, datetime, Outbox | None], Written
]
"""Takes the connection, the status, the message's values, the event, when it was heard, and the
outbox for an event that is news."""


def write(
    connection: BaseDatabaseWrapper,
    writer: Writer,
    message: Message,
    event: WebhookEvent,
    heard_at: datetime,
    outbox: Outbox | None = None,
) -> None:
    """Write message, history and event, in a transaction of their own.

    ``message`` carries the status that was heard of, ``event`` all that it has when that is news.
    Afterwards the event is as it is stored. Where it has something to announce, ``event.message``
    and ``event.status_change`` are at hand too.
    """
    status, message_values = message.status, values(message, connection)
    if event.announce_due_at is None:
        outbox = None
    written = writer(connection, status, message_values, event, heard_at, outbox)
    event.pk = written.event_id
    event.message_id = written.message_id
    _note_saved(event, connection)
    if written.change_id is None:
        event.mark_duplicate()
    if event.announce_due_at is None:
        return
    # SQLite may be told to hand out the text of a time as a datetime.
    if message_values[_CREATED_AT] in (written.created_at, str(written.created_at)):
        message.pk = written.message_id
        message.status = written.status
        message.previous_status = written.previous_status
        _note_saved(message, connection)
    else:  # it was there before, and may know more than this event says
        message = Message.objects.using(connection.alias).get(pk=written.message_id)
    event.message = message
    change = _change_of(written, status, heard_at)
    change.pk = written.change_id
    change.message = message
    change.event = event
    _note_saved(change, connection)


def _change_of(written: Written, status: str, heard_at: datetime) -> StatusChange:
    return StatusChange(
        message_id=written.message_id,
        status=status,
        previous_status=written.previous_status,
        applied=written.status != written.previous_status,
        recorded_at=heard_at,
        event_id=written.event_id,
    )


def _note_saved(instance: models.Model, connection: BaseDatabaseWrapper) -> None:
    instance._state.adding = False
    instance._state.db = connection.alias


def three_statements(
    connection: BaseDatabaseWrapper,
    status: str,
    message_values: list[Any],
    event: WebhookEvent,
    heard_at: datetime,
    outbox: Outbox | None,
) -> Written:
    """Write with an upsert and two inserts, which SQLite and PostgreSQL spell alike."""
    with atomic(using=connection.alias, durable=True), connection.cursor() as cursor:
        cursor.execute(upsert(status), message_values)
        message_id, now_status, previous_status, created_at = cursor.fetchone()
        event.message_id = message_id
        cursor.execute(_insert(WebhookEvent), values(event, connection))
        [event_id] = cursor.fetchone()
        written = Written(message_id, now_status, previous_status, created_at, None, event_id)
        change = _change_of(written, status, heard_at)
        cursor.execute(_insert(StatusChange), values(change, connection))
        if inserted := cursor.fetchone():
            if outbox is not None:
                outbox([event_id])
            return written._replace(change_id=inserted[0])
        cursor.execute(_mark_duplicate(), [event_id])
        return written


def update_event(
    connection: BaseDatabaseWrapper, event: WebhookEvent, values: dict[str, Any]
) -> int:
    """Save these fields of the event if its attempt is still the last one; return 1 then, else 0.

    One statement on every database, at a third of the price of ``QuerySet.update``.
    """
    quote = connection.ops.quote_name
    assignments = ", ".join(f"{quote(name)} = %s" for name in values)
    statement = (
        f"UPDATE {quote(WebhookEvent._meta.db_table)} SET {assignments} "
        f"WHERE {quote('id')} = %s AND {quote('announce_attempts')} = %s"
    )
    columns_by_name = {field.attname: field for field in fields(WebhookEvent)}
    parameters = [
        columns_by_name[name].get_db_prep_save(value, connection) for name, value in values.items()
    ]
    with connection.cursor() as cursor:
        cursor.execute(statement, [*parameters, event.pk, event.announce_attempts])
        return int(cursor.rowcount)


# The statements, made once each


@cache
def fields(model: type[models.Model]) -> list[Any]:
    """Return the model's columns but the id."""
    return [field for field in model._meta.concrete_fields if not field.primary_key]


def values(instance: models.Model, connection: BaseDatabaseWrapper) -> list[Any]:
    """Return what goes into the instance's columns, as the database wants it."""
    model = type(instance)
    prepared = list(_raw_values(model)(instance))
    for position in _to_prepare(model):
        field = fields(model)[position]
        prepared[position] = field.get_db_prep_save(prepared[position], connection)
    return prepared


@cache
def _raw_values(model: type[models.Model]) -> Callable[[models.Model], tuple[Any, ...]]:
    return attrgetter(*(field.attname for field in fields(model)))


@cache
def _to_prepare(model: type[models.Model]) -> list[int]:
    """Return the positions of the values that are neither text nor numbers."""
    kinds = (models.DateTimeField, models.JSONField)
    return [position for position, field in enumerate(fields(model)) if isinstance(field, kinds)]


_CREATED_AT = [field.name for field in fields(Message)].index("created_at")


def places(model: type[models.Model]) -> str:
    """Return a placeholder for each of the model's columns but the id."""
    return ", ".join(["%s"] * len(fields(model)))


def columns(model: type[models.Model]) -> str:
    """Return the names of the model's columns but the id."""
    return ", ".join(f'"{field.column}"' for field in fields(model))


@cache
def _insert(model: type[models.Model]) -> str:
    """Insert a row unless a unique constraint says that it is there; return its id."""
    return (
        f'INSERT INTO "{model._meta.db_table}" ({columns(model)}) VALUES ({places(model)}) '
        "ON CONFLICT DO NOTHING RETURNING id"
    )


@cache
def upsert(status: str) -> str:
    """Insert the message, or move its status and fill in what is empty; return what it is now."""
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
    return (
        f'INSERT INTO "{Message._meta.db_table}" AS old ({columns(Message)}) '
        f"VALUES ({places(Message)}) ON CONFLICT (key) DO UPDATE SET {assignments} "
        "RETURNING id, status, previous_status, created_at"
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
