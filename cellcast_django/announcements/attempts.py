"""One attempt: call the handlers that have not finished with an event, and keep each outcome."""

import asyncio
import logging
import traceback
from contextlib import ExitStack

from django.db import connections, transaction
from django.utils import timezone

from cellcast_django.announcements.facts import Fact, fact_of
from cellcast_django.announcements.schedule import ending, lease_end, save_if_ours
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import clean
from cellcast_django.signals import Handler

logger = logging.getLogger("cellcast_django")

MAX_ERROR_LENGTH = 1_000


def run_attempt(event: WebhookEvent) -> None:
    """Call the handlers that have not finished with the event, and keep each outcome."""
    fact = fact_of(event)
    if fact is None:
        error = "Its message was deleted before it was announced."
        save_if_ours(event, error=error, announce_due_at=None)
        return
    handlers = fact.signal.handlers(fact.sender)
    unfinished = [handler for handler in handlers if not event.has_finished(handler.name)]
    if not unfinished:
        save_if_ours(event, **ending(event, handlers))
    for position, handler in enumerate(unfinished, start=1):
        error = _call(handler, event.pk, fact)
        event.announcements[handler.name] = {"at": timezone.now().isoformat(), "error": error}
        is_last = position == len(unfinished)
        values = ending(event, handlers) if is_last else {"announce_due_at": lease_end()}
        if not save_if_ours(event, announcements=event.announcements, **values):
            logger.warning(
                "Handler %s ran longer than CELLCAST_ANNOUNCE_LEASE; another process has taken "
                "event %s over.",
                handler.name,
                event.pk,
            )
            return


def _call(handler: Handler, event_id: int, fact: Fact) -> str:
    """Call one handler, and return its error, empty when it has finished."""
    try:
        with ExitStack() as savepoints:
            for connection in connections.all(initialized_only=True):
                # In a test's own transaction, a handler's database error must not abort the test.
                if connection.in_atomic_block:
                    savepoints.enter_context(transaction.atomic(using=connection.alias))
            handler.call(signal=fact.signal, sender=fact.sender, **fact.arguments)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # one handler stops none
        logger.error("Handler %s failed for event %s: %s.", handler.name, event_id, place_of(error))
        return _describe(error)
    return ""


def _describe(error: BaseException) -> str:
    """Return the exception's type and text as they are kept: cleaned, and cut."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # the host project's __str__ may do anything
        text = "(its text cannot be read)"
    return clean(f"{type(error).__qualname__}: {text}")[:MAX_ERROR_LENGTH]


def place_of(error: BaseException) -> str:
    """Return the exception's type and where it was raised, for the log: no text, no number."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__qualname__} in {frame.name} ({frame.filename}:{frame.lineno})"
