"""The signals your code can connect handlers to, and what a handler may ask for.

A signal is sent after the commit: once to each handler, and again only to one that raised or was
interrupted. A handler asks with ``RetryLater``, ``GiveUp``, ``@exactly_once`` or ``@in_order``.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, TypeVar

from django.dispatch import Signal

H = TypeVar("H", bound=Callable[..., object])

LONGEST_WAIT = timedelta(days=365)
EXACTLY_ONCE = "_cellcast_exactly_once"
IN_ORDER = "_cellcast_in_order"


class RetryLater(Exception):  # a request, named to be read: raise RetryLater(...)
    """Raised by a handler: call me again after this time instead of the usual pause.

    ``after`` is a ``timedelta`` of at most 365 days. It is granted until two limits have both
    passed since the event was stored: ``CELLCAST_HANDLER_MAX_ATTEMPTS`` calls of this handler, and
    the time that so many usual pauses take, 20 hours with the default of 12.
    """

    def __init__(self, after: timedelta) -> None:
        if not isinstance(after, timedelta):
            raise TypeError(f"RetryLater takes a timedelta, not {type(after).__name__}.")
        if not timedelta() <= after <= LONGEST_WAIT:
            raise ValueError("RetryLater takes 0 to 365 days.")
        super().__init__(f"after {after}")
        self.after = after


class GiveUp(Exception):  # read as: raise GiveUp(...)
    """Raised by a handler: do not call me again.

    The call ends as ``gave_up``, with this reason, until a person runs it again.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def exactly_once(handler: H) -> H:
    """Mark a handler to be called inside the transaction that saves its call's end.

    What the handler writes to the database of this app's models commits together with that end, or
    not at all: not even a crash repeats it. What it does elsewhere, on another database or over
    HTTP, is repeated after an exception, a crash or a deadlock: send nothing in it. A deadlock
    leaves its arguments as it has changed them. Raises ``TypeError`` for a coroutine or generator
    function.
    """
    function: Any = handler
    while isinstance(function, partial):
        function = function.func
    for each in (function, getattr(function, "__call__", None)):  # noqa: B004  # we ask for its kind
        if iscoroutinefunction(each) or isgeneratorfunction(each) or isasyncgenfunction(each):
            raise TypeError(
                f"{getattr(function, '__qualname__', function)} is asynchronous or a generator: "
                "exactly_once needs a plain function, as Django's transactions do."
            )
    return _mark(handler, EXACTLY_ONCE)


def in_order(handler: H) -> H:
    """Mark a handler to be called for the events of one contact in the order they were stored.

    It is not called for an event while its call for an earlier one of the same contact is
    unfinished, or while that event is deferred, for a day at most. Waiting uses up no attempt. An
    event that a person runs waits for none. Webhooks that race each other have no order, nor have
    events without a contact.
    """
    return _mark(handler, IN_ORDER)


def _mark(handler: H, mark: str) -> H:
    setattr(getattr(handler, "__func__", handler), mark, True)  # not on a bound method
    return handler


class FactSignal(Signal):
    """A signal with a name, as its handlers have: a stored call knows both by theirs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


message_received = FactSignal("message_received")
"""An inbound message has been stored for the first time.

Keyword arguments: ``message`` and ``event``, the ``WebhookEvent`` that reported it. ``sender`` is
``Message``.
"""

status_changed = FactSignal("status_changed")
"""A message's history has a new row (not for the first row of an inbound message).

Keyword arguments: ``message``, ``status_change`` (the new ``StatusChange``, which is ``applied`` if
it changed ``message.status``) and ``event``. ``sender`` is ``Message``. It can be a later status of
an inbound message: check ``message.direction``.
"""

opt_out_received = FactSignal("opt_out_received")
"""A contact's opt-out begins: by webhook, by a stop word or from Cellcast's list, not by a person.

Keyword arguments: ``contact`` (E.164 if it is a phone number), ``opt_out`` (the ``OptOut``, which
may have ended when a handler is called again) and ``event``. ``sender`` is ``WebhookEvent``. For a
stop word it comes after ``message_received``.
"""

handlers_failed = FactSignal("handlers_failed")
"""An event has failed: no call of it is unfinished, and one failed or gave up.

Keyword arguments: ``event`` and ``errors`` (handler's name to error text, which may quote
customers). ``sender`` is ``WebhookEvent``. It is neither stored nor sent again: errors of its own
handlers are only logged. Rarely sent twice, should the ends of two calls meet.
"""
