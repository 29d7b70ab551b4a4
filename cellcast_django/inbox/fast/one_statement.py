"""The common case on PostgreSQL: one statement with data-modifying CTEs."""

from functools import cache
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database import prepared_statements
from cellcast_django.database.transactions import own_statement, own_transaction
from cellcast_django.inbox.drafts import Arrival, Draft, StatusDraft, plan, plan_as_news
from cellcast_django.inbox.fast import plain_statements
from cellcast_django.inbox.fast.plain_statements import (
    DIALECTS,
    NEW,
    attach,
    columns_of,
    complete,
    mark_as_stored,
    moving_upsert,
    placeholder,
    status_values,
    stored_without_id,
    values_of,
)
from cellcast_django.inbox.portable import BeforeCommit
from cellcast_django.models import NOTHING_TO_RUN, Message, StatusChange, WebhookEvent

DUPLICATE = {"outcome": f"'{WebhookEvent.Outcome.DUPLICATE.value}'"} | {
    name: "NULL" if value is None else str(value) for name, value in NOTHING_TO_RUN.items()
}
"""The columns of an event that was reported before, in SQL."""

DIALECT = DIALECTS["postgresql"]


def write_at_once(
    connection: BaseDatabaseWrapper,
    draft: Draft,
    arrival: Arrival,
    before_commit: BeforeCommit | None,
) -> bool:
    """Write message, event and history with one statement, which is its own transaction.

    More than that needs a transaction: an opt-out, which takes the plain statements;
    ``before_commit``; and a reply where handlers are connected for only one of the facts that it
    may turn out to be.
    """
    if not isinstance(draft, StatusDraft):
        return plain_statements.write_by_row(connection, draft, arrival, before_commit)
    event = draft.event
    is_planned = plan_as_news(draft, arrival)
    values = {
        **values_of(Message, draft.message_values, connection),
        **values_of(WebhookEvent, event.__dict__, connection),
        **values_of(StatusChange, draft.change_values, connection),
        **status_values(draft.payload.status),
    }
    statement = _statement(may_be_stored=draft.may_be_stored)
    is_all = is_planned and (before_commit is None or event.next_run_at is None)
    surroundings = own_statement if is_all else own_transaction
    with (
        surroundings(connection.alias),
        prepared_statements.execute(
            connection, statement, values, in_own_transaction=not is_all
        ) as cursor,
    ):
        written = cursor.fetchone()
        if written is None:
            return False
        message_id, status, old_status, change_id, event.pk = written
        is_news = change_id is not None
        previous_status = complete(draft, message_id, status, old_status, is_news=is_news)
        if is_news:
            draft.change_values.update(id=change_id, event_id=event.pk)
        mark_as_stored(event, connection)
        if not is_planned:
            _write_opt_out_and_plan(cursor, draft, arrival, previous_status)
        if before_commit is not None and event.next_run_at is not None:
            before_commit([event.pk])
    attach(draft, connection, is_new=old_status == NEW)
    return True


def _write_opt_out_and_plan(
    cursor: CursorWrapper, draft: StatusDraft, arrival: Arrival, previous_status: str | None
) -> None:
    """Begin the opt-out, if any, and correct the event now that it is known what it tells."""
    event = draft.event
    written = _stored_fields(event)
    begun = plain_statements.lock_and_begin(cursor, draft)
    if begun is not None:
        plain_statements.save_begun(cursor, begun, event)
    plan(draft, arrival, previous_status=previous_status, begins_opt_out=begun is not None)
    fields = _stored_fields(event)
    if fields != written:
        WebhookEvent.objects.using(cursor.db.alias).filter(pk=event.pk).update(**fields)


def _stored_fields(event: WebhookEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in ("outcome", *NOTHING_TO_RUN)}


@cache
def _statement(*, may_be_stored: bool) -> str:
    """Return all three writes as one statement.

    It writes nothing, and returns no row, if the message is stored without an id. The event's
    id is drawn first, because the event and its history row refer to each other. Below 4,096
    characters psycopg remembers how it reads a statement: parsing it for each webhook took a tenth
    of the app's CPU time.
    """
    insert = _insert_select(Message, alias=" AS stored", previous_status=repr(NEW))
    if may_be_stored:
        insert += f" WHERE NOT EXISTS ({stored_without_id(DIALECT)})"
    message = moving_upsert(DIALECT, insert, stored="stored")
    # What the rows have in common is sent once.
    change = _insert_select(
        StatusChange,
        message_id="message.id",
        status=_given(Message, "status"),
        recorded_at=_given(Message, "status_changed_at"),
        previous_status=f"replace(previous_status, '{NEW}', '')",
        applied="status <> previous_status",
        event_id="event_id.id",
    )
    event = _insert_select(
        WebhookEvent,
        id="event_id.id",
        message_id="message.id",
        cellcast_id=_given(Message, "cellcast_id"),
        contact=_given(Message, "contact"),
        **{
            name: f"CASE WHEN change.id IS NULL THEN {value} ELSE {_given(WebhookEvent, name)} END"
            for name, value in DUPLICATE.items()
        },
    )
    return f"""
WITH message AS ({message} RETURNING id, status, previous_status),
event_id AS (
    SELECT nextval(pg_get_serial_sequence('{WebhookEvent._meta.db_table}', 'id')) AS id
),
change AS (
    {change} FROM message CROSS JOIN event_id
    ON CONFLICT (message_id, status) DO NOTHING RETURNING id
),
event AS ({event} FROM message CROSS JOIN event_id LEFT JOIN change ON true RETURNING id)
SELECT message.*, change.id, event.id FROM message CROSS JOIN event LEFT JOIN change ON true
"""


def _insert_select(model: type[models.Model], *, alias: str = "", **known: str) -> str:
    """Return an insert of a row's values, except for those that the statement itself knows."""
    names = [field.column for field in columns_of(model)]
    values = {name: known.get(name) or _given(model, name) for name in names} | known
    columns = ", ".join(map(DIALECT.quote.format, values))
    table = DIALECT.quote.format(model._meta.db_table)
    return f"INSERT INTO {table}{alias} ({columns}) SELECT {', '.join(values.values())}"


def _given(model: type[models.Model], column: str) -> str:
    """Return the placeholder with its type, which PostgreSQL does not infer in a SELECT."""
    return f"{placeholder(model, column)}::{_types(model).get(column, 'text')}"


@cache
def _types(model: type[models.Model]) -> dict[str, str]:
    types = {
        "BooleanField": "boolean",
        "DateTimeField": "timestamptz",
        "JSONField": "jsonb",
        "PositiveBigIntegerField": "bigint",
        "PositiveIntegerField": "integer",
    }
    kinds: dict[str, Any] = {each.column: each.get_internal_type() for each in columns_of(model)}
    return {column: types[kind] for column, kind in kinds.items() if kind in types}
