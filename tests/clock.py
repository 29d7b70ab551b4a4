"""A clock that a test moves, so that nothing waits for real."""

import time
from collections.abc import Callable
from itertools import count

import pytest

_beginnings = count(time.monotonic() + 1_000_000, 1_000_000)


class Clock:
    """Seconds that pass when something sleeps, or when a test says so.

    Each clock begins later than any other has been, so that nothing in the process remembers it.
    """

    def __init__(self) -> None:
        self.now = float(next(_beginnings))
        self.seconds_per_look = 0.0
        """How much time passes whenever somebody looks at the clock."""
        self.slept: list[float] = []
        self.while_asleep: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        self.now += self.seconds_per_look
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds
        self.while_asleep()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of ``time.monotonic`` and ``time.sleep``."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock
