"""The common case on MariaDB: one compound statement.

MariaDB accepts a compound statement outside stored programs too: one round trip writes three tables
and returns the result. Its inner statements would commit one by one, so it opens a transaction of
its own unless there is one. On a connection that is kept it is prepared, since reading it takes
MariaDB almost as long as executing it. MySQL has no such statement and takes the portable way.
"""

import re
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database.transactions import LOCK_SECONDS
from cellcast_django.inbox.single_statement.sql import (
    EVENT,
    HISTORY,
    MESSAGE,
    column_names,
    event_values,
    upsert,
)
from cellcast_django.inbox.single_statement.statement import Written
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import MAX_STATUS_LENGTH

NOT_PREPARED = 1243
"""MariaDB's error for a name that the session does not know."""

TOO_MANY_PREPARED = 1461
"""Its error once the server holds ``max_prepared_stmt_count`` statements, which may be none."""


def one_statement(connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Written:
    """Write with one statement, which is its own transaction unless one is open."""
    is_transaction = not connection.in_atomic_block
    try:
        with connection.cursor() as cursor:
            is_kept = connection.settings_dict["CONN_MAX_AGE"] != 0
            execute = _execute_prepared if is_kept else _execute
            execute(cursor, _statement(is_transaction=is_transaction), values)
            return Written(*cursor.fetchone())
    except BaseException:
        if is_transaction:
            connection.close()  # a failed statement may have left its transaction open
        raise


def _execute(cursor: CursorWrapper, statement: str, values: dict[str, Any]) -> None:
    cursor.execute(statement, values)


def _execute_prepared(cursor: CursorWrapper, statement: str, values: dict[str, Any]) -> None:
    prepared = _prepared(statement)
    try:
        cursor.execute(prepared.execute, values)
    except OperationalError as error:
        if _code(error) != NOT_PREPARED:
            raise
    else:
        return
    try:  # a new session, perhaps a proxy's
        cursor.execute(prepared.prepare)
    except OperationalError as error:
        if _code(error) != TOO_MANY_PREPARED:
            raise
        cursor.execute(statement, values)
    else:
        cursor.execute(prepared.execute, values)


def _code(error: OperationalError) -> object:
    return error.args[0] if error.args else None


class Prepared(NamedTuple):
    """A statement as MariaDB prepares it: its values are sent separately."""

    prepare: str
    execute: str


@cache
def _prepared(statement: str) -> Prepared:
    """Return the statement under a name that no other text has, should sessions be shared."""
    name = f"cellcast_{sha256(statement.encode()).hexdigest()[:16]}"
    placeholder = re.compile(r"%\(\w+\)s")
    text = placeholder.sub("?", statement).replace("'", "''")
    values = ", ".join(placeholder.findall(statement))
    return Prepared(f"PREPARE {name} FROM '{text}'", f"EXECUTE {name} USING {values}")


# If it fails, the session is closed, and the changed setting with it.
_BEGIN = f"""SET wait = @@innodb_lock_wait_timeout;
    SET innodb_lock_wait_timeout = LEAST(wait, {LOCK_SECONDS});
    START TRANSACTION;"""
_COMMIT = """COMMIT;
    SET innodb_lock_wait_timeout = wait;"""


@cache
def _statement(*, is_transaction: bool) -> str:
    """Return the statement.

    Its variable is a ROW because plain variables would hide the columns of the same name. Whether
    the status is news is read without a lock: nobody else writes the message's history while this
    statement holds the message's row.
    """
    begin, commit = (_BEGIN, _COMMIT) if is_transaction else ("", "")
    in_history = (
        f"SELECT 1 FROM {HISTORY} WHERE message_id = {MESSAGE}.id AND status = {_given('status')}"
    )
    statement = f"""
BEGIN NOT ATOMIC
    DECLARE message ROW (
        id BIGINT,
        status VARCHAR({MAX_STATUS_LENGTH}) CHARACTER SET utf8mb4,
        previous_status VARCHAR({MAX_STATUS_LENGTH}) CHARACTER SET utf8mb4,
        has_moved BOOL,
        is_new BOOL,
        is_news BOOL
    );
    DECLARE change_id, event_id, wait BIGINT;
    {begin}
    {upsert(_given, on_conflict="ON DUPLICATE KEY UPDATE", offered="VALUES({})".format)};
    SELECT id, status, previous_status, status <> previous_status,
        created_at = {_given("received_at")}, NOT EXISTS ({in_history})
    INTO message FROM {MESSAGE} WHERE "key" = {_given("key")};
    INSERT INTO {EVENT} ({column_names(WebhookEvent)})
    VALUES ({event_values(_given, is_news="message.is_news")});
    SET event_id = LAST_INSERT_ID();
    IF message.is_news THEN
        INSERT INTO {HISTORY}
        (message_id, status, previous_status, applied, reason, recorded_at, event_id)
        VALUES (message.id, {_given("status")}, message.previous_status, message.has_moved,
            {_given("reason")}, {_given("received_at")}, event_id);
        SET change_id = LAST_INSERT_ID();
    END IF;
    {commit}
    SELECT message.id, message.status, message.previous_status, message.is_new, change_id, event_id;
END
"""
    return statement.replace('"', "`").strip()


def _given(name: str) -> str:
    return f"%({name})s"
