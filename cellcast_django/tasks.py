"""The app's tasks for Django's task framework, for the host project's queue or schedule.

They are defined here and nowhere else: queues store the path of a task.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.utils import timezone

from cellcast_django import handlers, recovery
from cellcast_django.conf import conf
from cellcast_django.days import duration_of
from cellcast_django.models import CommandRun
from cellcast_django.receiving import read_due, tasks_package
from cellcast_django.reply_mail import mail_waiting_replies
from cellcast_django.upkeep import retention

__all__ = ["prune", "recover", "run_due_handlers", "run_handlers"]


def as_task(function: Callable[..., None]) -> Any:
    """Return the function as a task, or unchanged if there is no backend for it.

    A wrong ``TASKS`` setting raises here, on import. That must not take the site down: a system
    check reports it.
    """
    package = tasks_package()
    if package is not None:
        with suppress(Exception):
            inline = conf.run_handlers == "inline"
            return package.task(backend="default" if inline else conf.run_handlers)(function)
    return function


@as_task
def run_handlers(event_id: int) -> None:
    """Make the calls of one event that are due: what a queue stores. Safe to run twice."""
    handlers.run_due([event_id])


@as_task
def run_due_handlers() -> None:
    """Make what is due, as ``cellcast_run_handlers`` does.

    Records that it has run, and mails ``CELLCAST_MAIL_REPLIES_TO``. Safe to run several at once.
    """
    read_due()
    CommandRun.record(CommandRun.Command.RUN_HANDLERS, handlers.summary(handlers.run_due()))
    mail_waiting_replies()


@as_task
def recover() -> None:
    """Fetch what never arrived, as ``cellcast_recover`` does.

    Safe to run several times at once. Raises ``RecoveryError`` if a list could not be read.
    """
    if errors := recovery.problems_of(recovery.recover()):
        raise recovery.RecoveryError("\n".join(errors))


@as_task
def prune(older_than: str, redact: bool = False) -> None:
    """Delete or redact what is older, such as ``"90d"``, as ``cellcast_prune`` does.

    Safe to interrupt and to run again. Raises ``ValueError`` if ``older_than`` is no age.
    """
    age = duration_of(str(older_than), units="hdw")  # 3m might be meant as months
    retention.prune(retention.Selection(before=timezone.now() - age, redact=redact))
