"""Limits and level for a session of MariaDB, which keeps them until they are restored."""

from collections.abc import Callable
from functools import partial

from django.db.backends.base.base import BaseDatabaseWrapper

LIMITS = ("innodb_lock_wait_timeout", "lock_wait_timeout")
"""For rows, and for tables: a migration, ``LOCK TABLES``."""


def limit_session(
    connection: BaseDatabaseWrapper, lock_seconds: float, _budget_seconds: float
) -> Callable[[], object]:
    """Limit lock waits, and let the next transaction read what is committed."""
    keep = [f"@cellcast_{name} = @@{name}" for name in LIMITS]
    limit = [f"{name} = LEAST(@@{name}, {lock_seconds})" for name in LIMITS]
    restore = [f"{name} = @cellcast_{name}" for name in LIMITS]
    _execute(connection, f"SET {', '.join([*keep, *limit])}")
    if getattr(connection, "isolation_level", None) != "read committed":
        _lower_level(connection)
    return partial(_execute, connection, f"SET {', '.join(restore)}")


def _lower_level(connection: BaseDatabaseWrapper) -> None:
    """Lower it for one transaction, to the lowest at which InnoDB writes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@log_bin AND @@binlog_format = 'STATEMENT'")
        [is_by_statement] = cursor.fetchone()
        level = "REPEATABLE READ" if is_by_statement else "READ COMMITTED"
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")


def _execute(connection: BaseDatabaseWrapper, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
