"""Every state transition of an event's announcement: planned, claimed, ended.

The rows are changed only here, and only while the attempt that changes them is still the last one.
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
from cellcast_django.database.retries import with_retries
from cellcast_django.models import WebhookEvent, WebhookEventQuerySet, database_alias

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
SPREAD = 0.08
"""The part of a pause by which it may be shorter."""
GOLDEN_RATIO = (5**0.5 - 1) / 2
UNKNOWN_HANDLER = ""
BATCH_SIZE = 1_000
"""How many ids of events that are due are in memory at a time."""


def planned(now: datetime, *, has_handlers: bool) -> dict[str, Any]:
    """Return the event's fields that plan its announcement; without handlers it is announced.

    Inline, the attempt begins right after the commit in this process, so it is already counted and
    leased here: that saves a write, and after a crash the event is due when the lease ends.
    """
    plan = {"announced_at": None, "announce_due_at": now, "announce_attempts": 0}
    if not has_handlers:
        plan |= {"announced_at": now, "announce_due_at": None}
    elif conf.announce_via == "inline":
        lease = timedelta(seconds=conf.announce_lease)
        plan |= {"announce_due_at": now + lease, "announce_attempts": 1}
    return plan


def ending(
    event: WebhookEvent, connected: Sequence[str], asked_for: Mapping[str, datetime]
) -> dict[str, datetime | None]:
    """Return how the attempt leaves the event: announced, failed, or due again after a pause.

    ``connected`` are the handlers of this process, ``asked_for`` says which of them are to be
    called again at a time of their own.
    """
    waiting = unsettled(event, connected)
    if not connected:  # whoever it was stored for is connected in another process
        waiting.append(UNKNOWN_HANDLER)
    if not waiting:
        return settled(event)
    due_at = None
    if event.announce_attempts < conf.announce_max_attempts:
        usual = timezone.now() + pause_after(event.announce_attempts, spread_by=event.pk)
        due_at = min(asked_for.get(name, usual) for name in waiting)
    return {"announced_at": None, "announce_due_at": due_at}


def settled(event: WebhookEvent) -> dict[str, datetime | None]:
    """Return how an event ends that nobody is to be called for: announced, or failed."""
    has_failed = any(event.has_given_up(name) for name in event.announcements)
    return {"announced_at": None if has_failed else timezone.now(), "announce_due_at": None}


def unsettled(event: WebhookEvent, connected: Sequence[str]) -> list[str]:
    """Return the handlers that are still to be called.

    One that failed keeps its event unfinished also where it is not connected.
    """
    names = dict.fromkeys([*connected, *event.announcements])
    return [name for name in names if not event.is_done_with(name)]


def pause_after(attempts: int, *, spread_by: int = 0) -> timedelta:
    """How long to wait after so many attempts: a minute, two, four … and at most six hours.

    Up to 8 % less, by the event's id in ``spread_by``: what failed in one outage does not come
    back in one second. Multiples of the golden ratio spread consecutive ids evenly.
    """
    doublings = min(attempts - 1, 16)  # more would overflow, and the longest is reached by 9
    pause = min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
    return pause * (1 - SPREAD * (spread_by * GOLDEN_RATIO % 1))


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
    return events().select_related("message", "status_change", "opt_out").filter(pk=pk).first()


def lease_end() -> datetime:
    """Until when an attempt that begins or goes on now is left alone by other processes."""
    return timezone.now() + timedelta(seconds=conf.announce_lease)


def claim(event: WebhookEvent, **values: Any) -> bool:
    """Begin an attempt: count it and take the lease. False where another process was quicker."""
    attempts = event.announce_attempts + 1
    return save_if_ours(event, announce_due_at=lease_end(), announce_attempts=attempts, **values)


def has_been_saved(event: WebhookEvent, handler_name: str) -> bool:
    """Whether the database has it that the handler has finished, whatever was raised since."""
    if not event.has_finished(handler_name):  # nobody has tried to save it
        return False
    [announcements] = events().filter(pk=event.pk).values_list("announcements", flat=True)
    return WebhookEvent(announcements=announcements).has_finished(handler_name)


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
