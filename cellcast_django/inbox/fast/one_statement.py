"""The common case on PostgreSQL: one statement with data-modifying CTEs."""

from functools import cache
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database import prepared_statements
from cellcast_django.database.transactions import own_statement, own_transaction
from cellcast_django.inbox.drafts import Draft, StatusDraft, Webhook, plan, plan_facts
from cellcast_django.inbox.fast import plain_statements
from cellcast_django.inbox.fast.plain_statements import (
    DIALECTS,
    NEW,
    attach,
    columns_of,
    complete,
    mark_as_stored,
    placeholder,
    status_values,
    stored_without_id,
    upsert,
    values_of,
)
from cellcast_django.inbox.portable import BeforeCommit
from cellcast_django.models import NOTHING_TO_RUN, Message, StatusChange, WebhookEvent
from cellcast_django.payloads import Reply
from cellcast_django.signals import message_received, status_changed

DUPLICATE = {"outcome": f"'{WebhookEvent.Outcome.DUPLICATE.value}'"} | {
    name: "NULL" if value is None else str(value) for name, value in NOTHING_TO_RUN.items()
}
"""The columns of an event that was reported before, in SQL."""

DIALECT = DIALECTS["postgresql"]


def write(
    connection: BaseDatabaseWrapper,
    draft: Draft,
    webhook: Webhook,
    before_commit: BeforeCommit | None,
) -> bool:
    """Write message, event and history with one statement, which is its own transaction.

    More than that needs a transaction: an opt-out, which takes the plain statements;
    ``before_commit``; and a reply where handlers are connected for only one of the facts that it
    may turn out to be.
    """
    if not isinstance(draft, StatusDraft):
        return plain_statements.write(connection, draft, webhook, before_commit)
    message, event, change = draft.message, draft.event, draft.change
    message.previous_status = NEW
    # Only the statement finds out which of them it is.
    facts = [status_changed, *([message_received] if isinstance(draft.payload, Reply) else [])]
    plan_facts(event, webhook, facts)
    is_planned = not draft.opted_out and len({each.has_listeners(Message) for each in facts}) == 1
    values = {
        **values_of(message, connection),
        **values_of(event, connection),
        **values_of(change, connection),
        **status_values(change.status),
        "may_be_stored": draft.may_be_stored,
    }
    is_all = is_planned and (before_commit is None or event.next_run_at is None)
    surroundings = own_statement if is_all else own_transaction
    with (
        surroundings(connection.alias),
        prepared_statements.execute(
            connection, _statement(), values, in_own_transaction=not is_all
        ) as cursor,
    ):
        written = cursor.fetchone()
        if written is None:
            return False
        message_id, status, previous_status, change.pk, event.pk = written
        change.event_id = event.pk
        is_news = change.pk is not None
        complete(draft, message_id, status, previous_status, is_news=is_news)
        if not is_news:
            for name, value in NOTHING_TO_RUN.items():
                setattr(event, name, value)
        mark_as_stored(event, connection)
        mark_as_stored(change, connection)
        if not is_planned:
            _write_opt_out_and_plan(cursor, draft, webhook, is_news=is_news)
        if before_commit is not None and event.next_run_at is not None:
            before_commit([event.pk])
    attach(draft, connection, is_new=previous_status == NEW)
    return True


def _write_opt_out_and_plan(
    cursor: CursorWrapper, draft: StatusDraft, webhook: Webhook, *, is_news: bool
) -> None:
    """Begin the opt-out, if any, and correct the event now that it is known what it tells."""
    event = draft.event
    written = _stored_fields(event)
    begun = plain_statements.lock_and_begin(cursor, draft)
    if begun is not None:
        plain_statements.save_begun(cursor, begun, event)
    plan(draft, webhook, is_news=is_news, begins_opt_out=begun is not None)
    fields = _stored_fields(event)
    if fields != written:
        WebhookEvent.objects.using(cursor.db.alias).filter(pk=event.pk).update(**fields)


def _stored_fields(event: WebhookEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in ("outcome", *NOTHING_TO_RUN)}


@cache
def _statement() -> str:
    """Return all three writes as one statement.

    It writes nothing, and returns no row, if the message may be stored without an id. The event's
    id is drawn first, because the event and its history row refer to each other. Below 4,096
    characters psycopg remembers how it reads a statement: parsing it for each webhook took a tenth
    of the app's CPU time.
    """
    message = upsert(
        DIALECT,
        f"{_insert(Message, alias=' AS stored')} WHERE NOT "
        f"(%(may_be_stored)s::boolean AND EXISTS ({stored_without_id(DIALECT)}))",
        stored="stored",
    )
    change = _insert(
        StatusChange,
        message_id="message.id",
        previous_status=f"replace(previous_status, '{NEW}', '')",
        applied="status <> previous_status",
        event_id="event_id.id",
    )
    event = _insert(
        WebhookEvent,
        id="event_id.id",
        message_id="message.id",
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


def _insert(model: type[models.Model], *, alias: str = "", **known: str) -> str:
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
