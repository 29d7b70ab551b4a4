"""Write the common case with a database's own writer, and build the event from the result.

The portable way takes several statements; ``postgresql``, ``sqlite`` and ``mariadb`` take one,
which is its own transaction. It begins with an upsert, which locks the message's row and moves its
status. Whether the status is news, the history decides.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple, TypeVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.transactions import own_transaction
from cellcast_django.inbox.portable import Outbox
from cellcast_django.models import NOTHING_TO_RUN, Message, StatusChange, WebhookEvent


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


def write(
    connection: BaseDatabaseWrapper,
    writer: Writer,
    values: dict[str, Any],
    outbox: Outbox | None = None,
    confirm: Callable[[], None] | None = None,
) -> WebhookEvent:
    """Write message, history and event, in a transaction of their own, and return the event.

    ``values`` are the fields of the message (with the reported status) and of the event that vary
    between webhooks; the event's text is ``raw``. If the event has something to run,
    ``event.message`` and ``event.status_change`` are set too.

    ``confirm`` is called in the transaction when the message is new; if it raises, nothing is
    written.
    """
    if values["next_run_at"] is None:
        outbox = None
    is_needed = outbox is not None or confirm is not None
    with _own_transaction(connection, is_needed=is_needed):
        written = writer(connection, _database_values(values, connection))
        if confirm is not None and written.is_new:
            confirm()
        if outbox is not None and written.change_id is not None:
            outbox([written.event_id])
    event = _event(values, written, connection)
    if event.next_run_at is not None:
        _attach_message_and_change(event, values, written, connection)
    return event


def _own_transaction(
    connection: BaseDatabaseWrapper, *, is_needed: bool
) -> AbstractContextManager[None]:
    """Begin a transaction if needed: one statement on an idle connection is its own."""
    if not is_needed and connection.get_autocommit() and not connection.in_atomic_block:
        return nullcontext()
    return own_transaction(connection.alias, limits_itself=True)


_TIMES = ("submitted_at", "received_at", "next_run_at")


def _database_values(values: dict[str, Any], connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return only what a writer needs, in the database's types: each value costs time."""
    adapted = {name: value for name, value in values.items() if name != "done_at"}
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
        "handler_results": {},
        "dismissed_at": None,
    }
    if written.change_id is None:
        row["outcome"] = WebhookEvent.Outcome.DUPLICATE
        row |= NOTHING_TO_RUN
    return _as_read(WebhookEvent, row, connection)


def _attach_message_and_change(
    event: WebhookEvent, values: dict[str, Any], written: Written, connection: BaseDatabaseWrapper
) -> None:
    now, statuses = event.received_at, {"previous_status": written.previous_status}
    if written.is_new:
        statuses["status"] = written.status
        handled_at = now if event.is_test else None
        times = {"created_at": now, "status_changed_at": now, "handled_at": handled_at}
        unknown = {"handled_by": "", "sent_by": "", "opted_out_at": None}
        row = values | statuses | unknown | {"id": written.message_id}
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
    _opt_out_change_of_event().set_cached_value(event, None)  # a stop word takes the portable way


@cache
def _opt_out_change_of_event() -> Any:
    return WebhookEvent._meta.get_field("opt_out_change")


M = TypeVar("M", bound=models.Model)


def _as_read(model: type[M], row: dict[str, Any], connection: BaseDatabaseWrapper) -> M:
    """Build the instance as if it had been read."""
    names = _columns(model)
    return model.from_db(connection.alias, names, [row[name] for name in names])


@cache
def _columns(model: type[models.Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]
