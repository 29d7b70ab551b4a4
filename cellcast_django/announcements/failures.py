"""Telling the host project, once, that an event has become failed."""

import logging
from functools import partial

from cellcast_django.announcements.calls import contained
from cellcast_django.models import WebhookEvent
from cellcast_django.signals import announcement_failed

logger = logging.getLogger("cellcast_django")


def tell_if_failed(event: WebhookEvent) -> None:
    """Send ``announcement_failed`` if the event has failed by what was just saved.

    Never raises but for ``KeyboardInterrupt``: what a handler of that signal raises is logged.
    """
    if event.state != WebhookEvent.State.FAILED:
        return
    for handler in announcement_failed.handlers(WebhookEvent):
        call = partial(
            handler.call,
            signal=announcement_failed,
            sender=WebhookEvent,
            event=event,
            errors=event.handler_errors(),
        )
        failure = contained(call)
        if failure is None:
            continue
        logger.error("Handler %s of announcement_failed: %s.", handler.name, failure.place)
        if failure.kind is KeyboardInterrupt:
            raise KeyboardInterrupt
