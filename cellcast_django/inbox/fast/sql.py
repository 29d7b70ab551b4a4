"""The statements of the fast ways, and their values: both are derived from the models.

A value goes by the name of its row in the draft and of its column: ``%(message_contact)s``.
"""

from functools import cache
from typing import Any, NamedTuple

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.inbox.drafts import StatusDraft
from cellcast_django.models import NOTHING_TO_RUN, Message, StatusChange, WebhookEvent
from cellcast_django.payloads import Reply
from cellcast_django.statuses import PRECEDENCE, supersedes

ROWS: dict[type[models.Model], str] = {
    Message: "message",
    StatusChange: "change",
    WebhookEvent: "event",
}

SEPARATOR = "X"
"""Parts the statuses in one text: they are all in lower case."""

NEW = "NEW"
"""In place of a previous status: the message has just been inserted."""


DUPLICATE = {"outcome": f"'{WebhookEvent.Outcome.DUPLICATE.value}'"} | {
    name: "NULL" if value is None else str(value) for name, value in NOTHING_TO_RUN.items()
}
"""The columns of an event that was reported before, in SQL."""


class Dialect(NamedTuple):
    """What the databases write differently."""

    quote: str
    on_conflict: str
    offered: str
    """The value of a row that could not be inserted."""
    is_listed: str
    """Whether ``{}`` is one of the statuses in ``%(listed)s``, each between two separators."""


def upsert(dialect: Dialect, source: str, *, stored: str) -> str:
    """Return the insert of a message that moves the status of a stored one, and fills it in.

    ``source`` is where the values come from. MariaDB's assignments see the effect of those before
    them, so the status, which the others read, moves last; and its texts are empty by their length,
    because it finds a blank equal to ``""``.
    """
    old, new = f"{stored}.{{}}".format, dialect.offered.format
    moves = f"({dialect.is_listed.format(old('status'))}) = %(is_moved_by_listed)s"
    changes = {"previous_status": old("status")}
    for name in ("status_changed_at", "status"):
        changes[name] = f"CASE WHEN {moves} THEN {new(name)} ELSE {old(name)} END"
    for name in Message.REPORTED:
        is_text = Message._meta.get_field(name).get_internal_type() != "JSONField"
        is_empty = f"LENGTH({old(name)}) = 0" if is_text else f"{old(name)} = '[]'"
        changes[name] = f"CASE WHEN {is_empty} THEN {new(name)} ELSE {old(name)} END"
    assignments = ", ".join(f"{name} = {value}" for name, value in changes.items())
    return f"{source} {dialect.on_conflict} {assignments}"


def placeholder(model: type[models.Model], column: str) -> str:
    """Return the placeholder for the value of a column."""
    return f"%({ROWS[model]}_{column})s"


@cache
def columns_of(model: type[models.Model]) -> list[Any]:
    """Return the model's fields except the primary key, which the database gives."""
    return [field for field in model._meta.concrete_fields if not field.primary_key]


# Values


def upsert_values(draft: StatusDraft, connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return the values of the first statement."""
    draft.message.previous_status = NEW
    return values_of(draft.message, connection) | status_values(draft.change.status)


def values_of(row: models.Model, connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return the values of a row in the database's types, by the names of the placeholders."""
    values = {}
    for name, attname, field in _adapted_columns(type(row)):
        value = row.__dict__[attname]
        values[name] = field.get_db_prep_save(value, connection) if field else value
    return values


@cache
def _adapted_columns(model: type[models.Model]) -> list[tuple[str, str, Any]]:
    """Return the placeholder and attribute of each column, and its field if it adapts values."""
    return [
        (
            f"{ROWS[model]}_{field.column}",
            field.attname,
            field if field.get_internal_type() in {"DateTimeField", "JSONField"} else None,
        )
        for field in columns_of(model)
    ]


@cache
def status_values(status: str) -> dict[str, Any]:
    """Return the values by which the upsert tells whether this known status moves a message.

    Low ones move it from those listed; high ones from all but those listed, as it may have one that
    we do not know.
    """
    is_moved_by_listed = not supersedes(status, "unknown to us")
    listed = [each for each in PRECEDENCE if supersedes(status, each) == is_moved_by_listed]
    return {
        "is_moved_by_listed": is_moved_by_listed,
        "listed": SEPARATOR.join(["", *listed, ""]),
    }


# A reply that the API may have brought already


def may_be_stored(draft: StatusDraft) -> bool:
    """Whether the message may be stored without an id: only a real reply, from somebody."""
    is_reply = isinstance(draft.payload, Reply) and draft.message.contact != ""
    return is_reply and not draft.event.is_test


def stored_without_id(dialect: Dialect) -> str:
    """Return the look-up of a message of the same contact that has no id, by the index."""
    table = dialect.quote.format(Message._meta.db_table)
    return f"SELECT 1 FROM {table} WHERE cellcast_id = '' AND contact = %(message_contact)s"


# What was written


def complete(
    draft: StatusDraft, message_id: int, status: str, previous_status: str, *, is_news: bool
) -> None:
    """Put what the database has found into the draft's rows."""
    message, event, change = draft.message, draft.event, draft.change
    message.pk = event.message_id = change.message_id = message_id
    if is_news:
        change.previous_status = "" if previous_status == NEW else previous_status
        change.applied = status != change.previous_status
        return
    event.outcome = WebhookEvent.Outcome.DUPLICATE.value
    for name, value in NOTHING_TO_RUN.items():
        setattr(event, name, value)


def attach(draft: StatusDraft, connection: BaseDatabaseWrapper, *, is_new: bool) -> None:
    """Make the rows look as if they had been read, and know each other if handlers run for them."""
    message, event, change = draft.message, draft.event, draft.change
    for row in (message, event, change):
        row._state.adding = False
        row._state.db = connection.alias
    if event.next_run_at is None:
        return
    if not is_new:  # the row may know more than this event
        message = Message.objects.using(connection.alias).get(pk=message.pk)
    event.message = change.message = message
    change.event = event
