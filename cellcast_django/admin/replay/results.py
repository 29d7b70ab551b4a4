"""What a replay did, in sentences; what ran before it does not count."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from cellcast_django.admin.display import sentences
from cellcast_django.admin.display.texts import beginning, duration
from cellcast_django.models import WebhookEvent

State = WebhookEvent.State

MAX_ERROR = 200  # characters of a handler's error in the sentence; the event's page has all of it
MAX_ERRORS = 5  # handlers whose errors are in the sentence


@dataclass
class Result:
    """The events after a replay."""

    started_at: datetime
    keys: set[int] = field(default_factory=set)
    states: Counter[WebhookEvent.State | None] = field(default_factory=Counter)
    invalid: list[str] = field(default_factory=list)
    """Why events are still unreadable."""
    next_retry_at: datetime | None = None
    ran: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    """The last error of each handler."""

    def add(self, event: WebhookEvent) -> None:
        """Count an event after its attempt."""
        self.keys.add(event.pk)
        if event.outcome == WebhookEvent.Outcome.INVALID:
            self.invalid.append(event.error)
        self.states[event.state] += 1
        due_at = event.next_run_at
        if due_at and (self.next_retry_at is None or due_at < self.next_retry_at):
            self.next_retry_at = due_at
        for name, outcome in event.handler_results.items():
            at = parse_datetime(outcome["at"])
            if at is None or at < self.started_at:
                continue  # it ran before, not now
            self.ran.add(name)
            if outcome["error"]:
                self.errors[name] = outcome["error"]

    def sentences(self, understood: Any) -> Iterator[tuple[int, str]]:
        count = len(self.keys) - len(self.invalid)
        if understood is not None and count:
            yield messages.SUCCESS, understood % {"count": count}
        if invalid := len(self.invalid):
            values = {"count": invalid, "reason": self.invalid[0]}
            yield messages.WARNING, sentences.STILL_INVALID % values
        if done := self.states[State.DONE]:
            yield messages.SUCCESS, sentences.DONE % {"count": done}
        if retrying := self.states[State.PENDING]:
            yield messages.WARNING, self._retry(retrying)
        if failed := self.states[State.FAILED]:
            yield messages.ERROR, sentences.FAILED % {"count": failed}
        if self.errors:
            yield messages.ERROR, self._failures()

    def _retry(self, count: int) -> str:
        pause = (self.next_retry_at or self.started_at) - timezone.now()
        if pause <= timedelta():
            return str(sentences.QUEUED % {"count": count})
        return str(sentences.RETRYING % {"count": count, "pause": duration(pause)})

    def _failures(self) -> str:
        named = sorted(self.errors.items())[:MAX_ERRORS]
        errors = "; ".join(f"{name} — {beginning(each, MAX_ERROR)}" for name, each in named)
        values = {"count": len(self.errors), "all": len(self.ran), "errors": errors}
        return str(sentences.FAILED_AGAIN % values)
