"""Retry what the database aborts: deadlocks, lost connections, sessions gone bad."""

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import (
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    connections,
)

from cellcast_django.database import sessions

BUDGET_SECONDS = 5
"""All tries to store one webhook end within this time, before a web server kills its worker."""

LOCK_SECONDS = 2
"""How long one try waits for a locked row, and how long new tries are begun. A busy row must not
occupy the threads that other messages need."""

RETRY_PAUSES = (0.05, 0.2, 0.8)
"""Seconds before each retry."""

RETRIED_ERRORS = (
    OperationalError,  # a deadlock, a lock timeout, a server that is down
    InterfaceError,  # a closed connection
    # A session that cannot be used: read-only after a failover (PostgreSQL's 25006), aborted by
    # somebody else (25P02), or ended (25P03).
    InternalError,
    # A statement prepared before a migration (0A000).
    NotSupportedError,
)

T = TypeVar("T")


def with_retries(write: Callable[[str], T], *, using: str, for_seconds: float = LOCK_SECONDS) -> T:
    """Call ``write`` with the alias of the database, and again when the database aborts it.

    ``write`` must be one transaction or one statement. Each retry has a new session, and none
    begins after ``for_seconds``. Raises the database's last error.
    """
    connection = connections[using]
    started, pauses = time.monotonic(), iter(RETRY_PAUSES)
    while True:
        try:
            return write(using)
        except RETRIED_ERRORS:
            if connection.in_atomic_block:  # a test's transaction, which cannot continue
                raise
            sessions.discard(connection)
            pause = next(pauses, None)
            if pause is None or time.monotonic() + pause > started + for_seconds:
                raise
            time.sleep(pause)
