"""Limits and level for a session of MariaDB, which keeps them until they are restored."""

from collections.abc import Callable
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.sessions import ask_once

LIMITS = ("innodb_lock_wait_timeout", "lock_wait_timeout")
"""For rows, and for tables: a migration, ``LOCK TABLES``."""


class SessionDefaults(NamedTuple):
    """What holds in a session that we have set nothing in."""

    lock_seconds: int
    """How long it waits for a row or a table, whichever is longer."""
    is_logged_by_statement: bool


def limit_session(
    connection: BaseDatabaseWrapper, lock_seconds: float, _budget_seconds: float
) -> Callable[[], object]:
    """Limit lock waits unless the session does, and let its next transaction read the committed."""
    defaults = _defaults_of(connection)
    is_limited = defaults.lock_seconds <= lock_seconds
    if not is_limited:
        keep = [f"@cellcast_{name} = @@{name}" for name in LIMITS]
        limit = [f"{name} = LEAST(@@{name}, {lock_seconds})" for name in LIMITS]
        connection.cursor().execute(f"SET {', '.join([*keep, *limit])}")
    if getattr(connection, "isolation_level", None) != "read committed":
        # For one transaction; the lowest at which InnoDB writes.
        level = "REPEATABLE READ" if defaults.is_logged_by_statement else "READ COMMITTED"
        connection.cursor().execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    if is_limited:
        return lambda: None
    restore = [f"{name} = @cellcast_{name}" for name in LIMITS]
    return lambda: connection.cursor().execute(f"SET {', '.join(restore)}")


def _defaults_of(connection: BaseDatabaseWrapper) -> SessionDefaults:
    """Return the session's own limits and what decides its level."""
    seconds, is_logged_by_statement = ask_once(
        connection,
        "SELECT GREATEST(@@innodb_lock_wait_timeout, @@lock_wait_timeout), "
        "@@log_bin AND @@binlog_format = 'STATEMENT'",
    )
    return SessionDefaults(seconds, bool(is_logged_by_statement))
