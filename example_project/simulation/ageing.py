"""Moves what has just arrived back to its time in the plan.

Nothing can be received in the past over HTTP, so all rows are only seconds old. The admin shows two
days, and some of the month before, because the demo rewrites the times in its own database. No host
project does this.
"""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, Manager

from cellcast_django.models import Message, OptOut, OptOutChange, StatusChange, WebhookEvent

Times = dict[datetime, datetime]


@transaction.atomic
def age(
    *,
    sent_at: dict[int, datetime],
    reported_at: dict[int, datetime],
    opted_in_at: dict[int, datetime],
) -> None:
    """Give the rows the plan's times, by their ids.

    Messages are ``sent_at``, events ``reported_at``, and ends of opt-outs ``opted_in_at``.
    """
    moved = _age_events(reported_at)
    _age_messages(sent_at, moved)
    for pk, change in OptOutChange.objects.in_bulk(opted_in_at).items():
        moved[change.at] = opted_in_at[pk]
    _move(OptOutChange.objects, moved, "at")
    _move(OptOut.objects, moved, "since")


def _age_events(reported_at: dict[int, datetime]) -> Times:
    """Move events and their status changes; return the new time of each old one."""
    moved = {}
    events = WebhookEvent.objects.in_bulk(reported_at)
    for pk, event in events.items():
        shift = reported_at[pk] - event.received_at
        moved[event.received_at] = reported_at[pk]
        event.received_at += shift
        for name in ("started_at", "ended_at"):
            event.calls.update(**{name: F(name) + shift})
    WebhookEvent.objects.bulk_update(events.values(), ["received_at"])

    changes = StatusChange.objects.in_bulk(list(reported_at), field_name="event_id")
    for event_id, change in changes.items():
        moved[change.recorded_at] = reported_at[event_id]
        change.recorded_at = reported_at[event_id]
    StatusChange.objects.bulk_update(changes.values(), ["recorded_at"])
    return moved


def _age_messages(sent_at: dict[int, datetime], moved: Times) -> None:
    messages = list(Message.objects.prefetch_related("events"))
    for message in messages:
        received = [event.received_at for event in message.events.all()]
        message.created_at = min([sent_at.get(message.pk, message.created_at), *received])
        if message.handled_at is not None:  # by the project's handler, as soon as it came
            message.handled_at = message.created_at
    Message.objects.bulk_update(messages, ["created_at", "handled_at"])
    _move(Message.objects, moved, "status_changed_at")


def _move(objects: Manager[Any], moved: Times, *fields: str) -> None:
    rows = list(objects.all())
    for row in rows:
        for field in fields:
            time = getattr(row, field)
            setattr(row, field, moved.get(time, time))
    objects.bulk_update(rows, fields)
