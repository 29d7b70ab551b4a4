"""A queue that costs nothing, so that task mode is measured and not somebody's broker."""

from typing import Any

try:
    from django.tasks.backends.dummy import DummyBackend
except ImportError:  # Django 5.2
    from django_tasks.backends.dummy import DummyBackend


class ForgetfulBackend(DummyBackend):
    """Takes a task and forgets it."""

    def enqueue(self, *args: Any, **kwargs: Any) -> Any:
        result: Any = super().enqueue(*args, **kwargs)
        self.clear()
        return result
