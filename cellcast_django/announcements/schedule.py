"""Every state transition of an event's announcement: planned, claimed, ended.

The rows are changed only here, and only while the attempt that changes them is still the last one.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.database import lock_waits, prepared_statements
from cellcast_django.database.retries import with_retries
from cellcast_django.models import WebhookEvent, WebhookEventQuerySet, database_alias
from cellcast_django.signals import Handler

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
BATCH_SIZE = 1_000
"""How many ids of events that are due are in memory at a time."""


def planned(now: datetime, *, heard: bool) -> dict[str, Any]:
    """Return the fields of an event that plan its announcement, or note that nobody listens.

    Inline, the attempt begins right after the commit in this process, so it is counted and leased
    here already: that saves a write, and a crash in between is taken over when the lease is up.
    """
    plan = {"announced_at": None, "announce_due_at": now, "announce_attempts": 0}
    if not heard:
        plan |= {"announced_at": now, "announce_due_at": None}
    elif conf.announce_via == "inline":
        lease = timedelta(seconds=conf.announce_lease)
        plan |= {"announce_due_at": now + lease, "announce_attempts": 1}
    return plan


def ending(event: WebhookEvent, handlers: list[Handler]) -> dict[str, datetime | None]:
    """Return how the attempt leaves the event: announced, failed, or due again after a pause."""
    now = timezone.now()
    if all(event.has_finished(handler.name) for handler in handlers):
        return {"announced_at": now, "announce_due_at": None}
    if event.announce_attempts >= conf.announce_max_attempts:
        return {"announce_due_at": None}
    return {"announce_due_at": now + pause_after(event.announce_attempts)}


def pause_after(attempts: int) -> timedelta:
    """How long to wait after so many attempts: a minute, two, four … and at most six hours."""
    doublings = min(attempts - 1, 16)  # more would overflow, and the longest is reached by 9
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


def events() -> WebhookEventQuerySet:
    """Return all events, read from the database that is written to."""
    return WebhookEvent.objects.using(database_alias())


def due_ids(now: datetime) -> Iterator[int]:
    """Yield the ids of what is due now, the longest waiting first; after an outage it is much."""
    due = events().due(now).order_by("announce_due_at", "pk")
    rest = due
    while True:
        some = list(rest.values_list("announce_due_at", "pk")[:BATCH_SIZE])
        yield from (pk for _, pk in some)
        if len(some) < BATCH_SIZE:
            return
        at, last = some[-1]
        is_later = Q(announce_due_at__gt=at) | Q(pk__gt=last)
        rest = due.filter(is_later, announce_due_at__gte=at)  # which an index can begin with


def load(pk: int) -> WebhookEvent | None:
    """Return the event with its message and its row of the history."""
    return events().select_related("message", "status_change").filter(pk=pk).first()


def lease_end() -> datetime:
    """Until when an attempt that begins or goes on now is left alone by other processes."""
    return timezone.now() + timedelta(seconds=conf.announce_lease)


def claim(event: WebhookEvent, **values: Any) -> bool:
    """Begin an attempt: count it and take the lease. False where another process was quicker."""
    attempts = event.announce_attempts + 1
    return save_if_ours(event, announce_due_at=lease_end(), announce_attempts=attempts, **values)


def save_if_ours(event: WebhookEvent, **values: Any) -> bool:
    """Save these fields, unless another process has begun an attempt since the event was read."""

    def save(using: str) -> int:
        return _update_event(connections[using], event, values)

    saved = with_retries(save, using=database_alias()) == 1
    if saved:
        for name, value in values.items():
            setattr(event, name, value)
    return saved


def _update_event(
    connection: BaseDatabaseWrapper, event: WebhookEvent, values: dict[str, Any]
) -> int:
    """Save these fields of the event if its attempt is still the last one; return 1 then, else 0.

    One statement on every database, at a third of the price of ``QuerySet.update``.
    """
    execute = lock_waits.execute if connection.vendor == "sqlite" else prepared_statements.execute
    adapted = {
        name: _field(name).get_db_prep_save(value, connection) for name, value in values.items()
    }
    adapted |= {"id": event.pk, "attempt": event.announce_attempts}
    with execute(connection, _update_statement(tuple(values)), adapted) as cursor:
        return int(cursor.rowcount)


@cache
def _field(name: str) -> Any:
    return WebhookEvent._meta.get_field(name)


@cache
def _update_statement(names: tuple[str, ...]) -> str:
    assignments = ", ".join(f"{name} = %({name})s" for name in names)
    return (
        f"UPDATE {WebhookEvent._meta.db_table} SET {assignments} "
        "WHERE id = %(id)s AND announce_attempts = %(attempt)s"
    )
