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
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from django.db import models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database.transactions import own_transaction
from cellcast_django.inbox.drafts import (
    Draft,
    StatusDraft,
    Values,
    attach_facts,
    begin_opt_out,
    plan,
)
from cellcast_django.inbox.portable import BeforeCommit
from cellcast_django.models import (
    FOLLOWING_FIELDS,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.statuses import PRECEDENCE, supersedes

M = TypeVar("M", bound=models.Model)

LETTERS: dict[type[models.Model], str] = {
    Message: "m",
    StatusChange: "c",
    WebhookEvent: "e",
    OptOut: "o",
    OptOutChange: "h",
}
"""How the names of their values begin: short, since psycopg remembers no long statement."""

NEW = "NEW"
"""In place of a previous status: the message has just been inserted."""


LEFT_EMPTY: dict[type[models.Model], set[str]] = {
    Message: {"handled_by", "sent_by", "opted_out_at"},
    WebhookEvent: {
        "error",
        "handler_results",
        "waiting_for",
        "interventions",
        "calls_are_noted",
        "dismissed_at",
    },
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
    """Whether ``{}`` is one of the statuses in ``%(listed)s``, which are parted by an ``X``."""


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


class Found(NamedTuple):
    """The message that an event is about, once it is written, if it is about one."""

    pk: Any = None
    status: str = ""
    previous_status: str | None = None
    """``""`` if it had none before, and ``None`` if its history gains nothing."""
    is_new: bool = False


def write_by_row(
    connection: BaseDatabaseWrapper, draft: Draft, before_commit: BeforeCommit | None
) -> WebhookEvent | None:
    """Write the event, its message and its opt-out in a transaction of their own.

    The message's values are made before the lock: SQLite has one, for which all others wait.
    """
    adapt = adapter(connection)
    message: Values = {}
    if isinstance(draft, StatusDraft):
        message = adapt({Message: draft.message}) | status_values(draft.payload.status)
    found, change_id = Found(), None
    with connection.cursor() as cursor, own_transaction(connection.alias):
        if isinstance(draft, StatusDraft):
            found = _write_message(cursor, message)
            if found.is_new and draft.may_be_stored and _is_stored_without_id(cursor, message):
                transaction.set_rollback(True, connection.alias)
                return None
        begun = lock_and_begin(cursor, draft)
        planned = plan(draft, found.previous_status, begun)
        event = draft.event | planned._asdict() | {"message_id": found.pk}
        event["id"] = _insert(cursor, WebhookEvent, adapt({WebhookEvent: event}))
        if isinstance(draft, StatusDraft) and found.previous_status is not None:
            change = change_of(draft, found, event_id=event["id"])
            change_id = _insert(cursor, StatusChange, adapt({StatusChange: change}))
        if begun is not None:
            save_begun(cursor, begun, event["id"])
        if before_commit is not None and planned.next_run_at is not None:
            before_commit([event["id"]])
    return fetch_event(connection, draft, event, found, change_id, begun)


def _write_message(cursor: CursorWrapper, message: Values) -> Found:
    """Insert or move the message, which locks it, and look for the status in its history."""
    cursor.execute(_upsert_statement(cursor.db.vendor), message)
    [(pk, status, old_status)] = cursor
    is_new = is_news = old_status == NEW
    if not is_new:
        history = DIALECTS[cursor.db.vendor].quote.format(StatusChange._meta.db_table)
        statement = f"SELECT 1 FROM {history} WHERE message_id = %s AND status = %s"
        cursor.execute(statement, [pk, message["m_status"]])
        is_news = cursor.fetchone() is None
    return Found(pk, status, old_status.removeprefix(NEW) if is_news else None, is_new)


def _is_stored_without_id(cursor: CursorWrapper, message: Values) -> bool:
    statement = stored_without_id(DIALECTS[cursor.db.vendor])
    cursor.execute(statement, {"m_contact": message["m_contact"]})
    return cursor.fetchone() is not None


def _insert(cursor: CursorWrapper, model: type[models.Model], values: Values) -> int:
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
    new = adapter(cursor.db)({OptOut: OptOut(contact=draft.opted_out).__dict__})
    cursor.execute(_lock_statement(cursor.db.vendor), new)
    columns = OptOut._meta.concrete_fields
    row = list(cursor.fetchone())
    for place, field in enumerate(columns):
        for convert in cursor.db.ops.get_db_converters(field.cached_col):
            row[place] = convert(row[place], field.cached_col, cursor.db)
    opt_out = OptOut.from_db(cursor.db.alias, [field.attname for field in columns], row)
    return begin_opt_out(draft, opt_out)


def save_begun(cursor: CursorWrapper, begun: OptOutChange, event_id: int) -> None:
    """Write what ``lock_and_begin`` returned, once the event has its id."""
    opt_out, adapt = begun.opt_out, adapter(cursor.db)
    begun.event_id = opt_out.event_id = event_id
    begun.pk = _insert(cursor, OptOutChange, adapt({OptOutChange: begun.__dict__}))
    begun._state.adding, begun._state.db = False, cursor.db.alias
    values = adapt({OptOut: opt_out.__dict__}) | {"id": opt_out.pk}
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
        if default is None or default is False:
            return "false" if default is False else "NULL"
        return f"'{default}'"
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
    return {"is_moved_by_listed": is_moved_by_listed, "listed": "X".join(["", *listed, ""])}


Adapt = Callable[[dict[type[models.Model], Values]], Values]


def adapter(connection: BaseDatabaseWrapper) -> Adapt:
    """Return what turns rows' values into the database's types, by their placeholders' names.

    A time that several columns have is adapted once.
    """
    adapt_time = connection.ops.adapt_datetimefield_value
    times: dict[datetime, Any] = {}

    def adapt(rows: dict[type[models.Model], Values]) -> Values:
        values: Values = {}
        for model, row in rows.items():
            names, pick, adapting = _sent_columns(model)
            values.update(zip(names, pick(row), strict=True))
            for name, field in adapting:
                value = values[name]
                if isinstance(value, datetime):
                    if value not in times:
                        times[value] = adapt_time(value)
                    values[name] = times[value]
                elif value is not None:
                    values[name] = field.get_db_prep_value(value, connection, prepared=True)
        return values

    return adapt


@cache
def _sent_columns(model: type[models.Model]) -> tuple[list[str], Any, list[tuple[str, Any]]]:
    """Return the placeholders' names, what picks their values, and the fields that adapt some."""
    fields = [each for each in columns_of(model) if each.column not in LEFT_EMPTY.get(model, ())]
    names = [f"{LETTERS[model]}_{field.column}" for field in fields]
    adapting = [
        (name, field)
        for name, field in zip(names, fields, strict=True)
        if field.get_internal_type() in {"DateTimeField", "JSONField"}
    ]
    return names, itemgetter(*(field.attname for field in fields)), adapting


# Rows


def change_of(draft: StatusDraft, found: Found, **ids: int) -> Values:
    """Return the values of the history row that a message gains."""
    previous_status = found.previous_status
    is_applied = found.status != previous_status
    changes = {"previous_status": previous_status, "applied": is_applied, "message_id": found.pk}
    return draft.change | changes | ids


def fetch_event(
    connection: BaseDatabaseWrapper,
    draft: Draft,
    values: Values,
    found: Found,
    change_id: int | None,
    begun: OptOutChange | None,
) -> WebhookEvent:
    """Return the event of these values; if handlers run for it, with the rows of its facts.

    Reads a message that was there before: its row may know more than this event.
    """
    using = connection.alias
    event = _stored(WebhookEvent, values, using)
    if event.next_run_at is None:
        return event
    message = change = None
    if isinstance(draft, StatusDraft):
        if found.is_new:
            new = draft.message | {"id": found.pk, "previous_status": NEW}
            message = _stored(Message, new, using)
        else:
            message = Message.objects.using(using).get(pk=found.pk)
        if change_id is not None:  # a duplicate that opts out has none
            row = change_of(draft, found, id=change_id, event_id=event.pk)
            change = _stored(StatusChange, row, using)
    attach_facts(event, message, change, begun)
    return event


def _stored(model: type[M], values: Values, using: str) -> M:
    """Return the row of these values as if it had been read."""
    return model.from_db(using, values, values.values())
