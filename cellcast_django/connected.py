"""Which handlers are connected: their names, by which calls are stored, and their marks."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ReferenceType

from cellcast_django.models import MAX_HANDLER_LENGTH, Message, WebhookEvent
from cellcast_django.signals import (
    IN_ORDER,
    FactSignal,
    message_received,
    opt_out_received,
    status_changed,
)

SENDERS: dict[FactSignal, type] = {
    message_received: Message,
    status_changed: Message,
    opt_out_received: WebhookEvent,
}
"""The signals that tell facts, and what they send as ``sender``."""


def handlers_by_name(signal: FactSignal, sender: type) -> dict[str, Callable[..., Any]]:
    """Return the functions connected for ``sender`` by name, in the order they connected."""
    handlers: dict[str, Callable[..., Any]] = {}
    for (uid, sender_id), receiver, *_ in list(signal.receivers):  # as Django keeps them
        function = receiver() if isinstance(receiver, ReferenceType) else receiver
        if function is None or sender_id not in (id(None), id(sender)):
            continue
        own_name = _short(uid if isinstance(uid, str) else _name_of(function))
        name, count = own_name, 1
        while name in handlers:
            count += 1
            name = f"{own_name}#{count}"
        handlers[name] = function
    return handlers


def connected_handlers() -> list[str]:
    """Return the names of all connected handlers of facts, in alphabetical order."""
    found = (handlers_by_name(signal, sender) for signal, sender in SENDERS.items())
    return sorted({name for handlers in found for name in handlers})


def calls_asked_for(signal: FactSignal) -> list[tuple[str, bool]]:
    """Return the names of a fact's handlers, each with whether it wants its events in order."""
    handlers = handlers_by_name(signal, SENDERS[signal])
    return [(name, has_mark(function, IN_ORDER)) for name, function in handlers.items()]


def has_mark(function: Callable[..., Any], mark: str) -> bool:
    """Whether a function, or the one that it is a partial of, has our mark, as no mock has."""
    return any(getattr(each, mark, False) is True for each in _unwrapped(function))


def _name_of(function: Callable[..., Any]) -> str:
    """Return ``module.qualname``, of a partial's function or of a callable object's class."""
    function = _unwrapped(function)[-1]
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _short(name: str) -> str:
    """Return the name so that its column holds it; what is too long ends in a digest of it."""
    longest = MAX_HANDLER_LENGTH - len("#99")  # which tells handlers of one name apart
    if len(name) <= longest:
        return name
    digest = f"~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name[: longest - len(digest)] + digest


def _unwrapped(function: Any) -> list[Any]:
    """Return the function, and if it is a partial that of the partial, down to the last one."""
    return [function, *(_unwrapped(function.func) if isinstance(function, partial) else ())]
