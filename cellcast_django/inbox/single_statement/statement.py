"""What the databases share: the values of the common case, and the parts of its statements.

The portable way takes several statements; ``postgresql``, ``sqlite`` and ``mariadb`` do the same in
one, which is its own transaction. It begins with an upsert, which locks the message's row and moves
its status. Whether the status is news, the history decides.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple, TypeVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.transactions import own_transaction
from cellcast_django.models import (
    FILLED_IN,
    NOTHING_TO_ANNOUNCE,
    Message,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.statuses import PRECEDENCE, UNKNOWN_PRECEDENCE


class Written(NamedTuple):
    """The result of a writer; ``change_id`` is ``None`` for a duplicate."""

    message_id: int
    status: str
    previous_status: str
    is_new: bool | int
    change_id: int | None
    event_id: int


Writer = Callable[[BaseDatabaseWrapper, dict[str, Any]], Written]
"""Takes the connection and the values by name."""

Outbox = Callable[[list[int]], None]
"""Called before the commit with the ids of the events that have something to announce."""


def write(
    connection: BaseDatabaseWrapper,
    writer: Writer,
    values: dict[str, Any],
    outbox: Outbox | None = None,
    confirm: Callable[[], None] | None = None,
) -> WebhookEvent:
    """Write message, history and event, in a transaction of their own, and return the event.

    ``values`` are the fields of the message (with the reported status) and of the event that vary
    between webhooks; the event's text is ``raw``. If the event has something to announce,
    ``event.message`` and ``event.status_change`` are set too.

    ``confirm`` is called in the transaction when the message is new; if it raises, nothing is
    written.
    """
    if values["announce_due_at"] is None:
        outbox = None
    is_needed = outbox is not None or confirm is not None
    with _own_transaction(connection, is_needed=is_needed):
        written = writer(connection, _adapted(values, connection))
        if confirm is not None and written.is_new:
            confirm()
        if outbox is not None and written.change_id is not None:
            outbox([written.event_id])
    event = _event(values, written, connection)
    if event.announce_due_at is not None:
        _add_what_is_announced(event, values, written, connection)
    return event


def _own_transaction(
    connection: BaseDatabaseWrapper, *, is_needed: bool
) -> AbstractContextManager[None]:
    """Begin a transaction, unless one statement on an idle connection is one by itself."""
    if not is_needed and connection.get_autocommit() and not connection.in_atomic_block:
        return nullcontext()
    return own_transaction(connection.alias, limits_itself=True)


_TIMES = ("submitted_at", "received_at", "announce_due_at")


def _adapted(values: dict[str, Any], connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return only what a writer needs, in the database's types: each value costs time."""
    adapted = {name: value for name, value in values.items() if name != "announced_at"}
    adapted["media"] = json.dumps(values["media"])
    for name in _TIMES:
        adapted[name] = connection.ops.adapt_datetimefield_value(values[name])
    return adapted


def _event(
    values: dict[str, Any], written: Written, connection: BaseDatabaseWrapper
) -> WebhookEvent:
    row = values | {
        "id": written.event_id,
        "outcome": WebhookEvent.Outcome.STORED,
        "error": "",
        "body": values["raw"],
        "message_id": written.message_id,
        "announcements": {},
    }
    if written.change_id is None:
        row["outcome"] = WebhookEvent.Outcome.DUPLICATE
        row |= NOTHING_TO_ANNOUNCE
    return _as_read(WebhookEvent, row, connection)


def _add_what_is_announced(
    event: WebhookEvent, values: dict[str, Any], written: Written, connection: BaseDatabaseWrapper
) -> None:
    now, statuses = event.received_at, {"previous_status": written.previous_status}
    if written.is_new:
        statuses["status"] = written.status
        handled_at = now if event.is_test else None
        times = {"created_at": now, "status_changed_at": now, "handled_at": handled_at}
        row = values | statuses | {"id": written.message_id}
        message = _as_read(Message, row | times, connection)
    else:  # the row may know more than this event
        message = Message.objects.using(connection.alias).get(pk=written.message_id)
    row = statuses | {
        "id": written.change_id,
        "message_id": message.pk,
        "status": values["status"],
        "applied": written.status != written.previous_status,
        "reason": values["reason"],
        "recorded_at": now,
        "event_id": event.pk,
    }
    change = _as_read(StatusChange, row, connection)
    event.message = change.message = message
    change.event = event
    _opt_out_of_event().set_cached_value(event, None)  # a stop word takes the portable way


@cache
def _opt_out_of_event() -> Any:
    return WebhookEvent._meta.get_field("opt_out")


M = TypeVar("M", bound=models.Model)


