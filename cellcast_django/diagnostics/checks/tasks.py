"""Running handlers through tasks needs a Tasks backend, and a worker."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning as Notice
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext

from cellcast_django.conf import conf, tasks_package

Messages = Iterator[CheckMessage]


def check_task_backend(**_: Any) -> Messages:
    """Running handlers through tasks needs a Tasks backend that accepts them."""
    alias: Any = conf.task_backend
    if conf.run_handlers != "task":
        return
    package = tasks_package()
    if package is None:
        yield Error(
            gettext('CELLCAST_RUN_HANDLERS is "task", but this version of Django has no Tasks.'),
            hint=gettext('Install "cellcast-django[tasks]", or upgrade to Django 6.0.'),
            id="cellcast_django.E011",
        )
    elif not isinstance(alias, str) or alias not in package.task_backends.settings:
        yield Error(
            gettext("CELLCAST_TASK_BACKEND is %(alias)s, which is not in TASKS.")
            % {"alias": repr(alias)},
            hint=gettext("Add it to TASKS, or use one of these: %(names)s.")
            % {"names": ", ".join(package.task_backends.settings)},
            id="cellcast_django.E012",
        )
    elif problem := _problem_of_backend(package.task_backends, alias):
        yield Error(
            gettext("The Tasks backend %(alias)s %(problem)s.")
            % {"alias": repr(alias), "problem": problem},
            hint=gettext("Fix it in TASKS, or name another in CELLCAST_TASK_BACKEND."),
            id="cellcast_django.E013",
        )


def _problem_of_backend(backends: Any, alias: str) -> str:
    try:
        queues = backends[alias].queues
    except (ImproperlyConfigured, KeyError, TypeError) as error:
        return gettext("cannot be used: %(error)s") % {"error": f"{type(error).__name__}: {error}"}
    return gettext('has no queue "default"') if queues and "default" not in queues else ""


def check_task_worker(**_: Any) -> Messages:
    """Django's own backends have no worker: they run a task immediately, or never."""
    if conf.run_handlers != "task" or any(check_task_backend()):
        return
    name = type(tasks_package().task_backends[conf.task_backend]).__name__
    if name in ("ImmediateBackend", "DummyBackend"):
        is_immediate = name == "ImmediateBackend"
        when = (
            gettext("before the response") if is_immediate else gettext("by cellcast_run_handlers")
        )
        yield Notice(
            gettext(
                'CELLCAST_RUN_HANDLERS is "task", but with %(name)s handlers run only %(when)s.'
            )
            % {"name": name, "when": when},
            hint=gettext("Configure a backend with a worker in TASKS, such as django-tasks-db."),
            id="cellcast_django.W005",
        )
