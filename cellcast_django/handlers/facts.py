"""The facts of an event, and the calls of handlers that they ask for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

from asgiref.sync import async_to_sync
from django.core.exceptions import ObjectDoesNotExist
from django.db import models

from cellcast_django.models import Direction, Message, WebhookEvent
from cellcast_django.signals import (
    EXACTLY_ONCE,
    IN_ORDER,
    FactSignal,
    has_mark,
    message_received,
    opt_out_received,
    status_changed,
)

OPT_OUT_SUFFIX = " (opt_out_received)"
"""Ends the results' names for a reply's second fact: its handlers may be those of its first."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of one handler for one fact; its result is saved under ``name``."""

    name: str
    handler: str
    """The handler's own name: ``name`` without the suffix of a second fact."""
    function: Callable[..., Any]
    arguments: dict[str, Any] = field(repr=False)
    exactly_once: bool = False
    in_order: bool = False

    def make(self) -> None:
        """Call the function, and wait for it if it is async. Raises whatever it raises."""
        returned = self.function(**self.arguments)
        if isawaitable(returned):
            async_to_sync(_finish)(returned)


async def _finish(awaitable: Awaitable[Any]) -> None:
    await awaitable


@dataclass(frozen=True, slots=True)
class Fact:
    """One signal with its arguments."""

    signal: FactSignal
    sender: type[models.Model]
    arguments: dict[str, Any] = field(repr=False)
    suffix: str = ""

    def calls(self) -> list[Call]:
        """Return one call for each connected handler, in the order in which they connected."""
        arguments = {"signal": self.signal, "sender": self.sender, **self.arguments}
        return [
            Call(
                handler + self.suffix,
                handler,
                function,
                arguments,
                exactly_once=has_mark(function, EXACTLY_ONCE),
                in_order=has_mark(function, IN_ORDER),
            )
            for handler, function in self.signal.handlers(self.sender).items()
        ]


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


def calls_of(event: WebhookEvent) -> list[Call]:
    """Return the calls of the handlers that are connected for the event's facts."""
    return [call for fact in facts_of(event) for call in fact.calls()]


def repeatable_calls(event: WebhookEvent) -> list[Call]:
    """Return all calls that a person may repeat, finished or not.

    None for a redacted event: without its number its opt-out would match another contact.
    """
    return calls_of(event) if event.body else []
