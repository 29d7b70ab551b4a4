"""Receive what Cellcast reported: store it, then run its handlers, inline or on the host's queue.

The one pipeline for views, recovery and reprocessing. A queue in the same database is an outbox:
the task is written in the event's transaction. Any other queue gets the task after the commit.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from django.apps import apps
from django.db import router
from django.utils.module_loading import import_string

from cellcast_django import handlers, inbox
from cellcast_django.conf import conf
from cellcast_django.models import HandlerCall, WebhookEvent, database_alias
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
    """Store the payloads of one webhook, run its handlers, and return its events.

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
    by_task = conf.run_handlers != "inline"
    if by_task and is_in_same_database():
        with suppress(NotEnqueuedError):  # then the webhook is stored without its tasks
            return store(before_commit=enqueue)
    stored = store()
    _run_or_enqueue(stored.calls, by_task=by_task)
    return stored


def reprocess(event: WebhookEvent) -> list[WebhookEvent]:
    """Read an invalid event again, run its handlers, and return the events it has become.

    Raises ``django.db.Error`` when the database refuses; nothing has changed then.
    """
    stored = inbox.reprocess(event)
    _run_or_enqueue(stored.calls, by_task=conf.run_handlers != "inline")
    return stored


def _run_or_enqueue(calls: Sequence[HandlerCall], *, by_task: bool) -> None:
    """Make the calls of events that have just been stored, here or on the queue.

    Never raises: errors are logged, and ``cellcast_run_handlers`` finds the calls later.
    """
    if not calls:
        return
    if not by_task:
        handlers.run(calls)
        return
    try:
        enqueue(list(dict.fromkeys(call.event_id for call in calls)))
    except NotEnqueuedError as error:
        cause = type(error.__cause__).__qualname__
        logger.error("Not enqueued: event %s, the first of %s: %s.", *error.args, cause)


# The queue


def tasks_package() -> Any:
    """Return ``django.tasks``, or its backport on Django 5.2; ``None`` without either."""
    for name in ("django.tasks", "django_tasks"):
        with suppress(ImportError):
            return import_module(name)
    return None


RUN_HANDLERS = "cellcast_django.tasks.run_handlers"
"""The task by the path that queues store. Looked up when it is enqueued: it stands above us."""


class NotEnqueuedError(Exception):
    """The broker is down, or the backend is wrong. Arguments: the first event's id, how many."""


def enqueue(event_ids: list[int]) -> None:
    """Enqueue one task per event; raise ``NotEnqueuedError`` at the first that is refused.

    The rest would be refused as well, perhaps after a time-out each.
    """
    for position, event_id in enumerate(event_ids):
        try:
            _run_handlers().enqueue(event_id)
        except Exception as error:
            raise NotEnqueuedError(event_id, len(event_ids) - position) from error


def _run_handlers() -> Any:
    return import_string(RUN_HANDLERS).using(backend=conf.run_handlers)


def is_in_same_database() -> bool:
    """Whether the queue's tasks are rows of the database that holds our messages.

    Django Tasks cannot be asked. A backend that finds results again and comes with an app that has
    models keeps its tasks in them; one that sends them away, from an app of the host's, does not.
    """
    try:
        backend = _run_handlers().get_backend()
        app = apps.get_containing_app_config(backend.enqueue.__module__)
    except Exception:  # a wrong TASKS, or none
        return False
    if app is None or not backend.supports_get_result:
        return False
    return {router.db_for_write(model) for model in app.get_models()} == {database_alias()}
