"""The app's tasks for Django's task framework, for the host project's queue or schedule."""

from cellcast_django import announcements, recovery
from cellcast_django.announcements.queue import announce_event, as_task

__all__ = ["announce_due", "announce_event", "recover"]


@as_task
def announce_due() -> None:
    """Announce everything that is due, as ``cellcast_announce`` does: for a schedule.

    Safe to run several times at once. Raises ``django.db.Error`` when the database refuses.
    """
    for _ in announcements.announce_due():
        pass


@as_task
def recover() -> None:
    """Ask Cellcast's API for what never arrived, as ``cellcast_recover`` does: for a schedule.

    Safe to run several times at once. Raises ``RecoveryError`` if a list could not be read, and
    ``django.db.Error`` when the database refuses.
    """
    if errors := recovery.errors_of(recovery.recover()):
        raise recovery.RecoveryError("\n".join(errors))
