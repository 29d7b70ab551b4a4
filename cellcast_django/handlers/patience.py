"""Patience with a handler that fails for one event after another, and slowly.

While the system it calls is down, ten thousand events may be due for it, each of which costs a
time-out. So that other handlers' events need not wait for all of these, a run stops calling it once
its failures have cost half a minute. What is due for it stays due, and loses no attempt.
"""

from collections.abc import Sequence

from cellcast_django.handlers.calls import Failure
from cellcast_django.handlers.facts import BoundHandler

MAX_SECONDS = 30
MIN_FAILURES = 3
"""One slow call says little about the next."""


class Patience:
    """The time each handler has spent failing in this run, since it last finished with an event."""

    def __init__(self) -> None:
        self._calls: dict[str, list[float]] = {}

    def worth_calling(self, handlers: Sequence[BoundHandler]) -> list[BoundHandler]:
        """Return the handlers without those that have used up our patience."""
        return [handler for handler in handlers if not self._is_lost_with(handler.name)]

    def _is_lost_with(self, name: str) -> bool:
        calls = self._calls.get(name, ())
        return len(calls) >= MIN_FAILURES and sum(calls) > MAX_SECONDS

    def note(self, name: str, failure: Failure | None, seconds: float) -> None:
        """Record how a call ended, and how long it took."""
        if failure is None:
            self._calls.pop(name, None)
        else:
            self._calls.setdefault(name, []).append(seconds)
