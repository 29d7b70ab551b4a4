"""Limits and level for a session of MariaDB, which keeps them until they are restored."""

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.sessions import Limits, ask_once


def limit(connection: BaseDatabaseWrapper, lock_seconds: float, _budget_seconds: float) -> Limits:
    """Limit lock waits unless the session does, and let its next transaction read the committed."""
    names = "innodb_lock_wait_timeout", "lock_wait_timeout"  # for rows, and for tables
    longest_wait, is_logged_by_statement = ask_once(
        connection,
        "SELECT GREATEST(@@innodb_lock_wait_timeout, @@lock_wait_timeout), "
        "@@log_bin AND @@binlog_format = 'STATEMENT'",
    )
    limits = Limits()
    if longest_wait > lock_seconds:
        keep = [f"@cellcast_{name} = @@{name}" for name in names]
        # It knows whole seconds only.
        limit = [f"{name} = LEAST(@@{name}, {int(lock_seconds)})" for name in names]
        restore = [f"{name} = @cellcast_{name}" for name in names]
        connection.cursor().execute(f"SET {', '.join([*keep, *limit])}")
        limits = Limits(lambda: connection.cursor().execute(f"SET {', '.join(restore)}"))
    if getattr(connection, "isolation_level", None) != "read committed":
        # For one transaction; the lowest at which InnoDB writes.
        level = "REPEATABLE READ" if is_logged_by_statement else "READ COMMITTED"
        connection.cursor().execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    return limits
