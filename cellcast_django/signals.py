"""The three facts that your code can listen to, and the names of the functions that listen."""

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Any, NamedTuple
from weakref import ReferenceType

from asgiref.sync import async_to_sync
from django.dispatch import Signal


class Handler(NamedTuple):
    """A connected function and the name under which its outcome is kept."""

    name: str
    function: Callable[..., Any]

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
"""A customer no longer wants messages.

``sender`` is ``WebhookEvent``. Keyword arguments: ``contact`` (E.164, or as Cellcast wrote it
where it is no phone number) and ``event``. Sent after the commit, once for each handler; again only
to a handler that raised or was cut off. The same opt-out may come more than once.
"""
