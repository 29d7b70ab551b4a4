"""Sending ``handlers_failed``, once each time an event becomes failed."""

import logging
from functools import partial

from cellcast_django.handlers.calls import call_safely
from cellcast_django.models import WebhookEvent
from cellcast_django.signals import handlers_failed

logger = logging.getLogger("cellcast_django")


def report_if_failed(event: WebhookEvent) -> None:
    """Send ``handlers_failed`` if what was just saved made the event failed.

    Raises nothing except ``KeyboardInterrupt``: the errors of that signal's handlers are logged.
    """
    if event.state != WebhookEvent.State.FAILED:
        return
    for handler in handlers_failed.handlers(WebhookEvent):
        call = partial(
            handler.call,
            signal=handlers_failed,
            sender=WebhookEvent,
            event=event,
            errors=event.handler_errors(),
        )
        failure = call_safely(call)
        if failure is None:
            continue
        logger.error("Handler %s of handlers_failed failed: %s.", handler.name, failure.summary)
        if failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt
