"""Receive what Cellcast reported: store it, then run its handlers, inline or on the host's queue.

The one pipeline for views, recovery and reprocessing. A queue in the same database is an outbox:
the task is written in the event's transaction. Any other queue gets the task after the commit.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from cellcast_django import handlers, inbox
from cellcast_django.conf import conf
from cellcast_django.handlers.queue import NotEnqueuedError, enqueue, is_in_same_database
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import Endpoint, Payload

logger = logging.getLogger("cellcast_django")


def receive(
    payloads: Sequence[Payload],
    *,
    endpoint: Endpoint,
    content_type: str = "",
    username: str = "",
    is_test: bool = False,
) -> list[WebhookEvent]:
    """Store the payloads of one webhook, run its handlers, and return what ``inbox.store`` returns.

    Raises ``django.db.Error`` when the database refuses; nothing is stored then.
    """
    store = partial(
        inbox.store,
        payloads,
        endpoint=endpoint,
        content_type=content_type,
        username=username,
        is_test=is_test,
    )
    if conf.run_handlers == "task" and is_in_same_database():
        with suppress(NotEnqueuedError):  # then the webhook is stored without its tasks
            return store(before_commit=enqueue)
    events = store()
    run_handlers(events)
    return events


def run_handlers(events: Iterable[WebhookEvent]) -> None:
    """Run the handlers of events that have just been stored, as ``CELLCAST_RUN_HANDLERS`` says.

    Never raises: errors are logged, and ``cellcast_run_handlers`` finds the events later.
    """
    due = [event for event in events if event.next_run_at is not None]
    if not due:
        return
    if conf.run_handlers != "task":
        handlers.run(due)
        return
    try:
        enqueue([event.pk for event in due])
    except NotEnqueuedError as error:
        cause = type(error.__cause__).__qualname__
        logger.error("Not enqueued: event %s, the first of %s: %s.", *error.args, cause)
