"""Announce on the host project's own queue: ``CELLCAST_ANNOUNCE_VIA = "task"``."""

import logging
from collections.abc import Iterable
from typing import Any

from cellcast_django.announcements import announce_due
from cellcast_django.conf import conf
from cellcast_django.models import WebhookEvent

task: Any = None
try:
    from django.tasks import task  # type: ignore[no-redef]
except ImportError:  # Django 5.2
    try:
        from django_tasks import task  # type: ignore[no-redef]
    except ImportError:
        pass  # a system check says so when the setting asks for tasks

logger = logging.getLogger("cellcast_django")


def announce_event(event_id: int) -> None:
    """Announce one event if it is due. Safe to run twice."""
    for _ in announce_due([event_id]):
        pass


if task is not None:
    announce_event = task(announce_event)


def enqueue(events: Iterable[WebhookEvent]) -> None:
    """Enqueue a task for each event that has something to announce.

    Never raises: an event that could not be enqueued is due, and ``cellcast_announce`` finds it.
    """
    for event in events:
        if event.announce_due_at is None:
            continue
        try:
            announce_event.using(backend=conf.task_backend).enqueue(event.pk)  # type: ignore[attr-defined]
        except Exception as error:  # a broker that is down, a backend that is not configured
            logger.error("Event %s was not enqueued: %s.", event.pk, type(error).__qualname__)
