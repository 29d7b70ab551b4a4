"""Try again what the database calls off: a deadlock, a lost connection, a session gone bad."""

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
"""All tries to store one webhook end within this time: a web server kills its worker later."""

LOCK_SECONDS = 2
"""How long a try waits for a row that somebody else holds; after so long no further one is begun. A
row that is busy must not hold the threads that other messages need."""

RETRY_PAUSES = (0.05, 0.2, 0.8)
"""Seconds before each further try."""

CALLED_OFF = (
    OperationalError,  # a deadlock, a lock that is not had in time, a server that is away
    InterfaceError,  # a connection that is closed
    # A session that will never do: read-only after a failover (PostgreSQL's 25006), aborted by
    # somebody else (25P02), or ended (25P03).
    InternalError,
    # A statement that was prepared before a migration (0A000)
    NotSupportedError,
)

T = TypeVar("T")


def with_retries(write: Callable[[str], T], *, using: str, for_seconds: float = LOCK_SECONDS) -> T:
    """Call ``write`` with the alias of the database, again when the database calls it off.

    ``write`` must be one transaction or one statement. Each further try has a new session, and none
    is begun after ``for_seconds``. Raises the database's last error.
    """
    connection = connections[using]
    started, pauses = time.monotonic(), iter(RETRY_PAUSES)
    while True:
        try:
            return write(using)
        except CALLED_OFF:
            if connection.in_atomic_block:  # a test's own transaction, which cannot go on
                raise
            sessions.discard(connection)
            pause = next(pauses, None)
            if pause is None or time.monotonic() + pause > started + for_seconds:
                raise
            time.sleep(pause)
