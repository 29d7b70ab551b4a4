"""The facts that your code can listen to, and what a handler may ask for.

A handler asks by ``RetryLater``, ``GiveUp`` and ``@exactly_once``. Each is known by a name, under
which its outcome is kept.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any, NamedTuple, TypeVar
from weakref import ReferenceType

from asgiref.sync import async_to_sync
from django.dispatch import Signal

H = TypeVar("H", bound=Callable[..., object])

LONGEST_WAIT = timedelta(days=365)
_MARK = "_cellcast_exactly_once"


class RetryLater(Exception):  # noqa: N818  # a request, named as it is read: raise RetryLater(...)
    """Raised by a handler: call me again after this time, instead of after the usual pause.

    It counts as an attempt. Where another handler has failed for the same event, all of them are
    called again at the earlier time. ``after`` is at most 365 days.
    """

    def __init__(self, after: timedelta) -> None:
        if not isinstance(after, timedelta):
            raise TypeError(f"RetryLater takes a timedelta, not {type(after).__name__}.")
        if not timedelta() <= after <= LONGEST_WAIT:
            raise ValueError("RetryLater takes a time of 0 to 365 days.")
        super().__init__(f"after {after}")
        self.after = after


class GiveUp(Exception):  # noqa: N818  # likewise
    """Raised by a handler: do not call me again.

    The event ends as failed, with this reason, once the other handlers have finished. A person who
    runs its handlers again calls this one too.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def exactly_once(handler: H) -> H:
    """Mark a handler to be called inside a transaction that saves its outcome as well.

    The transaction is on the database of this app's models. What the handler writes there is
    committed with the record that it has finished, or not at all: not even a crash repeats it. Any
    exception rolls it back. What the handler does elsewhere, on another database or over HTTP, is
    done again after a crash. Raises ``TypeError`` for a coroutine function.
    """
    function: Any = handler
    while isinstance(function, partial):
        function = function.func
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004  # its kind is asked
        raise TypeError(
            f"{handler_name(handler)} is asynchronous: exactly_once needs a plain function, as "
            "Django's transactions do."
        )
    setattr(getattr(handler, "__func__", handler), _MARK, True)  # of a bound method its function
    return handler


class Handler(NamedTuple):
    """A connected function and the name under which its outcome is kept."""

    name: str
    function: Callable[..., Any]

    @property
    def is_exactly_once(self) -> bool:
        """Whether the function is marked by ``exactly_once``, also inside a partial."""
        function = self.function
        while isinstance(function, partial) and not hasattr(function, _MARK):
            function = function.func
        return hasattr(function, _MARK)

    def call(self, **arguments: Any) -> None:
        """Call the function, an async one to its end. Raises whatever it raises."""
        result = self.function(**arguments)
        if isawaitable(result):
            async_to_sync(_finish)(result)


async def _finish(awaitable: Awaitable[Any]) -> None:
    await awaitable


class FactSignal(Signal):
    """A signal whose handlers can be told apart, so that the outcome of each one is kept."""

    def handlers(self, sender: type) -> list[Handler]:
        """Return the handlers connected for ``sender``, in the order in which they connected."""
        handlers: dict[str, Handler] = {}
        for (uid, sender_id), receiver, *_ in list(self.receivers):
            function = receiver() if isinstance(receiver, ReferenceType) else receiver
            if function is None or sender_id not in (id(None), id(sender)):
                continue
            name = first = uid if isinstance(uid, str) else handler_name(function)
            number = 1
            while name in handlers:
                number += 1
                name = f"{first}#{number}"
            handlers[name] = Handler(name, function)
        return list(handlers.values())


def handler_name(function: Callable[..., Any]) -> str:
    """Return ``module.qualname``: of a partial its function's, of an object its class's."""
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


message_received = FactSignal()
"""An inbound message has been stored for the first time.

``sender`` is ``Message``. Keyword arguments: ``message`` (the inbound ``Message``) and ``event``
(the ``WebhookEvent`` that brought it). Sent after the commit, once for each handler; again only to
a handler that raised or was cut off.
"""

status_changed = FactSignal()
"""A message's history has a new row (not for the first row of an inbound message).

``sender`` is ``Message``. Keyword arguments: ``message``, ``status_change`` (the new
``StatusChange``; its ``applied`` tells whether it moved ``message.status``) and ``event``. Mostly
it is a delivery report on an outbound message. It may be a later status of an inbound one, which
can carry the id of the message replied to: look at ``message.direction``. Sent after the commit,
once for each handler; again only to a handler that raised or was cut off.
"""

opt_out_received = FactSignal()
"""A contact's opt-out begins: by webhook, by a stop word or from Cellcast's list, not by a person.

``sender`` is ``WebhookEvent``. Keyword arguments: ``contact`` (E.164, or as Cellcast wrote it
where it is no phone number), ``opt_out`` (the ``OptOut``) and ``event``. Once while an opt-out
stands; of a reply that is a stop word after ``message_received``. Sent after the commit, once for
each handler; again only to a handler that raised or was cut off, when ``opt_out`` may have ended.
"""

announcement_failed = FactSignal()
"""An event has become failed: its attempts are used up, or a handler gave up.

``sender`` is ``WebhookEvent``. Keyword arguments: ``event`` and ``errors`` (the text of each
handler's error, by the handler's name; the texts may hold what customers wrote). Sent once each
time that an event becomes failed. What its handlers raise is logged and otherwise ignored: this
signal is neither stored nor sent again.
"""
