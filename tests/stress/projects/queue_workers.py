"""Handlers run on the workers of a queue that is in the same database."""

from tests.stress.host.settings import *  # noqa: F403
from tests.stress.host.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
CELLCAST_RUN_HANDLERS = "default"
CELLCAST_HANDLER_LEASE = 5
