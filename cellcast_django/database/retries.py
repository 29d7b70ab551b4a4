"""Try again what the database calls off: a deadlock, a lock wait, a lost connection."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections

RETRY_PAUSES = (0.05, 0.2, 0.8)
"""Seconds before the transaction is tried again when the database calls it off."""

T = TypeVar("T")


def with_retries(write: Callable[[str], T], *, using: str) -> T:
    """Call ``write`` with the alias of the database, again when the database calls it off.

    ``write`` must be one transaction or one statement. Raises the database's last error.
    """
    connection = connections[using]
    for pause in RETRY_PAUSES:
        try:
            return write(using)
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:  # a test's own transaction, which cannot go on
                raise
            with suppress(DatabaseError):
                connection.close()
            time.sleep(pause)
    return write(using)
