"""The common case on SQLite and MariaDB: a statement for each of the three tables.

The first one writes, so it takes the lock; whatever Python decides after it is decided under that
lock.
"""

from functools import cache
from typing import Any

from django.db import models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database.transactions import own_transaction
from cellcast_django.inbox.drafts import StatusDraft
from cellcast_django.inbox.fast.sql import (
    NEW,
    Dialect,
    attach,
    columns_of,
    complete,
    may_be_stored,
    placeholder,
    stored_without_id,
    upsert,
    upsert_values,
    values_of,
)
from cellcast_django.inbox.portable import BeforeCommit
from cellcast_django.models import Message, StatusChange

DIALECTS = {
    "sqlite": Dialect(
        quote='"{}"',
        on_conflict="ON CONFLICT (key) DO UPDATE SET",
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


def write(
    connection: BaseDatabaseWrapper, draft: StatusDraft, before_commit: BeforeCommit | None
) -> bool:
    """Write message, event and history in a transaction of their own."""
    event, change = draft.event, draft.change
    vendor, using = connection.vendor, connection.alias
    values = upsert_values(draft, connection)
    with own_transaction(using), connection.cursor() as cursor:
        cursor.execute(_upsert(vendor), values)
        message_id, status, previous_status = cursor.fetchone()
        is_new = previous_status == NEW
        if is_new and may_be_stored(draft) and _is_stored_without_id(cursor, vendor, values):
            transaction.set_rollback(True, using)
            return False
        is_news = is_new or not _is_in_history(cursor, vendor, message_id, change.status)
        complete(draft, message_id, status, previous_status, is_news=is_news)
        event.pk = _insert(cursor, connection, event)
        if is_news:
            change.event_id = event.pk
            change.pk = _insert(cursor, connection, change)
        if before_commit is not None and event.next_run_at is not None:
            before_commit([event.pk])
    attach(draft, connection, is_new=is_new)
    return True


def _insert(cursor: CursorWrapper, connection: BaseDatabaseWrapper, row: models.Model) -> int:
    cursor.execute(_insert_statement(connection.vendor, type(row)), values_of(row, connection))
    [pk] = cursor.fetchone()
    return int(pk)


def _is_stored_without_id(cursor: CursorWrapper, vendor: str, values: dict[str, Any]) -> bool:
    cursor.execute(stored_without_id(DIALECTS[vendor]), values)
    return cursor.fetchone() is not None


def _is_in_history(cursor: CursorWrapper, vendor: str, message_id: int, status: str) -> bool:
    history = DIALECTS[vendor].quote.format(StatusChange._meta.db_table)
    statement = f"SELECT 1 FROM {history} WHERE message_id = %s AND status = %s"
    cursor.execute(statement, [message_id, status])
    return cursor.fetchone() is not None


@cache
def _upsert(vendor: str) -> str:
    dialect = DIALECTS[vendor]
    stored = dialect.quote.format(Message._meta.db_table)
    statement = upsert(dialect, _insert_values(dialect, Message), stored=stored)
    return f"{statement} RETURNING id, status, previous_status"


@cache
def _insert_statement(vendor: str, model: type[models.Model]) -> str:
    return f"{_insert_values(DIALECTS[vendor], model)} RETURNING id"


def _insert_values(dialect: Dialect, model: type[models.Model]) -> str:
    columns = [field.column for field in columns_of(model)]
    names = ", ".join(map(dialect.quote.format, columns))
    values = ", ".join(placeholder(model, column) for column in columns)
    return f"INSERT INTO {dialect.quote.format(model._meta.db_table)} ({names}) VALUES ({values})"
