"""The fact that an event has to announce, who listens for it, and when it is due."""

from typing import Any, NamedTuple

from django.core.exceptions import ObjectDoesNotExist
from django.db import models

from cellcast_django.models import Direction, Message, WebhookEvent
from cellcast_django.signals import (
    FactSignal,
    Handler,
    message_received,
    opt_out_received,
    status_changed,
)


class Fact(NamedTuple):
    """What an event has to tell the handlers."""

    signal: FactSignal
    sender: type[models.Model]
    arguments: dict[str, Any]


def fact_of(event: WebhookEvent) -> Fact | None:
    """Return what the event has to announce.

    ``None`` for one that told nothing new, and for one whose message has been deleted since.
    """
    if event.kind == WebhookEvent.Kind.OPT_OUT:
        return Fact(opt_out_received, WebhookEvent, {"contact": event.contact, "event": event})
    message = event.message
    if message is None:
        return None
    try:
        change = event.status_change
    except ObjectDoesNotExist:
        return None
    if message.direction == Direction.INBOUND and not change.previous_status:
        return Fact(message_received, Message, {"message": message, "event": event})
    change.message = message  # the same object, also where the two were read from the database
    arguments = {"message": message, "status_change": change, "event": event}
    return Fact(status_changed, Message, arguments)


def is_heard(event: WebhookEvent) -> bool:
    """Whether a handler is connected for what the event tells."""
    return bool(handlers_of(event))


def hearers(event: WebhookEvent) -> list[Handler]:
    """Return all handlers that may be told of the event again, finished or not.

    None for an event that told nothing new, and for one that has been emptied of personal data:
    an opt-out without a number would be about somebody else.
    """
    if event.outcome != WebhookEvent.Outcome.STORED or not event.body:
        return []
    return handlers_of(event)


def handlers_of(event: WebhookEvent) -> list[Handler]:
    """Return the handlers that are connected for what the event tells."""
    fact = fact_of(event)
    return [] if fact is None else fact.signal.handlers(fact.sender)
