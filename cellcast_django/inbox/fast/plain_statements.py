"""The common case in plain SQL: one statement for each row that is written.

The first one writes, so it takes the lock, and all that Python decides after it is decided under
that lock. Message, history and event take three on SQLite and MariaDB; an opt-out that begins takes
three more, and on PostgreSQL these too. Statements and values are derived from the models;
PostgreSQL's ``one_statement`` is made of the same parts. A value goes by the letter of its table
and by its column: ``%(m_contact)s``.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from django.db import models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database.transactions import own_transaction
from cellcast_django.inbox.drafts import (
    Arrival,
    Draft,
    StatusDraft,
    begin_opt_out,
    plan,
    plan_as_news,
)
from cellcast_django.inbox.portable import BeforeCommit
from cellcast_django.models import (
    FOLLOWING_FIELDS,
    NOTHING_TO_RUN,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.statuses import PRECEDENCE, supersedes

LETTERS: dict[type[models.Model], str] = {
    Message: "m",
    StatusChange: "c",
    WebhookEvent: "e",
    OptOut: "o",
    OptOutChange: "h",
}
"""How the names of their values begin: short, since psycopg remembers no long statement."""

SEPARATOR = "X"
"""Parts the statuses in one text: they are all in lower case."""

NEW = "NEW"
"""In place of a previous status: the message has just been inserted."""


LEFT_EMPTY: dict[type[models.Model], set[str]] = {
    Message: {"handled_by", "sent_by", "opted_out_at"},
    WebhookEvent: {"error", "handler_results", "waiting_for", "dismissed_at"},
}
"""The columns that no webhook fills. Their defaults stand in the statements: each value that is
sent beside them costs time on both sides."""


class Dialect(NamedTuple):
    """What the databases write differently."""

    quote: str
    on_conflict: str
    """What an insert does if the unique column ``{}`` has its value already."""
    offered: str
    """The value of a row that could not be inserted."""
    is_listed: str
    """Whether ``{}`` is one of the statuses in ``%(listed)s``, each between two separators."""


DIALECTS = {
    "postgresql": Dialect(
        quote='"{}"',
        on_conflict="ON CONFLICT ({}) DO UPDATE SET",
        offered="excluded.{}",
        is_listed="strpos(%(listed)s::text, 'X' || {} || 'X') > 0",
    ),
    "sqlite": Dialect(
        quote='"{}"',
        on_conflict="ON CONFLICT ({}) DO UPDATE SET",
        offered="excluded.{}",
        is_listed="instr(%(listed)s, 'X' || {} || 'X') > 0",
    ),
    "mysql": Dialect(
        quote="`{}`",
        on_conflict="ON DUPLICATE KEY UPDATE",
        offered="VALUES({})",
        is_listed="instr(%(listed)s, concat('X', {}, 'X')) > 0",
    ),
}


def write_by_row(
    connection: BaseDatabaseWrapper,
    draft: Draft,
    arrival: Arrival,
    before_commit: BeforeCommit | None,
) -> bool:
    """Write the event, its message and its opt-out in a transaction of their own.

    What needs no lock is done before it: SQLite has one, for which all others wait.
    """
    event = draft.event
    adapt_time = cache(connection.ops.adapt_datetimefield_value)  # most columns have the same
    is_planned = is_new = False
    previous_status: str | None = None
    message: dict[str, Any] = {}
    if isinstance(draft, StatusDraft):
        is_planned = plan_as_news(draft, arrival)
        message = values_of(Message, draft.message_values, connection, adapt_time)
        message |= status_values(message["m_status"])
    values = values_of(WebhookEvent, event.__dict__, connection, adapt_time)
    with connection.cursor() as cursor, own_transaction(connection.alias):
        if isinstance(draft, StatusDraft):
            # Inserts or moves the message, and locks it.
            cursor.execute(_upsert_statement(connection.vendor), message)
            [(message_id, status, old_status)] = cursor
            is_new = old_status == NEW
            if is_new and draft.may_be_stored and _is_stored_without_id(cursor, message):
                transaction.set_rollback(True, connection.alias)
                return False
            is_news = is_new or not _is_in_history(cursor, message_id, message["m_status"])
            previous_status = complete(draft, message_id, status, old_status, is_news=is_news)
        begun = lock_and_begin(cursor, draft)
        if not is_planned or previous_status is None:
            plan(draft, arrival, previous_status=previous_status, begins_opt_out=begun is not None)
            values = values_of(WebhookEvent, event.__dict__, connection, adapt_time)
        values["e_message_id"] = event.message_id
        event.pk = _insert(cursor, WebhookEvent, values)
        if isinstance(draft, StatusDraft) and previous_status is not None:
            draft.change_values["event_id"] = event.pk
            change = values_of(StatusChange, draft.change_values, connection, adapt_time)
            draft.change_values["id"] = _insert(cursor, StatusChange, change)
        if begun is not None:
            save_begun(cursor, begun, event)
        if before_commit is not None and event.next_run_at is not None:
            before_commit([event.pk])
    mark_as_stored(event, connection)
    if isinstance(draft, StatusDraft):
        attach(draft, connection, is_new=is_new)
    return True


def _is_stored_without_id(cursor: CursorWrapper, message: dict[str, Any]) -> bool:
    statement = stored_without_id(DIALECTS[cursor.db.vendor])
    cursor.execute(statement, {"m_contact": message["m_contact"]})
    return cursor.fetchone() is not None


def _is_in_history(cursor: CursorWrapper, message_id: int, status: str) -> bool:
    history = DIALECTS[cursor.db.vendor].quote.format(StatusChange._meta.db_table)
    statement = f"SELECT 1 FROM {history} WHERE message_id = %s AND status = %s"
    cursor.execute(statement, [message_id, status])
    return cursor.fetchone() is not None


def _insert(cursor: CursorWrapper, model: type[models.Model], values: dict[str, Any]) -> int:
    """Insert a row of these values, and return its id."""
    cursor.execute(_insert_statement(cursor.db.vendor, model), values)
    [[pk]] = cursor
    return int(pk)


# Opt-outs, on PostgreSQL too


def lock_and_begin(cursor: CursorWrapper, draft: Draft) -> OptOutChange | None:
    """Lock and begin the opt-out that the draft asks for, if any; ``None`` if that is no change.

    Comes after the first write to the message.
    """
    if not draft.opted_out:
        return None
    opt_out = OptOut(contact=draft.opted_out)
    values = values_of(OptOut, opt_out.__dict__, cursor.db)
    cursor.execute(_lock_statement(cursor.db.vendor), values)
    for field, value in zip(OptOut._meta.concrete_fields, cursor.fetchone(), strict=True):
        for convert in cursor.db.ops.get_db_converters(field.cached_col):
            value = convert(value, field.cached_col, cursor.db)
        setattr(opt_out, field.attname, value)
    mark_as_stored(opt_out, cursor.db)
    return begin_opt_out(draft, opt_out, has_just_arrived=True)


def save_begun(cursor: CursorWrapper, begun: OptOutChange, event: WebhookEvent) -> None:
    """Write what ``lock_and_begin`` returned, once the event has its id."""
    opt_out = begun.opt_out
    begun.event = opt_out.event = event
    begun.pk = _insert(cursor, OptOutChange, values_of(OptOutChange, begun.__dict__, cursor.db))
    mark_as_stored(begun, cursor.db)
    values = values_of(OptOut, opt_out.__dict__, cursor.db) | {"id": opt_out.pk}
    cursor.execute(_opt_out_statement(cursor.db.vendor), values)


# Statements


@cache
def _upsert_statement(vendor: str) -> str:
    dialect = DIALECTS[vendor]
    stored = dialect.quote.format(Message._meta.db_table)
    insert = _insert_values(dialect, Message, previous_status=f"'{NEW}'")
    statement = moving_upsert(dialect, insert, stored=stored)
    return f"{statement} RETURNING id, status, previous_status"


@cache
def _lock_statement(vendor: str) -> str:
    dialect = DIALECTS[vendor]
    columns = ", ".join(dialect.quote.format(each.column) for each in OptOut._meta.concrete_fields)
    return (
        f"{_insert_values(dialect, OptOut)} {dialect.on_conflict.format('contact')} "
        f"contact = {dialect.offered.format('contact')} RETURNING {columns}"
    )


@cache
def _opt_out_statement(vendor: str) -> str:
    quote = DIALECTS[vendor].quote.format
    columns = [field.column for field in columns_of(OptOut) if field.name in FOLLOWING_FIELDS]
    changes = ", ".join(f"{quote(each)} = {placeholder(OptOut, each)}" for each in columns)
    return f"UPDATE {quote(OptOut._meta.db_table)} SET {changes} WHERE id = %(id)s"


@cache
def _insert_statement(vendor: str, model: type[models.Model]) -> str:
    return f"{_insert_values(DIALECTS[vendor], model)} RETURNING id"


def _insert_values(dialect: Dialect, model: type[models.Model], **known: str) -> str:
    columns = [field.column for field in columns_of(model)]
    names = ", ".join(map(dialect.quote.format, columns))
    values = ", ".join(known.get(column) or placeholder(model, column) for column in columns)
    return f"INSERT INTO {dialect.quote.format(model._meta.db_table)} ({names}) VALUES ({values})"


def moving_upsert(dialect: Dialect, insert: str, *, stored: str) -> str:
    """Return the insert of a message that moves the status of a stored one, and fills it in.

    MariaDB's assignments see the effect of those before them, so the status, which the others read,
    moves last; and its texts are empty by their length, because it finds a blank equal to ``""``.
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
    return f"{insert} {dialect.on_conflict.format('key')} {assignments}"


