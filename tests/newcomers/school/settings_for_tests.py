from shop.settings import *  # noqa: F403

CELLCAST_RUN_HANDLERS = "inline"
TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
