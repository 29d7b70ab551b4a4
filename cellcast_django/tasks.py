"""Announce inline, or on the host project's own queue: ``CELLCAST_ANNOUNCE_VIA``.

A queue in the same database is an outbox: the task is written with the event, in one transaction.
Any other gets the task after the commit.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from django.apps import apps
from django.db import router

from cellcast_django import announcements, inbox
from cellcast_django.conf import conf
from cellcast_django.inbox_sql import Outbox
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.payloads import Endpoint, Payload

logger = logging.getLogger("cellcast_django")


def _django_tasks() -> Any:
    """Return Django's ``task`` decorator, on Django 5.2 the backport's; ``None`` without either."""
    for name in ("django.tasks", "django_tasks"):
        with suppress(ImportError):
            return import_module(name).task
    return None


task = _django_tasks()


def _as_task(function: Callable[..., None]) -> Any:
    """Return the function as a task, or as it is where there is no backend for it.

    A wrong ``TASKS`` raises here, on import. It must not take the site down: a system check names
    it.
    """
    if task is not None:
        with suppress(Exception):
            return task(backend=conf.task_backend)(function)
    return function


@_as_task
def announce_event(event_id: int) -> None:
    """Announce one event if it is due. Safe to run twice."""
    for _ in announcements.announce_due([event_id]):
        pass


@_as_task
def announce_due() -> None:
    """Announce all that is due, as ``cellcast_announce`` does: a task for a schedule to call.

    Safe to run several times at once. Raises ``django.db.Error`` when the database refuses.
    """
    for _ in announcements.announce_due():
        pass


def store_and_announce(
    payloads: Sequence[Payload], *, endpoint: Endpoint, content_type: str = "", username: str = ""
) -> list[WebhookEvent]:
    """Store what one webhook said, announce it, and return its events as ``inbox.store`` does.

    Raises ``django.db.Error`` when the database refuses; nothing is stored then.
    """

    def store(outbox: Outbox | None = None) -> list[WebhookEvent]:
        return inbox.store(
            payloads,
            endpoint=endpoint,
            content_type=content_type,
            username=username,
            outbox=outbox,
        )

    if conf.announce_via == "task" and _is_in_same_database():
        with suppress(_NotEnqueuedError):  # the webhook is stored whatever becomes of its tasks
            return store(outbox=_enqueue)
    events = store()
    announce(events)
    return events


def announce(events: Iterable[WebhookEvent]) -> None:
    """Announce events that have just been stored, in the way that ``CELLCAST_ANNOUNCE_VIA`` names.

    Never raises: what goes wrong is logged, and ``cellcast_announce`` finds the events.
    """
    if conf.announce_via != "task":
        announcements.announce(events)
        return
    try:
        _enqueue([event.pk for event in events if event.announce_due_at is not None])
    except _NotEnqueuedError as error:
        cause = type(error.__cause__).__qualname__
        logger.error("Not enqueued: event %s and %s more: %s.", *error.args, cause)


class _NotEnqueuedError(Exception):
    """The broker is down, or the backend is wrong. Its arguments: the event, how many more."""


def _enqueue(event_ids: list[int]) -> None:
    """Enqueue one task for each event, and stop at the first that is refused.

    The others would be refused as well, perhaps after a time-out each.
    """
    for position, event_id in enumerate(event_ids):
        try:
            _announce_event().enqueue(event_id)
        except Exception as error:
            raise _NotEnqueuedError(event_id, len(event_ids) - position - 1) from error


def _announce_event() -> Any:
    return announce_event.using(backend=conf.task_backend)


def _is_in_same_database() -> bool:
    """Whether the queue is that of django-tasks-db, its tasks beside our messages."""
    try:
        backend = type(_announce_event().get_backend())
        model = apps.get_app_config("django_tasks_database").get_model("DBTaskResult")
    except Exception:  # noqa: BLE001  # a wrong TASKS, or none; no such app
        return False
    is_its_backend = any(base.__module__.startswith("django_tasks_db.") for base in backend.__mro__)
    return is_its_backend and router.db_for_write(model) == router.db_for_write(Message)
