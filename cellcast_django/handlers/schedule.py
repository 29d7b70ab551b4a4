"""Every state transition of an event: planned, claimed, ended.

Rows are changed only here, and only by the latest attempt.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.database import lock_waits, prepared_statements
from cellcast_django.database.transactions import with_retries
from cellcast_django.models import WebhookEvent, WebhookEventQuerySet, database_alias

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
SPREAD = 0.08
"""The fraction of a pause by which it may be shortened."""
GOLDEN_RATIO = (5**0.5 - 1) / 2
UNKNOWN_HANDLER = ""
BATCH_SIZE = 1_000
"""How many ids of due events are read at a time."""


def planned(now: datetime, *, has_handlers: bool) -> dict[str, Any]:
    """Return the event's fields that plan its first attempt; without handlers it is done.

    Inline, the attempt begins right after the commit in this process, so it is already counted and
    leased here: that saves a write, and after a crash the event is due when the lease ends.
    """
    plan = {"done_at": None, "next_run_at": now, "attempts": 0}
    if not has_handlers:
        plan |= {"done_at": now, "next_run_at": None}
    elif conf.run_handlers == "inline":
        lease = timedelta(seconds=conf.handler_lease)
        plan |= {"next_run_at": now + lease, "attempts": 1}
    return plan


def ending(
    event: WebhookEvent, connected: Sequence[str], retry_times: Mapping[str, datetime]
) -> dict[str, datetime | None]:
    """Return the fields that end an attempt: done, failed, or due again after a pause.

    ``connected`` are the names of this process's handlers; ``retry_times`` holds the times at which
    handlers asked to be called again.
    """
    waiting = unsettled(event, connected)
    if not connected:  # the handler it was stored for is connected in another process
        waiting.append(UNKNOWN_HANDLER)
    if not waiting:
        return settled(event)
    due_at = None
    if event.attempts < conf.handler_max_attempts:
        usual = timezone.now() + pause_after(event.attempts, spread_by=event.pk)
        due_at = min(retry_times.get(name, usual) for name in waiting)
    return {"done_at": None, "next_run_at": due_at}


def settled(event: WebhookEvent) -> dict[str, datetime | None]:
    """Return the fields of an event with no handler left to call: done, or failed."""
    has_failed = any(event.has_given_up(name) for name in event.handler_results)
    return {"done_at": None if has_failed else timezone.now(), "next_run_at": None}


def unsettled(event: WebhookEvent, connected: Sequence[str]) -> list[str]:
    """Return the names of the handlers still to be called.

    One that failed counts even if it is not connected in this process.
    """
    names = dict.fromkeys([*connected, *event.handler_results])
    return [name for name in names if not event.is_done_with(name)]


def pause_after(attempts: int, *, spread_by: int = 0) -> timedelta:
    """Return the pause after this many attempts: a minute, two, four … and at most six hours.

    It is up to 8 % shorter, depending on the event's id in ``spread_by``, so that everything that
    failed in one outage is not retried in the same second. Multiples of the golden ratio spread
    consecutive ids evenly.
    """
    doublings = min(attempts - 1, 16)  # more would overflow, and the longest is reached by 9
    pause = min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
    return pause * (1 - SPREAD * (spread_by * GOLDEN_RATIO % 1))


def events() -> WebhookEventQuerySet:
    """Return all events, from the database that is written to."""
    return WebhookEvent.objects.using(database_alias())


def due_ids(now: datetime) -> Iterator[int]:
    """Yield the ids of due events, longest waiting first; after an outage there are many."""
    due = events().due(now).order_by("next_run_at", "pk")
    rest = due
    while True:
        batch = list(rest.values_list("next_run_at", "pk")[:BATCH_SIZE])
        yield from (pk for _, pk in batch)
        if len(batch) < BATCH_SIZE:
            return
        at, last = batch[-1]
        is_later = Q(next_run_at__gt=at) | Q(pk__gt=last)
        rest = due.filter(is_later, next_run_at__gte=at)  # for the index


def load(pk: int) -> WebhookEvent | None:
    """Return the event with its message, its history row and its opt-out."""
    related = ("message", "status_change", "opt_out_change__opt_out")
    return events().select_related(*related).filter(pk=pk).first()


def lease_end() -> datetime:
    """Return the time until which other processes leave a running attempt alone."""
    return timezone.now() + timedelta(seconds=conf.handler_lease)


def claim(event: WebhookEvent, **values: Any) -> bool:
    """Begin an attempt: count it and take the lease; false if another process was quicker."""
    attempts = event.attempts + 1
    return save_if_ours(event, next_run_at=lease_end(), attempts=attempts, **values)


def has_been_saved(event: WebhookEvent, handler_name: str) -> bool:
    """Whether the handler's success is in the database, whatever was raised after the commit."""
    if not event.has_finished(handler_name):  # it was never about to be saved
        return False
    [results] = events().filter(pk=event.pk).values_list("handler_results", flat=True)
    return WebhookEvent(handler_results=results).has_finished(handler_name)


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
    """Save these fields if the event's attempt is still the latest; return how many rows changed.

    One statement, at a third of the cost of ``QuerySet.update``.
    """
    execute = lock_waits.execute if connection.vendor == "sqlite" else prepared_statements.execute
    adapted = {
        name: _field(name).get_db_prep_save(value, connection) for name, value in values.items()
    }
    adapted |= {"id": event.pk, "attempt": event.attempts}
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
        "WHERE id = %(id)s AND attempts = %(attempt)s"
    )
