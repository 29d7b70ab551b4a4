"""SQLite's one lock, waited for in shorter steps than SQLite's own.

Who finds it taken is put to sleep for a millisecond, then for two, five, ten …, while one of our
statements holds it for a fifth of one. That costs two web workers with a handler an eighth of their
rate.
"""

import sqlite3
import time
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database.retries import BUDGET_SECONDS

STEP_SECONDS = 0.0003
STEPS = 10
"""So often our statement looks again by itself; then it waits as the settings say."""


def execute(
    connection: BaseDatabaseWrapper, statement: str, values: dict[str, Any]
) -> CursorWrapper:
    """Execute a statement with ``%(name)s`` for each of the values, and return the cursor.

    Raises ``OperationalError`` when the lock is not had within the connection's time-out, or within
    ``BUDGET_SECONDS`` where that is longer.
    """
    cursor = connection.cursor()
    sqlite = connection.connection
    [timeout] = sqlite.execute("PRAGMA busy_timeout").fetchone()
    sqlite.execute("PRAGMA busy_timeout = 0")
    try:
        for _ in range(STEPS):
            try:
                cursor.execute(statement, values)
            except OperationalError as error:
                if not _is_busy(error):
                    raise
            else:
                return cursor
            time.sleep(STEP_SECONDS)
        sqlite.execute(f"PRAGMA busy_timeout = {min(timeout, BUDGET_SECONDS * 1_000)}")
        cursor.execute(statement, values)
    finally:
        sqlite.execute(f"PRAGMA busy_timeout = {timeout}")
    return cursor


def _is_busy(error: OperationalError) -> bool:
    # The lowest byte is the error, the others say more about it.
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
