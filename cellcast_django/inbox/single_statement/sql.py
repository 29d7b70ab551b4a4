"""The parts of the statements that the databases share."""

from collections.abc import Callable

from django.db import models

from cellcast_django.database.inserts import columns_of
from cellcast_django.models import (
    FILLABLE_FIELDS,
    NOTHING_TO_RUN,
    Message,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.statuses import PRECEDENCE, UNKNOWN_PRECEDENCE

Given = Callable[[str], str]
"""Returns the SQL for the value of this name."""

MESSAGE = f'"{Message._meta.db_table}"'
HISTORY = f'"{StatusChange._meta.db_table}"'
EVENT = f'"{WebhookEvent._meta.db_table}"'


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
    moves last.
    """
    special = {
        "previous_status": "''",
        "created_at": given("received_at"),
        "status_changed_at": given("received_at"),
        # Our own tests need nobody's attention.
        "handled_at": f"CASE WHEN {given('is_test')} THEN {given('received_at')} END",
        # Known only to the code that sends, and to the person who answers.
        "handled_by": "''",
        "sent_by": "''",
        "opted_out_at": "NULL",
    }
    moves = f"{given('precedence')} > {_precedence(stored('status'))}"
    changes = {"previous_status": stored("status")}
    for name in ("status_changed_at", "status"):
        changes[name] = f"CASE WHEN {moves} THEN {offered(name)} ELSE {stored(name)} END"
    for name in FILLABLE_FIELDS:
        old = stored(name)
        is_empty = f"{old} = '[]'" if name == "media" else f"{old} = ''"
        if name in ("body", "original_body"):  # to MariaDB a blank equals '' in these
            is_empty = f"LENGTH({old}) = 0"
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
        "done_at": (f"CASE WHEN {given('next_run_at')} IS NULL THEN {given('received_at')} END"),
        "handler_results": "'{}'",
        "dismissed_at": "NULL",
    }
    for name, nothing in NOTHING_TO_RUN.items():
        planned = special.get(name) or given(name)
        otherwise = "" if nothing is None else f"ELSE {nothing} "
        special[name] = f"CASE WHEN {is_news} THEN {planned} {otherwise}END"
    return _expressions(WebhookEvent, given, special)


def insert_change(given: Given, *, source: str) -> str:
    """Insert the history row from ``source``, unless the message has one for the status."""
    return (
        f"INSERT INTO {HISTORY} "
        "(message_id, status, previous_status, applied, reason, recorded_at, event_id) "
        f"SELECT message_id, {given('status')}, previous_status, status <> previous_status, "
        f"{given('reason')}, {given('received_at')}, event_id FROM {source} "
        "WHERE true ON CONFLICT DO NOTHING"
    )


def column_names(model: type[models.Model]) -> str:
    """Return the model's quoted column names, except the id."""
    return ", ".join(f'"{field.column}"' for field in columns_of(model))


def _expressions(model: type[models.Model], given: Given, special: dict[str, str]) -> str:
    return ", ".join(special.get(f.column) or given(f.column) for f in columns_of(model))
