"""The inbox's common case in one statement, as SQLite can do it.

SQLite has no statement that writes three tables, but a trigger may: the values are inserted into a
view of the connection's own, and its trigger does the rest. So the database's one lock is never
held while Python works. View, trigger and what it hands back are temporary objects, which stand in
no schema and go with their connection.
"""

from functools import cache
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.inbox_sql import (
    HISTORY,
    MESSAGE,
    Written,
    insert_change,
    insert_event,
    upsert,
)


def one_statement(connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Written:
    """Write with one statement; a second one reads what became of it."""
    with connection.cursor() as cursor:
        names = tuple(values)
        try:
            cursor.execute(_insert(names), values)
        except OperationalError as error:
            if "cellcast_webhook" not in str(error):
                raise
            for statement in _temporary_objects(names):  # the connection is new
                cursor.execute(statement)
            cursor.execute(_insert(names), values)
        cursor.execute("SELECT * FROM cellcast_written")
        return Written(*cursor.fetchone())


@cache
def _insert(names: tuple[str, ...]) -> str:
    return f"INSERT INTO cellcast_webhook VALUES ({', '.join(f'%({name})s' for name in names)})"


def _temporary_objects(names: tuple[str, ...]) -> list[str]:
    columns = ", ".join(f"0 AS {name}" for name in names)
    return [
        f"CREATE TEMP TABLE IF NOT EXISTS cellcast_written ({', '.join(Written._fields)})",
        f"CREATE TEMP VIEW IF NOT EXISTS cellcast_webhook AS SELECT {columns}",
        _trigger(),
    ]


def _trigger() -> str:
    """Return the trigger. ``last_insert_rowid`` and ``changes`` are those of the line before."""
    heard_before = f"SELECT 1 FROM {HISTORY} WHERE message_id = message.id AND status = NEW.status"
    message = f"{MESSAGE} AS message WHERE message.key = NEW.key"
    return f"""
CREATE TEMP TRIGGER IF NOT EXISTS cellcast_store INSTEAD OF INSERT ON cellcast_webhook BEGIN
    {upsert(_new)};
    {insert_event(_new, source=message, is_news=f"NOT EXISTS ({heard_before})")};
    DELETE FROM cellcast_written;
    INSERT INTO cellcast_written
    SELECT id, status, previous_status, created_at = NEW.received_at, NULL, last_insert_rowid()
    FROM {message};
    {insert_change(_new, source="cellcast_written")};
    UPDATE cellcast_written SET change_id = last_insert_rowid() WHERE changes() = 1;
END
"""


def _new(name: str) -> str:
    return f"NEW.{name}"
