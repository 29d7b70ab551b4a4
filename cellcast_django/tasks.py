"""Announce inline, or on the host project's own queue: ``CELLCAST_ANNOUNCE_VIA``."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any

from cellcast_django import announcements
from cellcast_django.conf import conf
from cellcast_django.models import WebhookEvent

logger = logging.getLogger("cellcast_django")


def _django_tasks() -> Any:
    """Return Django's ``task`` decorator, on Django 5.2 the backport's; ``None`` without either."""
    for name in ("django.tasks", "django_tasks"):
        with suppress(ImportError):
            return import_module(name).task
    return None


task = _django_tasks()


def announce_event(event_id: int) -> None:
    """Announce one event if it is due. Safe to run twice."""
    for _ in announcements.announce_due([event_id]):
        pass


def _as_task(function: Callable[[int], None]) -> Any:
    """Return the function as a task, or as it is where there is no backend for it.

    A wrong ``TASKS`` raises here, on import. It must not take the site down: a system check names
    it.
    """
    if task is not None:
        with suppress(Exception):
            return task(backend=conf.task_backend)(function)
    return function


announce_event = _as_task(announce_event)


def announce(events: Iterable[WebhookEvent]) -> None:
    """Announce events that have just been stored, in the way that ``CELLCAST_ANNOUNCE_VIA`` names.

    Never raises: what goes wrong is logged, and ``cellcast_announce`` finds the event.
    """
    if conf.announce_via != "task":
        announcements.announce(events)
        return
    for event in events:
        if event.announce_due_at is None:
            continue
        try:
            announce_event.using(backend=conf.task_backend).enqueue(event.pk)  # type: ignore[attr-defined]
        except Exception as error:  # noqa: BLE001  # the broker is down, the backend is wrong
            logger.error("Event %s was not enqueued: %s.", event.pk, type(error).__qualname__)