def _as_read(model: type[M], row: dict[str, Any], connection: BaseDatabaseWrapper) -> M:
    """Build the instance as if it had been read, at half the cost of keyword arguments."""
    names = _columns(model)
    return model.from_db(connection.alias, names, [row[name] for name in names])


@cache
def _columns(model: type[models.Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


# The parts of the statements

Given = Callable[[str], str]
"""Returns the SQL for the value of this name."""

MESSAGE = f'"{Message._meta.db_table}"'
HISTORY = f'"{StatusChange._meta.db_table}"'
EVENT = f'"{WebhookEvent._meta.db_table}"'


@cache
def fields(model: type[models.Model]) -> list[Any]:
    """Return the model's fields except the id."""
    return [field for field in model._meta.concrete_fields if not field.primary_key]


def upsert(
    given: Given,
    *,
    into: str = MESSAGE,
    on_conflict: str = "ON CONFLICT (key) DO UPDATE SET",
    offered: Given = "excluded.{}".format,
    stored: Given = "{}".format,
) -> str:
    """Insert the message, or move its status and fill in what is empty.

    MariaDB's assignments see the effect of those before them, so the status, which the others read,
    moves last. Emptiness is tested by length, because MariaDB finds a blank equal to ``''``.
    """
    special = {
        "previous_status": "''",
        "created_at": given("received_at"),
        "status_changed_at": given("received_at"),
        # Our own tests need nobody's attention.
        "handled_at": f"CASE WHEN {given('is_test')} THEN {given('received_at')} END",
    }
    moves = f"{given('precedence')} > {_precedence(stored('status'))}"
    changes = {"previous_status": stored("status")}
    for name in ("status_changed_at", "status"):
        changes[name] = f"CASE WHEN {moves} THEN {offered(name)} ELSE {stored(name)} END"
    for name in FILLED_IN:
        old = stored(name)
        is_empty = f"{old} = '[]'" if name == "media" else f"LENGTH({old}) = 0"
        changes[name] = f"CASE WHEN {is_empty} THEN {offered(name)} ELSE {old} END"
    return (
        f"INSERT INTO {into} ({column_names(Message)}) "
        f"VALUES ({_expressions(Message, given, special)}) "
        f"{on_conflict} {', '.join(f'{name} = {value}' for name, value in changes.items())}"
    )


def _precedence(status: str) -> str:
    known = " ".join(f"WHEN '{each}' THEN {rank}" for each, rank in PRECEDENCE.items())
    return f"CASE {status} {known} ELSE {UNKNOWN_PRECEDENCE} END"


def insert_event(given: Given, *, source: str, event_id: str = "", is_news: str) -> str:
    """Insert the event from ``source``, in which ``message`` is the message's row."""
    id_name, id_value = ("id, ", f"{event_id}, ") if event_id else ("", "")
    return (
        f"INSERT INTO {EVENT} ({id_name}{column_names(WebhookEvent)}) "
        f"SELECT {id_value}{event_values(given, is_news=is_news)} FROM {source}"
    )


def event_values(given: Given, *, is_news: str) -> str:
    """Return the values of the event's columns, in order; ``message`` is the message's row."""
    special = {
        "outcome": f"CASE WHEN {is_news} THEN 'stored' ELSE 'duplicate' END",
        "error": "''",
        "body": given("raw"),
        "message_id": "message.id",
        "announced_at": (
            f"CASE WHEN {given('announce_due_at')} IS NULL THEN {given('received_at')} END"
        ),
        "announcements": "'{}'",
    }
    for name, nothing in NOTHING_TO_ANNOUNCE.items():
        planned = special.get(name) or given(name)
        otherwise = "NULL" if nothing is None else nothing
        special[name] = f"CASE WHEN {is_news} THEN {planned} ELSE {otherwise} END"
    return _expressions(WebhookEvent, given, special)


def insert_change(given: Given, *, source: str) -> str:
    """Insert the history row from ``source``, unless the message has one for the status."""
    return (
        f"INSERT INTO {HISTORY} "
        "(message_id, status, previous_status, applied, reason, recorded_at, event_id) "
        f"SELECT message_id, {given('status')}, previous_status, status <> previous_status, "
        f"{given('reason')}, {given('received_at')}, event_id FROM {source} "
        "WHERE true ON CONFLICT (message_id, status) DO NOTHING"
    )


def column_names(model: type[models.Model]) -> str:
    """Return the model's quoted column names, except the id."""
    return ", ".join(f'"{field.column}"' for field in fields(model))


def _expressions(model: type[models.Model], given: Given, special: dict[str, str]) -> str:
    return ", ".join(special.get(f.column) or given(f.column) for f in fields(model))
