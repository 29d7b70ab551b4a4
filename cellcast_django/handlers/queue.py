"""Running handlers on the host project's own queue: ``CELLCAST_RUN_HANDLERS = "task"``."""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from django.apps import apps
from django.db import router

from cellcast_django import handlers
from cellcast_django.conf import conf
from cellcast_django.models import database_alias


def tasks_package() -> Any:
    """Return ``django.tasks``, or its backport on Django 5.2; ``None`` without either."""
    for name in ("django.tasks", "django_tasks"):
        with suppress(ImportError):
            return import_module(name)
    return None


def as_task(function: Callable[..., None]) -> Any:
    """Return the function as a task, or unchanged if there is no backend for it.

    A wrong ``TASKS`` setting raises here, on import. That must not take the site down: a system
    check reports it.
    """
    package = tasks_package()
    if package is not None:
        with suppress(Exception):
            return package.task(backend=conf.task_backend)(function)
    return function


@as_task
def run_handlers(event_id: int) -> None:
    """Run one event's handlers if it is due. Safe to run twice."""
    handlers.run_due([event_id])


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
    return run_handlers.using(backend=conf.task_backend)


def is_in_same_database() -> bool:
    """Whether the queue is django-tasks-db in the database that holds our messages."""
    try:
        backend = type(_run_handlers().get_backend())
        model = apps.get_app_config("django_tasks_database").get_model("DBTaskResult")
    except Exception:  # a wrong TASKS, or none; no such app
        return False
    is_its_backend = any(base.__module__.startswith("django_tasks_db.") for base in backend.__mro__)
    return is_its_backend and router.db_for_write(model) == database_alias()
