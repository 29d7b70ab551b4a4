"""A command that looks for work every few seconds, until SIGTERM."""

import logging
import signal
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from django.db import Error, connections

logger = logging.getLogger("cellcast_django")

STEP_SECONDS = 0.25
"""How long a wait may go on after SIGTERM."""
STEPS_BETWEEN_LOOKS = 12
SECONDS_BETWEEN_HEARTBEATS = 60


class Watch:
    """Repeats until SIGTERM, which is only noted: what is running may finish."""

    def __init__(self) -> None:
        self.is_over = False
        self._heartbeat_at = 0.0
        self._is_without_database = False

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGTERM, self._end)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _end(self, *_signal_and_frame: Any) -> None:
        self.is_over = True

    def looks(self) -> Iterator[None]:
        """Yield once per look, after closing connections that are too old or broken."""
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
            self._heartbeat_at = now + SECONDS_BETWEEN_HEARTBEATS
        return is_time

    def _wait(self) -> None:
        for _ in range(STEPS_BETWEEN_LOOKS):
            if self.is_over:
                return
            time.sleep(STEP_SECONDS)

    def lose_database(self, error: Error) -> None:
        """Note that the database is unavailable: logged once, until it is back."""
        if not self._is_without_database:
            logger.warning(
                "The database is unavailable (%s); trying again.", type(error).__qualname__
            )
        self._is_without_database = True

    def has_database(self) -> None:
        if self._is_without_database:
            logger.warning("The database is available again.")
        self._is_without_database = False