def stored_without_id(dialect: Dialect) -> str:
    """Return the look-up of a message of the same contact that has no id, by the index."""
    table = dialect.quote.format(Message._meta.db_table)
    return f"SELECT 1 FROM {table} WHERE cellcast_id = '' AND contact = %(m_contact)s"


def placeholder(model: type[models.Model], column: str) -> str:
    """Return the placeholder for the value of a column, or the default that it is left at."""
    if column in LEFT_EMPTY.get(model, ()):
        field: Any = model._meta.get_field(column)
        default = field.get_default()
        return "NULL" if default is None else f"'{default}'"
    return f"%({LETTERS[model]}_{column})s"


@cache
def columns_of(model: type[models.Model]) -> list[Any]:
    """Return the model's fields except the primary key, which the database gives."""
    return [field for field in model._meta.concrete_fields if not field.primary_key]


# Values


@cache
def status_values(status: str) -> dict[str, Any]:
    """Return the values by which the upsert tells whether this known status moves a message.

    Low ones move it from those listed; high ones from all but those listed, as it may have one that
    we do not know.
    """
    is_moved_by_listed = not supersedes(status, "unknown to us")
    listed = [each for each in PRECEDENCE if supersedes(status, each) == is_moved_by_listed]
    return {"is_moved_by_listed": is_moved_by_listed, "listed": SEPARATOR.join(["", *listed, ""])}


