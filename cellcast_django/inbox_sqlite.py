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
    PARAMETERS,
    Written,
    insert_change,
    insert_event,
    upsert,
)


def one_statement(connection: BaseDatabaseWrapper, values: tuple[Any, ...]) -> Written:
    """Write with one statement; a second one reads what became of it."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(_INSERT, values)
        except OperationalError as error:
            if "cellcast_webhook" not in str(error):
                raise
            for statement in _temporary_objects():  # the connection is new
                cursor.execute(statement)
            cursor.execute(_INSERT, values)
        cursor.execute("SELECT * FROM cellcast_written")
        return Written(*cursor.fetchone())


_INSERT = f"INSERT INTO cellcast_webhook VALUES ({', '.join(['%s'] * len(PARAMETERS))})"


@cache
def _temporary_objects() -> list[str]:
    return [
        f"CREATE TEMP TABLE IF NOT EXISTS cellcast_written ({', '.join(Written._fields)})",
        f"CREATE TEMP VIEW cellcast_webhook AS SELECT {', '.join(f'0 AS {n}' for n in PARAMETERS)}",
        _trigger(),
    ]


def _trigger() -> str:
    """Return the trigger. ``last_insert_rowid`` and ``changes`` are those of the line before."""
    is_news = (
        f"NOT EXISTS (SELECT 1 FROM {HISTORY} WHERE message_id = message.id AND status = NEW.status)"
    )
    message = f"{MESSAGE} AS message WHERE message.key = NEW.key"
    return f"""
CREATE TEMP TRIGGER cellcast_store INSTEAD OF INSERT ON cellcast_webhook BEGIN
    {upsert(_new)};
    {insert_event(_new, source=message, is_news=is_news)};
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
