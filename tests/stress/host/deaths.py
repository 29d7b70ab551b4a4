"""Deaths by SIGKILL at chosen moments.

The id of a webhook chooses them, joined by ``+`` before the first space: ``before-commit``,
``after-commit`` (the run has not begun), ``in-first@1`` (inside the handler "first", at
the first attempt), ``after-second@2`` (it has returned; that has not been saved).
"""

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.models import WebhookEvent


def die() -> NoReturn:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def die_if(moment: str, event: WebhookEvent) -> None:
    """Die if the event's id chooses this moment."""
    if moment in event.cellcast_id.partition(" ")[0].split("+"):
        die()


def watch_commits(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Look at what each connection writes; one that is opened again is watched already."""
    if watch not in connection.execute_wrappers:
        connection.execute_wrappers.append(watch)


def watch(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    connection: BaseDatabaseWrapper = context["connection"]
    values = params.values() if isinstance(params, dict) else params or ()
    written = "" if sql.startswith(("SELECT", "UPDATE")) else " ".join(map(str, values))
    commits_itself = not connection.in_atomic_block
    if "before-commit" in written and commits_itself:
        die()
    result = execute(sql, params, many, context)
    if "before-commit" in written:
        die()
    if "after-commit" in written:
        connection.on_commit(die)  # at once where the statement has committed itself
    return result
