"""The common case on PostgreSQL: one statement with data-modifying CTEs."""

from functools import cache, partial

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database import prepared_statements
from cellcast_django.database.transactions import own_statement, own_transaction
from cellcast_django.database.vendors import POSTGRESQL
from cellcast_django.inbox.drafts import DUPLICATE, Draft, Found, StatusDraft, Values, decide
from cellcast_django.inbox.fast import plain_statements
from cellcast_django.inbox.fast.plain_statements import (
    adapter,
    columns_of,
    fetch_event,
    lock_and_begin,
    moving_upsert,
    placeholder,
    save_begun,
    status_values,
    stored_without_id,
)
from cellcast_django.inbox.portable import BeforeCommit
from cellcast_django.models import Message, OptOutChange, StatusChange, WebhookEvent
from cellcast_django.payloads import Reply

IF_REPORTED_BEFORE = {
    name: "NULL::timestamptz" if value is None else repr(value)
    for name, value in DUPLICATE._asdict().items()
}
"""The columns of an event, in SQL; a ``CASE`` does not take its type from the column."""


def write_at_once(
    connection: BaseDatabaseWrapper, draft: Draft, before_commit: BeforeCommit | None
) -> WebhookEvent | None:
    """Write message, event and history with one statement, which is its own transaction.

    More than that needs a transaction: an opt-out, which takes the plain statements;
    ``before_commit``; and a reply where handlers are connected for only one of the facts that it
    may turn out to be.
    """
    if not isinstance(draft, StatusDraft):
        return plain_statements.write_by_row(connection, draft, before_commit)
    news = Found(is_news=True)
    decision = decide(draft, news)
    # Only a reply may turn out to be one of several facts.
    is_certain = not isinstance(draft.payload, Reply) or (
        not draft.contact_to_opt_out
        and decision == decide(draft, news._replace(previous_status=draft.payload.status))
    )
    is_all = is_certain and (before_commit is None or decision.next_run_at is None)
    event = draft.event_values | decision._asdict()
    adapt = adapter(connection)
    values = {
        **status_values(draft.payload.status),
        **adapt(Message, draft.message_values),
        **adapt(WebhookEvent, event),
        **adapt(StatusChange, draft.change_values),
        # PostgreSQL deduces another type for it where it is compared than where it is inserted.
        "contact": draft.message_values["contact"],
    }
    statement = _statement(may_be_stored=draft.may_be_stored)
    surroundings = own_statement if is_all else own_transaction
    with (
        surroundings(connection.alias),
        prepared_statements.execute(
            connection, statement, values, in_own_transaction=not is_all
        ) as cursor,
    ):
        written = cursor.fetchone()
        if written is None:
            return None
        message_id, status, previous_status, recorded_at, change_id, event_id = written
        is_new = not previous_status and recorded_at is None
        found = Found(message_id, status, previous_status, is_new, is_news=change_id is not None)
        event.update(id=event_id, message_id=message_id)
        if change_id is None:
            event |= DUPLICATE._asdict()
        begun = None if is_certain else _write_opt_out(cursor, draft, event, found)
        if before_commit is not None and event["next_run_at"] is not None:
            before_commit([event_id])
    return fetch_event(connection, draft, event, found, change_id, begun)


def _write_opt_out(
    cursor: CursorWrapper, draft: StatusDraft, event: Values, found: Found
) -> OptOutChange | None:
    """Begin the opt-out, if any, and correct the event now that it is known what it tells."""
    begun = lock_and_begin(cursor, draft)
    if begun is not None:
        save_begun(cursor, begun, event["id"])
    decision = decide(draft, found, begun)._asdict()
    if event | decision != event:
        event |= decision
        events = WebhookEvent.objects.using(cursor.db.alias).filter(pk=event["id"])
        events.update(**decision)
    return begun


@cache
def _statement(*, may_be_stored: bool) -> str:
    """Return all three writes as one statement.

    It writes nothing, and returns no row, if the message is stored without an id. The event's
    id is drawn first, because the event and its history row refer to each other. Below 4,096
    characters psycopg remembers how it reads a statement: parsing it for each webhook took a tenth
    of the app's CPU time.
    """
    # What the rows have in common is sent once.
    of_message, of_event = partial(placeholder, Message), partial(placeholder, WebhookEvent)
    now = of_event("received_at")
    insert = _insert_select(Message, alias=" AS stored", created_at=now, status_changed_at=now)
    if may_be_stored:
        insert += f" WHERE NOT EXISTS ({stored_without_id(POSTGRESQL)})"
    message = moving_upsert(POSTGRESQL, insert, stored="stored")
    change = _insert_select(
        StatusChange,
        message_id="message.id",
        status=of_message("status"),
        recorded_at=now,
        previous_status="previous_status",
        applied="status <> previous_status",
        event_id="event_id.id",
    )
    event = _insert_select(
        WebhookEvent,
        id="event_id.id",
        message_id="message.id",
        cellcast_id=of_message("cellcast_id"),
        contact=of_message("contact"),
        **{
            name: f"CASE WHEN change.id IS NULL THEN {sql} ELSE {of_event(name)} END"
            for name, sql in IF_REPORTED_BEFORE.items()
        },
    )
    return f"""
WITH message AS ({message} RETURNING id, status, previous_status, recorded_at),
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
    values = {name: known.get(name) or placeholder(model, name) for name in names} | known
    columns = ", ".join(map(POSTGRESQL.quote.format, values))
    table = POSTGRESQL.quote.format(model._meta.db_table)
    return f"INSERT INTO {table}{alias} ({columns}) SELECT {', '.join(values.values())}"