def values_of(
    model: type[models.Model],
    given: dict[str, Any],
    connection: BaseDatabaseWrapper,
    adapt_time: Callable[[Any], Any] | None = None,
) -> dict[str, Any]:
    """Return the values of a row in the database's types, by the names of the placeholders.

    What is not given has its default. With ``adapt_time``, several rows can have the same times
    adapted once.
    """
    adapt_time = adapt_time or connection.ops.adapt_datetimefield_value
    values = {}
    for name, attname, default, field in _adapted_columns(model):
        value = given.get(attname, default)
        if field is not None and value is not None:
            is_time = isinstance(value, datetime)
            value = adapt_time(value) if is_time else field.get_db_prep_value(value, connection)
        values[name] = value
    return values


@cache
def _adapted_columns(model: type[models.Model]) -> list[tuple[str, str, Any, Any]]:
    """Return of each column its placeholder's name, attribute and default.

    Then its field, if that adapts values.
    """
    return [
        (
            f"{LETTERS[model]}_{field.column}",
            field.attname,
            field.get_default(),
            field if field.get_internal_type() in {"DateTimeField", "JSONField"} else None,
        )
        for field in columns_of(model)
        if field.column not in LEFT_EMPTY.get(model, ())
    ]


# Rows


def complete(
    draft: StatusDraft, message_id: int, status: str, old_status: str, *, is_news: bool
) -> str | None:
    """Put what the database has found into the draft.

    Returns the status that the message had before, ``""`` if it is new, and ``None`` if this one
    is no news.
    """
    event = draft.event
    event.message_id = message_id
    draft.message_values.update(id=message_id, previous_status=old_status)
    if not is_news:
        event.outcome = WebhookEvent.Outcome.DUPLICATE.value
        for name, value in NOTHING_TO_RUN.items():
            setattr(event, name, value)
        return None
    previous_status = "" if old_status == NEW else old_status
    draft.change_values.update(
        message_id=message_id, previous_status=previous_status, applied=status != previous_status
    )
    return previous_status


def mark_as_stored(row: models.Model, connection: BaseDatabaseWrapper) -> None:
    """Make a row look as if it had been read."""
    row._state.adding = False
    row._state.db = connection.alias


def attach(draft: StatusDraft, connection: BaseDatabaseWrapper, *, is_new: bool) -> None:
    """Give the event its message and its history row, if handlers run for it."""
    event = draft.event
    if event.next_run_at is None:
        return
    if is_new:
        event.message = draft.message
        mark_as_stored(draft.message, connection)
    else:  # the row may know more than this event
        messages = Message.objects.using(connection.alias)
        event.message = messages.get(pk=draft.message_values["id"])
    if "id" in draft.change_values:  # a duplicate that opts out has none
        change = draft.change
        mark_as_stored(change, connection)
        change.message, change.event = event.message, event
