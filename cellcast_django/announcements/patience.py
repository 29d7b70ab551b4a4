"""Patience with a handler that fails for one event after the other, and takes its time for each.

When the system that it calls is down, ten thousand events may be due for it, each of which costs a
time-out. So that the events of other handlers do not wait for all of them, it is called no more in
this run once it has cost half a minute: what is due for it stays due, and loses no attempt.
"""

from collections.abc import Sequence

from cellcast_django.announcements.calls import Failure
from cellcast_django.announcements.facts import Callee

MAX_SECONDS = 30
MIN_FAILURES = 3
"""A single call that takes long says little about the next one."""


class Patience:
    """What each handler has cost in this run since it last finished with an event."""

    def __init__(self) -> None:
        self._calls: dict[str, list[float]] = {}

    def with_others(self, callees: Sequence[Callee]) -> list[Callee]:
        """Return the handlers without those that patience is lost with."""
        return [callee for callee in callees if not self._is_lost_with(callee.name)]

    def _is_lost_with(self, name: str) -> bool:
        calls = self._calls.get(name, ())
        return len(calls) >= MIN_FAILURES and sum(calls) > MAX_SECONDS

    def note(self, name: str, failure: Failure | None, seconds: float) -> None:
        """Note how a call has ended, and how long it took."""
        if failure is None:
            self._calls.pop(name, None)
        else:
            self._calls.setdefault(name, []).append(seconds)
