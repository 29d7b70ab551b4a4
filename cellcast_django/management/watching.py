"""A command that looks for work every few seconds, until SIGTERM."""

import logging
import signal
import time
from collections.abc import Iterator
from typing import Any, Self

from django.db import Error, connections

logger = logging.getLogger("cellcast_django")

NAP_SECONDS = 0.25  # how long a wait may go on after SIGTERM
NAPS_BETWEEN_ROUNDS = 12
HEARTBEAT_SECONDS = 60


class Watch:
    """Repeats until SIGTERM; whatever is running then may finish."""

    def __init__(self) -> None:
        self.is_over = False
        self._heartbeat_at = 0.0
        self._is_without_database = False

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGTERM, self._end)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _end(self, *_signal_and_frame: Any) -> None:
        self.is_over = True

    def rounds(self) -> Iterator[None]:
        """Yield every few seconds, after closing connections that are too old or broken."""
        while not self.is_over:
            for connection in connections.all(initialized_only=True):
                if not connection.in_atomic_block:  # as it is in a test
                    connection.close_if_unusable_or_obsolete()
            yield
            self._wait()

    def is_time_for_heartbeat(self) -> bool:
        """Whether a minute has passed since this was last true."""
        now = time.monotonic()
        is_time = now >= self._heartbeat_at
        if is_time:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
        return is_time

    def _wait(self) -> None:
        for _ in range(NAPS_BETWEEN_ROUNDS):
            if self.is_over:
                return
            time.sleep(NAP_SECONDS)

    def note_database_lost(self, error: Error) -> None:
        """Log that the database is unavailable: once, until it is back."""
        if not self._is_without_database:
            logger.warning(
                "The database is unavailable (%s); trying again.", type(error).__qualname__
            )
        self._is_without_database = True

    def note_database_back(self) -> None:
        if self._is_without_database:
            logger.warning("The database is available again.")
        self._is_without_database = False
