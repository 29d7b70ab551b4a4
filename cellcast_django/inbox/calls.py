"""The calls that stored events ask for: a row for each handler that is connected for a fact."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.backends.utils import CursorWrapper

from cellcast_django.conf import conf
from cellcast_django.connected import calls_asked_for
from cellcast_django.database import rows
from cellcast_django.models import HandlerCall, WebhookEvent
from cellcast_django.signals import FactSignal

Told = tuple[WebhookEvent, Sequence[FactSignal]]
"""An event that was stored, and the signals of its facts in the order in which they are told."""


def insert_calls(
    cursor: CursorWrapper, told: Sequence[Told], now: datetime, *, is_read_later: bool = False
) -> list[HandlerCall]:
    """Insert the calls of events that have just been inserted, in the order they are made in.

    Inline, they belong to this process until a lease ends, and the first one is running, which
    saves a write. On a queue, and where a deferred event was read, nobody has had them yet.
    """
    is_inline = conf.run_handlers == "inline" and not is_read_later
    due_at = now + timedelta(seconds=conf.handler_lease) if is_inline else now
    names = {signal: calls_asked_for(signal) for _, signals in told for signal in signals}
    values: list[dict[str, Any]] = [
        {
            "event_id": event.pk,
            "signal": signal.name,
            "handler": handler,
            "contact": event.contact if is_in_order else "",
            "state": HandlerCall.State.WAITING.value,
            "version": int(is_inline),
            "attempts": 0,
            "next_attempt_at": due_at,
            "started_at": None,
        }
        for event, signals in told
        for signal in signals
        for handler, is_in_order in names[signal]
    ]
    if not values:
        return []
    if is_inline and not values[0]["contact"] and conf.handler_max_attempts > 1:
        values[0].update(state=HandlerCall.State.RUNNING.value, attempts=1, started_at=now)
    events = {event.pk: event for event, _ in told}
    calls = []
    for row, pk in zip(values, rows.insert_all(cursor, HandlerCall, values), strict=True):
        calls.append(rows.stored(cursor.db, HandlerCall, {**row, "id": pk}))
        calls[-1].event = events[calls[-1].event_id]
    return calls
