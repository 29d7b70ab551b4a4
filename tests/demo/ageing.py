"""Moves what has just come in back to the time at which it happened in the plan.

Over HTTP nothing can be received in the past: all rows are of the last few seconds. The admin shows
two days only because the demo rewrites the times in its own database. No host project does this.
"""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Manager

from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from example_project.appointments.models import Appointment

Times = dict[datetime, datetime]


@transaction.atomic
def age(*, sent_at: dict[int, datetime], told_at: dict[int, datetime]) -> None:
    """Give messages (``sent_at``) and events (``told_at``) the times of the plan, by their ids."""
    moved = _age_events(told_at)
    _age_messages(sent_at, moved)
    _move(OptOut.objects, moved, "since")
    _move(Appointment.objects, moved, "answered_at", "reminder_delivered_at")
    for message in Message.objects.in_bulk(sent_at).values():
        Appointment.objects.filter(reminder_id=message.cellcast_id).update(
            reminded_at=sent_at[message.pk]
        )


def _age_events(told_at: dict[int, datetime]) -> Times:
    """Move events and the status changes of which they told; return which time became which."""
    moved = {}
    events = WebhookEvent.objects.in_bulk(told_at)
    for pk, event in events.items():
        shift = told_at[pk] - event.received_at
        moved[event.received_at] = told_at[pk]
        event.received_at += shift
        if event.announced_at is not None:
            event.announced_at += shift
        for outcome in event.announcements.values():
            outcome["at"] = (datetime.fromisoformat(outcome["at"]) + shift).isoformat()
    fields = ["received_at", "announced_at", "announcements"]
    WebhookEvent.objects.bulk_update(events.values(), fields)

    changes = StatusChange.objects.in_bulk(list(told_at), field_name="event_id")
    for event_id, change in changes.items():
        moved[change.recorded_at] = told_at[event_id]
        change.recorded_at = told_at[event_id]
    StatusChange.objects.bulk_update(changes.values(), ["recorded_at"])
    return moved


def _age_messages(sent_at: dict[int, datetime], moved: Times) -> None:
    messages = list(Message.objects.prefetch_related("events"))
    for message in messages:
        heard_of = [event.received_at for event in message.events.all()]
        message.created_at = min([sent_at.get(message.pk, message.created_at), *heard_of])
    Message.objects.bulk_update(messages, ["created_at"])
    _move(Message.objects, moved, "status_changed_at")


def _move(objects: Manager[Any], moved: Times, *fields: str) -> None:
    rows = list(objects.all())
    for row in rows:
        for field in fields:
            time = getattr(row, field)
            setattr(row, field, moved.get(time, time))
    objects.bulk_update(rows, fields)
