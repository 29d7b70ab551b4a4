"""From rows to handlers: every handler is called once per fact, again only if it has not finished.

An announcement runs after the commit and outside any transaction of ours. The outcome of each
handler is saved before the next one runs, so a crash repeats at most the call that it cut off.
``facts`` says what an event has to tell, ``schedule`` when, ``attempts`` calls the handlers.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from django.utils import timezone

from cellcast_django.announcements.attempts import place_of, run_attempt
from cellcast_django.announcements.facts import hearers
from cellcast_django.announcements.schedule import claim, due_ids, load, save_if_ours
from cellcast_django.conf import conf
from cellcast_django.models import WebhookEvent

logger = logging.getLogger("cellcast_django")


def announce(events: Iterable[WebhookEvent]) -> None:
    """Run the attempt that began when these events were stored.

    Events that have nothing to announce are passed over. Never raises: what goes wrong is logged,
    and the event is due again when its lease is up.
    """
    for event in events:
        if event.announce_due_at is None:
            continue
        try:
            run_attempt(event)
        except Exception as error:  # noqa: BLE001  # it is stored: nothing changes its answer
            logger.error("Announcing event %s was broken off: %s.", event.pk, place_of(error))


def announce_due(pks: Iterable[int] | None = None) -> Iterator[WebhookEvent]:
    """Announce what is due, the longest waiting first, and yield each event after its attempt.

    With ``pks``, only those of them that are due. Safe to run in several processes at once: an
    event is announced by the one that claims it. Raises ``django.db.Error`` when the database
    refuses.
    """
    now = timezone.now()
    for pk in due_ids(now) if pks is None else pks:
        event = load(pk)
        if event is None or not event.is_due(now):
            continue
        if event.announce_attempts >= conf.announce_max_attempts:
            save_if_ours(event, announce_due_at=None)  # the last attempt killed its process
        elif claim(event):
            run_attempt(event)
        else:
            continue
        yield event


def announce_again(pks: Iterable[int], *, everyone: bool = False) -> Iterator[WebhookEvent]:
    """Make one more attempt for events that failed or wait for their next attempt.

    Only the handlers that have not finished are called. Yields each event after its attempt; events
    that have nothing left to announce are passed over. An event that another process is announcing
    at this moment is taken from it, which may call one handler twice.

    With ``everyone``, the handlers that had finished are called too, and events that had been
    announced as well: their outcomes are forgotten when the attempt begins. It is the one way in
    which a handler hears a fact again on purpose. Passed over is what nobody listens for, and what
    has been emptied of personal data.
    """
    for pk in pks:
        event = load(pk)
        if event is None or not _can_be_announced(event, everyone=everyone):
            continue
        forgotten: dict[str, Any] = {"announced_at": None, "announcements": {}} if everyone else {}
        if claim(event, **forgotten):
            run_attempt(event)
            yield event


def _can_be_announced(event: WebhookEvent, *, everyone: bool) -> bool:
    return bool(hearers(event)) if everyone else event.is_unannounced
