"""The inbox's common case in one statement, as SQLite can do it.

SQLite has no statement that writes three tables, but a trigger may: the values are inserted into a
view of the connection's own, and its trigger does the rest. At last it calls a function of ours
with what became of them. So the database's one lock is never held while Python works. View and
trigger are temporary objects, which stand in no schema and go with their connection.
"""

from functools import cache
from threading import local
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database import lock_waits
from cellcast_django.inbox.single_statement.statement import (
    EVENT,
    HISTORY,
    MESSAGE,
    Written,
    insert_change,
    insert_event,
    upsert,
)


def one_statement(connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Written:
    """Write with one statement."""
    names = tuple(values)
    _told.row = ()  # never that of the webhook before
    try:
        lock_waits.execute(connection, _insert(names), values)
    except OperationalError as error:
        if "cellcast_webhook" not in str(error):
            raise
        # The connection is new.
        connection.connection.create_function("cellcast_tell", len(Written._fields), _tell)
        with connection.cursor() as cursor:
            cursor.execute(_view(names))
            cursor.execute(_trigger())
        lock_waits.execute(connection, _insert(names), values)
    return Written(*_told.row)


_told = local()


def _tell(*row: Any) -> None:
    _told.row = row


@cache
def _insert(names: tuple[str, ...]) -> str:
    return f"INSERT INTO cellcast_webhook VALUES ({', '.join(f'%({name})s' for name in names)})"


def _view(names: tuple[str, ...]) -> str:
    columns = ", ".join(f"0 AS {name}" for name in names)
    return f"CREATE TEMP VIEW IF NOT EXISTS cellcast_webhook AS SELECT {columns}"


def _trigger() -> str:
    """Return the trigger. ``last_insert_rowid`` and ``changes`` are those of the line before."""
    heard_before = f"SELECT 1 FROM {HISTORY} WHERE message_id = message.id AND status = NEW.status"
    message = f"{MESSAGE} AS message WHERE message.key = NEW.key"
    told = (
        "SELECT id AS message_id, status, previous_status, last_insert_rowid() AS event_id "
        f"FROM {message}"
    )
    return f"""
CREATE TEMP TRIGGER IF NOT EXISTS cellcast_store INSTEAD OF INSERT ON cellcast_webhook BEGIN
    {upsert(_new)};
    {insert_event(_new, source=message, is_news=f"NOT EXISTS ({heard_before})")};
    {insert_change(_new, source=f"({told})")};
    SELECT cellcast_tell(
        id, status, previous_status, created_at = NEW.received_at,
        CASE WHEN changes() = 1 THEN last_insert_rowid() END,
        (SELECT max(id) FROM {EVENT})
    ) FROM {message};
END
"""


def _new(name: str) -> str:
    return f"NEW.{name}"
