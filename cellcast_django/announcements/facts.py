"""The facts that an event has to announce, and the handlers that are called for them."""

from typing import Any, NamedTuple

from django.core.exceptions import ObjectDoesNotExist
from django.db import models

from cellcast_django.models import Direction, Message, OptOut, WebhookEvent
from cellcast_django.signals import (
    FactSignal,
    Handler,
    message_received,
    opt_out_received,
    status_changed,
)

OPT_OUT_SUFFIX = " (opt_out_received)"
"""Ends the names of the handlers of a reply's second fact, which may be those of its first."""


class Fact(NamedTuple):
    """What an event has to tell the handlers."""

    signal: FactSignal
    sender: type[models.Model]
    arguments: dict[str, Any]
    suffix: str = ""

    def callees(self) -> list["Callee"]:
        """Return the handlers that are connected for the fact, in the order of connection."""
        return [
            Callee(handler.name + self.suffix, handler, self)
            for handler in self.signal.handlers(self.sender)
        ]


class Callee(NamedTuple):
    """A handler that is connected for a fact, and the name that keeps its outcome."""

    name: str
    handler: Handler
    fact: Fact

    def call(self) -> None:
        """Call the handler, and raise whatever it raises."""
        fact = self.fact
        self.handler.call(signal=fact.signal, sender=fact.sender, **fact.arguments)


def facts_of(event: WebhookEvent) -> list[Fact]:
    """Return what the event has to announce, in the order in which it is told.

    A reply that is a stop word has two. Nothing for an event that told nothing new, and for one
    whose message or opt-out has been deleted since.
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
    change.message = message  # the same object, also where the two were read from the database
    arguments = {"message": message, "status_change": change, "event": event}
    return Fact(status_changed, Message, arguments)


def _opt_out_fact(event: WebhookEvent) -> Fact | None:
    opt_out = _opt_out_of(event)
    if opt_out is None:
        return None
    suffix = OPT_OUT_SUFFIX if event.kind == WebhookEvent.Kind.REPLY else ""
    arguments = {"contact": opt_out.contact, "opt_out": opt_out, "event": event}
    return Fact(opt_out_received, WebhookEvent, arguments, suffix)


def _opt_out_of(event: WebhookEvent) -> OptOut | None:
    """Return the opt-out that the event began.

    When somebody has ended it, a later event may have begun it again and taken it over. An event
    that is about nothing else is still announced then.
    """
    if event.kind not in (WebhookEvent.Kind.REPLY, WebhookEvent.Kind.OPT_OUT):
        return None
    try:
        return event.opt_out
    except ObjectDoesNotExist:
        is_about_it = event.kind == WebhookEvent.Kind.OPT_OUT
        if not is_about_it or event.outcome != WebhookEvent.Outcome.STORED:
            return None
    return OptOut.objects.using(event._state.db).filter(contact=event.contact).first()


def callees_of(event: WebhookEvent) -> list[Callee]:
    """Return the handlers that are connected for what the event tells."""
    return [callee for fact in facts_of(event) for callee in fact.callees()]


def callees_to_replay(event: WebhookEvent) -> list[Callee]:
    """Return all handlers that may be told of the event again, finished or not.

    None for an event that told nothing new, and for one that has been emptied of personal data:
    an opt-out without a number would be about somebody else.
    """
    if event.outcome != WebhookEvent.Outcome.STORED or not event.body:
        return []
    return callees_of(event)


def has_handlers(event: WebhookEvent) -> bool:
    """Whether a handler is connected for one of the event's facts."""
    return bool(callees_of(event))
