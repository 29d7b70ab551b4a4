"""Tell every handler every fact: once, and again only those that have not finished with it.

An announcement runs after the commit and outside any transaction of ours. The outcome of each
handler is saved before the next one runs, so a crash repeats at most the call that it cut off.
"""

import asyncio
import logging
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, router, transaction
from django.db.models import Q
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.facts import Fact, fact_of, hearers
from cellcast_django.inbox import with_retries
from cellcast_django.inbox_sql import update_event
from cellcast_django.models import Message, WebhookEvent, WebhookEventQuerySet
from cellcast_django.payloads import clean
from cellcast_django.signals import Handler

logger = logging.getLogger("cellcast_django")

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
MAX_ERROR_LENGTH = 1_000
BATCH_SIZE = 1_000
"""How many ids of events that are due are in memory at a time."""


def announce(events: Iterable[WebhookEvent]) -> None:
    """Run the attempt that began when these events were stored.

    Events that have nothing to announce are passed over. Never raises: what goes wrong is logged,
    and the event is due again when its lease is up.
    """
    for event in events:
        if event.announce_due_at is None:
            continue
        try:
            _run_attempt(event)
        except Exception as error:  # noqa: BLE001  # it is stored: nothing changes its answer
            logger.error("Announcing event %s was broken off: %s.", event.pk, _place(error))


def announce_due(pks: Iterable[int] | None = None) -> Iterator[WebhookEvent]:
    """Announce what is due, the longest waiting first, and yield each event after its attempt.

    With ``pks``, only those of them that are due. Safe to run in several processes at once: an
    event is announced by the one that claims it. Raises ``django.db.Error`` when the database
    refuses.
    """
    now = timezone.now()
    for pk in _due(now) if pks is None else pks:
        event = _load(pk)
        if event is None or not event.is_due(now):
            continue
        if event.announce_attempts >= conf.announce_max_attempts:
            _save_if_ours(event, announce_due_at=None)  # the last attempt killed its process
        elif _claim(event):
            _run_attempt(event)
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
        event = _load(pk)
        if event is None or not _can_be_announced(event, everyone=everyone):
            continue
        forgotten: dict[str, Any] = {"announced_at": None, "announcements": {}} if everyone else {}
        if _claim(event, **forgotten):
            _run_attempt(event)
            yield event


def _can_be_announced(event: WebhookEvent, *, everyone: bool) -> bool:
    return bool(hearers(event)) if everyone else event.is_unannounced


def pause_after(attempts: int) -> timedelta:
    """How long to wait after so many attempts: a minute, two, four … and at most six hours."""
    doublings = min(attempts - 1, 16)  # more would overflow, and the longest is reached by 9
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


# One attempt


def _run_attempt(event: WebhookEvent) -> None:
    """Call the handlers that have not finished with the event, and keep each outcome."""
    fact = fact_of(event)
    if fact is None:
        error = "Its message was deleted before it was announced."
        _save_if_ours(event, error=error, announce_due_at=None)
        return
    handlers = fact.signal.handlers(fact.sender)
    unfinished = [handler for handler in handlers if not event.has_finished(handler.name)]
    if not unfinished:
        _save_if_ours(event, **_ending(event, handlers))
    for position, handler in enumerate(unfinished, start=1):
        error = _call(handler, event.pk, fact)
        event.announcements[handler.name] = {"at": timezone.now().isoformat(), "error": error}
        is_last = position == len(unfinished)
        values = _ending(event, handlers) if is_last else {"announce_due_at": _lease_end()}
        if not _save_if_ours(event, announcements=event.announcements, **values):
            logger.warning(
                "Handler %s ran longer than CELLCAST_ANNOUNCE_LEASE; another process has taken "
                "event %s over.",
                handler.name,
                event.pk,
            )
            return


def _call(handler: Handler, event_id: int, fact: Fact) -> str:
    """Call one handler, and return its error, empty when it has finished."""
    try:
        with ExitStack() as savepoints:
            for connection in connections.all(initialized_only=True):
                # In a test's own transaction, a handler's database error must not abort the test.
                if connection.in_atomic_block:
                    savepoints.enter_context(transaction.atomic(using=connection.alias))
            handler.call(signal=fact.signal, sender=fact.sender, **fact.arguments)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # one handler stops none
        logger.error("Handler %s failed for event %s: %s.", handler.name, event_id, _place(error))
        return _describe(error)
    return ""


def _ending(event: WebhookEvent, handlers: list[Handler]) -> dict[str, datetime | None]:
    """Return how the attempt leaves the event: announced, failed, or due again after a pause."""
    now = timezone.now()
    if all(event.has_finished(handler.name) for handler in handlers):
        return {"announced_at": now, "announce_due_at": None}
    if event.announce_attempts >= conf.announce_max_attempts:
        return {"announce_due_at": None}
    return {"announce_due_at": now + pause_after(event.announce_attempts)}


def _describe(error: BaseException) -> str:
    """Return the exception's type and text as they are kept: cleaned, and cut."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # the host project's __str__ may do anything
        text = "(its text cannot be read)"
    return clean(f"{type(error).__qualname__}: {text}")[:MAX_ERROR_LENGTH]


def _place(error: BaseException) -> str:
    """Return the exception's type and where it was raised, for the log: no text, no number."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__qualname__} in {frame.name} ({frame.filename}:{frame.lineno})"


# The event's row


def _events() -> WebhookEventQuerySet:
    return WebhookEvent.objects.using(router.db_for_write(Message))


def _due(now: datetime) -> Iterator[int]:
    """Yield the ids of what is due now, the longest waiting first; after an outage it is much."""
    due = _events().due(now).order_by("announce_due_at", "pk")
    rest = due
    while True:
        some = list(rest.values_list("announce_due_at", "pk")[:BATCH_SIZE])
        yield from (pk for _, pk in some)
        if len(some) < BATCH_SIZE:
            return
        at, last = some[-1]
        is_later = Q(announce_due_at__gt=at) | Q(pk__gt=last)
        rest = due.filter(is_later, announce_due_at__gte=at)  # which an index can begin with


def _load(pk: int) -> WebhookEvent | None:
    return _events().select_related("message", "status_change").filter(pk=pk).first()


def _lease_end() -> datetime:
    return timezone.now() + timedelta(seconds=conf.announce_lease)


def _claim(event: WebhookEvent, **values: Any) -> bool:
    """Begin an attempt: count it and take the lease. False where another process was quicker."""
    attempts = event.announce_attempts + 1
    return _save_if_ours(event, announce_due_at=_lease_end(), announce_attempts=attempts, **values)


def _save_if_ours(event: WebhookEvent, **values: Any) -> bool:
    """Save these fields, unless another process has begun an attempt since the event was read."""

    def save(using: str) -> int:
        return update_event(connections[using], event, values)

    saved = with_retries(save) == 1
    if saved:
        for name, value in values.items():
            setattr(event, name, value)
    return saved
