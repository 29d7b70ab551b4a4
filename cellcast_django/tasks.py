"""The app's tasks for Django's task framework, for the host project's queue or schedule."""

from cellcast_django import handlers, recovery
from cellcast_django.models import CommandRun
from cellcast_django.receiving import as_task, run_handlers

__all__ = ["recover", "run_due_handlers", "run_handlers"]


@as_task
def run_due_handlers() -> None:
    """Run everything that is due, as ``cellcast_run_handlers`` does: for a schedule.

    Records that it has run. Safe to run several times at once. Raises ``django.db.Error`` when the
    database refuses.
    """
    CommandRun.record(CommandRun.Command.RUN_HANDLERS, handlers.summary(handlers.run_due()))


@as_task
def recover() -> None:
    """Ask Cellcast's API for what never arrived, as ``cellcast_recover`` does: for a schedule.

    Safe to run several times at once. Raises ``RecoveryError`` if a list could not be read, and
    ``django.db.Error`` when the database refuses.
    """
    if errors := recovery.problems_of(recovery.recover()):
        raise recovery.RecoveryError("\n".join(errors))
