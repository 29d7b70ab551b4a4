"""Which handlers are called for each webhook URL, as far as this process knows."""

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.payloads import Endpoint
from cellcast_django.signals import (
    FactSignal,
    Handler,
    message_received,
    opt_out_received,
    status_changed,
)

SIGNALS: dict[str, tuple[FactSignal, type]] = {
    Endpoint.RECEIVE: (message_received, Message),
    Endpoint.STATUS: (status_changed, Message),
    Endpoint.OPT_OUT: (opt_out_received, WebhookEvent),
}


def handlers_of(endpoint: Endpoint) -> list[Handler]:
    """Return the handlers that are called for the documented example of a URL."""
    signal, sender = SIGNALS[endpoint]
    return signal.handlers(sender)


def describe_handlers(endpoint: Endpoint) -> str:
    """Return a line about these handlers, for a terminal."""
    names = [handler.name for handler in handlers_of(endpoint)]
    if names:
        return f"Handlers: {', '.join(names)}."
    return (
        "No handler is connected, so it is only stored. Import your handlers in ready() of an app "
        "in INSTALLED_APPS."
    )
