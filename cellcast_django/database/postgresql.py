"""Limits and level for a session of PostgreSQL, or for one transaction in it."""

from functools import partial
from importlib import import_module

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.sessions import Limits, ask_once


def limit(connection: BaseDatabaseWrapper, lock_seconds: float, _budget_seconds: float) -> Limits:
    """Limit a transaction itself unless its session is limited; begin it at READ COMMITTED.

    The driver does the latter, which takes no statement. No limit inside one statement would do:
    PostgreSQL locks tables when it plans it.
    """
    connection.ensure_connection()
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
    session = connection.connection
    level = session.isolation_level
    if level is None and is_read_committed:
        return Limits(first=first, needs_transaction=not is_limited)
    levels = import_module("django.db.backends.postgresql.psycopg_any").IsolationLevel
    session.isolation_level = levels.READ_COMMITTED
    return Limits(partial(setattr, session, "isolation_level", level), first, True)
