"""What holds in a session of PostgreSQL: its own limits, its level, and where it writes."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.database.sessions import ask_once


class SessionDefaults(NamedTuple):
    """What holds for a statement that is its own transaction."""

    lock_seconds: float
    """How long it waits for a lock; 0 is for ever."""
    is_read_committed: bool


UNKNOWN_DEFAULTS = SessionDefaults(0, is_read_committed=False)


def runs_alone(connection: BaseDatabaseWrapper, lock_seconds: float) -> bool:
    """Whether a statement of this session waits no longer, and reads what is committed.

    No limit inside the statement would do: PostgreSQL locks tables when it plans it.
    """
    defaults = _defaults_of(connection)
    is_limited = 0 < defaults.lock_seconds <= lock_seconds
    return is_limited and defaults.is_read_committed and connection.get_autocommit()


def limit_transaction(connection: BaseDatabaseWrapper, lock_seconds: float) -> None:
    """Limit lock waits until the transaction ends, unless the session does."""
    if not 0 < _defaults_of(connection).lock_seconds <= lock_seconds:
        connection.cursor().execute(f"SET LOCAL lock_timeout = '{lock_seconds}s'")


def limit_session(
    connection: BaseDatabaseWrapper, _lock_seconds: float, _budget_seconds: float
) -> Callable[[], object]:
    """Let the driver begin transactions at READ COMMITTED, which takes no statement."""
    defaults = _defaults_of(connection)
    connection.ensure_connection()
    session = connection.connection
    level = session.isolation_level
    if level is None and defaults.is_read_committed:
        return lambda: None
    levels = import_module("django.db.backends.postgresql.psycopg_any").IsolationLevel
    session.isolation_level = levels.READ_COMMITTED
    return partial(setattr, session, "isolation_level", level)


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


def _defaults_of(connection: BaseDatabaseWrapper) -> SessionDefaults:
    """Return the session's own limit and level."""
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return UNKNOWN_DEFAULTS  # a pooler: the next statement may run in another session
    return SessionDefaults(
        *ask_once(
            connection,
            "SELECT extract(epoch FROM current_setting('lock_timeout')::interval)::float8, "
            "current_setting('default_transaction_isolation') = 'read committed'",
        )
    )
