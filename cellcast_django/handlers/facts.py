"""The facts of an event, and the handlers that are called for them."""

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

OPT_OUT_SUFFIX = " (opt_out_received)"
"""Ends the handlers' names for a reply's second fact: they may be the same as for its first."""


class Fact(NamedTuple):
    """One signal with its arguments."""

    signal: FactSignal
    sender: type[models.Model]
    arguments: dict[str, Any]
    suffix: str = ""

    def handlers(self) -> list["BoundHandler"]:
        """Return the handlers connected for the fact, in the order in which they connected."""
        return [
            BoundHandler(handler.name + self.suffix, handler, self)
            for handler in self.signal.handlers(self.sender)
        ]


class BoundHandler(NamedTuple):
    """A handler connected for a fact, and the name under which its outcome is saved."""

    name: str
    handler: Handler
    fact: Fact

    @property
    def is_exactly_once(self) -> bool:
        """Whether the handler is marked by ``exactly_once``."""
        return self.handler.is_exactly_once

    def call(self) -> None:
        """Call the handler, and raise whatever it raises."""
        fact = self.fact
        self.handler.call(signal=fact.signal, sender=fact.sender, **fact.arguments)


def facts_of(event: WebhookEvent) -> list[Fact]:
    """Return the facts of an event, in the order in which their handlers are called.

    A reply that is a stop word has two. A duplicate or invalid event has none, nor has one whose
    message or opt-out has been deleted since.
    """
    return [fact for fact in (_message_fact(event), _opt_out_fact(event)) if fact is not None]


def _message_fact(event: WebhookEvent) -> Fact | None:
    message = event.message
    if message is None:
        return None
    try:
        change = event.status_change
    except ObjectDoesNotExist:
        return None
    if message.direction == Direction.INBOUND and not change.previous_status:
        return Fact(message_received, Message, {"message": message, "event": event})
    change.message = message  # the same object, even if both were read from the database
    arguments = {"message": message, "status_change": change, "event": event}
    return Fact(status_changed, Message, arguments)


def _opt_out_fact(event: WebhookEvent) -> Fact | None:
    if event.kind not in (WebhookEvent.Kind.REPLY, WebhookEvent.Kind.OPT_OUT):
        return None
    try:
        opt_out = event.opt_out_change.opt_out
    except ObjectDoesNotExist:
        return None
    suffix = OPT_OUT_SUFFIX if event.kind == WebhookEvent.Kind.REPLY else ""
    arguments = {"contact": opt_out.contact, "opt_out": opt_out, "event": event}
    return Fact(opt_out_received, WebhookEvent, arguments, suffix)


def handlers_of(event: WebhookEvent) -> list[BoundHandler]:
    """Return the handlers connected for the event's facts."""
    return [handler for fact in facts_of(event) for handler in fact.handlers()]


def handlers_to_replay(event: WebhookEvent) -> list[BoundHandler]:
    """Return all handlers that may be called for the event again, finished or not.

    None for an event emptied of personal data: an opt-out without a number would be about somebody
    else. A duplicate or invalid event has no facts.
    """
    return handlers_of(event) if event.body else []


def has_handlers(event: WebhookEvent) -> bool:
    """Whether a handler is connected for one of the event's facts."""
    return bool(handlers_of(event))
