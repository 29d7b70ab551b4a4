"""SQLite's one write lock, retried at shorter intervals than SQLite's own.

A writer that finds the lock taken sleeps for one millisecond, then two, five, ten …, although our
statements hold it for a fifth of one. That costs two web workers with a handler an eighth of their
rate.
"""

import sqlite3
import time
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from cellcast_django.database.transactions import BUDGET_SECONDS

RETRY_SECONDS = 0.0003
RETRIES = 10
"""Retries at our own pace before falling back to the connection's timeout."""


def execute(
    connection: BaseDatabaseWrapper, statement: str, values: dict[str, Any]
) -> CursorWrapper:
    """Execute a statement with ``%(name)s`` placeholders, and return the cursor.

    Raises ``OperationalError`` if the lock is not free within the connection's timeout, or within
    ``BUDGET_SECONDS`` if that is shorter.
    """
    cursor = connection.cursor()
    sqlite = connection.connection
    [timeout] = sqlite.execute("PRAGMA busy_timeout").fetchone()
    sqlite.execute("PRAGMA busy_timeout = 0")
    try:
        for _ in range(RETRIES):
            try:
                cursor.execute(statement, values)
            except OperationalError as error:
                if not _is_busy(error):
                    raise
            else:
                return cursor
            time.sleep(RETRY_SECONDS)
        sqlite.execute(f"PRAGMA busy_timeout = {min(timeout, BUDGET_SECONDS * 1_000)}")
        cursor.execute(statement, values)
    finally:
        sqlite.execute(f"PRAGMA busy_timeout = {timeout}")
    return cursor


def _is_busy(error: OperationalError) -> bool:
    # The lowest byte is the primary error code, the others extend it.
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
