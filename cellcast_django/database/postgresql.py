"""What holds in a session of PostgreSQL: its own limits, its level, and where it writes."""

from functools import partial
from importlib import import_module
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.sessions import Limits, ask_once


def limit(connection: BaseDatabaseWrapper, lock_seconds: float, _budget_seconds: float) -> Limits:
    """Limit a transaction itself unless its session is limited; begin it at READ COMMITTED.

    The driver does the latter, which takes no statement. No limit inside one statement would do:
    PostgreSQL locks tables when it plans it.
    """
    connection.ensure_connection()
    session = connection.connection
    longest_wait, is_read_committed = 0, False
    if not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        # Behind a pooler the next statement may run in another session.
        longest_wait, is_read_committed = ask_once(
            connection,
            "SELECT extract(epoch FROM current_setting('lock_timeout')::interval)::float8, "
            "current_setting('default_transaction_isolation') = 'read committed'",
        )
    is_limited = 0 < longest_wait <= lock_seconds  # 0 is for ever
    first = "" if is_limited else f"SET LOCAL lock_timeout = '{lock_seconds}s'"
    needs_transaction = not (is_limited and is_read_committed and connection.autocommit)
    level = session.isolation_level
    if level is None and is_read_committed:
        return Limits(first=first, needs_transaction=needs_transaction)
    levels = import_module("django.db.backends.postgresql.psycopg_any").IsolationLevel
    session.isolation_level = levels.READ_COMMITTED
    return Limits(partial(setattr, session, "isolation_level", level), first, needs_transaction)


def state_of(connection: BaseDatabaseWrapper) -> tuple[Any, ...] | None:
    """Return the role and the schema in which the session writes; ``None`` if it is lost.

    Ends its transaction.
    """
    session = connection.connection
    try:
        session.rollback()
        with session.cursor() as cursor:
            cursor.execute("SELECT current_user, current_setting('search_path')")
            found = tuple(cursor.fetchone())
        session.rollback()
    except Exception:  # the driver's own: whatever it is, this session is of no use
        return None
    return found
