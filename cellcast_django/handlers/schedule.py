"""Every state transition of an event after it has been stored: begun, waiting, ended.

Rows are changed only here, and only by the latest run.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.database import prepared_statements
from cellcast_django.database.transactions import own_statement, own_transaction, with_retries
from cellcast_django.handlers.facts import calls_of
from cellcast_django.models import (
    HandlerResult,
    WebhookEvent,
    WebhookEventQuerySet,
    database_alias,
    is_final,
)

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
SPREAD = 0.08
"""The fraction of a pause by which it may be shortened."""
GOLDEN_RATIO = (5**0.5 - 1) / 2
LONG_AGO = 86_400.0
BATCH_SIZE = 1_000
"""How many ids of due events are read at a time."""

Results = Mapping[str, HandlerResult]


# When a handler is called again


def pause_after(attempts: int, *, spread_by: int = 0) -> timedelta:
    """Return the pause after this many attempts: a minute, two, four … and at most six hours.

    It is up to 8 % shorter, depending on the event's id in ``spread_by``, so that everything that
    failed in one outage is not retried in the same second. Multiples of the golden ratio spread
    consecutive ids evenly.
    """
    doublings = min(attempts - 1, 16)  # more would overflow, and the longest is reached by 9
    pause = min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
    return pause * (1 - SPREAD * (spread_by * GOLDEN_RATIO % 1))


def usual_time(attempts: int) -> timedelta:
    """Return how long the pauses between so many attempts take: 20 hours for twelve."""
    return sum(map(pause_after, range(1, attempts)), timedelta())


def retry_time(
    event: WebhookEvent, attempts: int, after: timedelta | None = None
) -> datetime | None:
    """Return when to call a handler again that has failed this often; ``None`` for never.

    ``after`` is what it asked for by ``RetryLater``: that is granted for as long as the attempts or
    the time that they usually take are not used up.
    """
    now, limit = timezone.now(), conf.handler_max_attempts
    if attempts < limit:
        return now + (pause_after(attempts, spread_by=event.pk) if after is None else after)
    if after is not None and now < event.received_at + usual_time(limit):
        return now + after
    return None


def due_time(result: HandlerResult | None) -> datetime:
    """Return from when on a handler with this result may be called; long ago if it never was."""
    text = result.get("retry_at") if result else None
    # By the timestamp, as USE_TZ may have changed since.
    seconds = datetime.fromisoformat(text).timestamp() if text else LONG_AGO
    return datetime.fromtimestamp(seconds, tz=timezone.now().tzinfo)


def fields_when_ended(results: Results, names: list[str]) -> dict[str, datetime | None]:
    """Return the event's fields after a run: done, failed, or due again.

    ``names`` are those of the connected handlers. One that failed counts even if it is not
    connected in this process.
    """
    waiting = unfinished(results, names)
    if waiting:
        now = timezone.now()
        due_at = min(due_time(results.get(name)) for name in waiting)
        return {"done_at": None, "next_run_at": max(due_at, now)}
    has_failed = any(result["error"] for result in results.values())
    return {"done_at": None if has_failed else timezone.now(), "next_run_at": None}


def unfinished(results: Results, names: list[str]) -> list[str]:
    """Return the names of the handlers still to be called, connected or failed before."""
    known = dict.fromkeys([*names, *results])
    return [name for name in known if name not in results or not is_final(results[name])]


# Reading events


def events() -> WebhookEventQuerySet:
    """Return all events, from the database that is written to."""
    return WebhookEvent.objects.using(database_alias())


def due_ids() -> Iterator[int]:
    """Yield the ids of due events, longest waiting first; after an outage there are many."""
    due = events().due(timezone.now()).order_by("next_run_at", "pk")
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
    return with_facts(events()).filter(pk=pk).first()


def with_facts(events: WebhookEventQuerySet) -> WebhookEventQuerySet:
    """Read the rows that the facts of the events consist of in the same query."""
    return events.select_related("message", "status_change", "opt_out_change__opt_out")


def is_saved_as_finished(pk: int, handler_name: str) -> bool:
    """Whether the handler's success is in the database, whatever was raised after the commit."""
    [results] = events().filter(pk=pk).values_list("handler_results", flat=True)
    return WebhookEvent(handler_results=results).has_finished(handler_name)


# Writing them


def save_if_latest(
    pk: int,
    run: int,
    values: dict[str, Any],
    then: Callable[[str], object] | None = None,
) -> bool:
    """Save these fields, unless another process has begun a run of the event since this one.

    ``run`` is the number that ``attempts`` had when this one began. ``then`` is called with the
    database's alias in the same transaction. Raises ``django.db.Error``.
    """

    def save(using: str) -> bool:
        if then is None:
            return _update_event(connections[using], pk, run, values) == 1
        with _transaction(using):
            is_saved = _update_event(connections[using], pk, run, values) == 1
            if is_saved:
                then(using)
        return is_saved

    return with_retries(save, using=database_alias())


def _transaction(using: str) -> AbstractContextManager[None]:
    is_inside = connections[using].in_atomic_block
    return transaction.atomic(using=using) if is_inside else own_transaction(using)


def _update_event(
    connection: BaseDatabaseWrapper, pk: int, run: int, values: dict[str, Any]
) -> int:
    """Return how many rows changed: one statement, at a third of the cost of ``update()``."""
    adapted = {
        name: _field(name).get_db_prep_save(value, connection) for name, value in values.items()
    }
    adapted |= {"id": pk, "run": run}
    statement = _update_statement(tuple(values))
    with (
        own_statement(connection.alias),
        prepared_statements.execute(connection, statement, adapted) as cursor,
    ):
        return int(cursor.rowcount)


@cache
def _field(name: str) -> Any:
    return WebhookEvent._meta.get_field(name)


@cache
def _update_statement(names: tuple[str, ...]) -> str:
    assignments = ", ".join(f"{name} = %({name})s" for name in names)
    return (
        f"UPDATE {WebhookEvent._meta.db_table} SET {assignments} "
        "WHERE id = %(id)s AND attempts = %(run)s"
    )


# One contact's events, in order


def pending_of(contact: str) -> WebhookEventQuerySet:
    """Return the contact's pending events, by the index that begins with these two columns."""
    return events().filter(contact=contact, next_run_at__gt=due_time(None))


def earlier_unfinished(pk: int, contact: str, handler: str) -> WebhookEvent | None:
    """Return the contact's last event before this one that the handler has not finished with."""
    earlier = with_facts(pending_of(contact)).filter(pk__lt=pk).order_by("-pk")
    for event in earlier if contact else ():
        calls = [call for call in calls_of(event) if call.handler == handler]
        if not all(event.is_done_with(call.name) for call in calls):
            return event
    return None


def next_due(contact: str, after: int) -> WebhookEvent | None:
    """Return the contact's first due event after the one with this key."""
    due = pending_of(contact).filter(pk__gt=after, next_run_at__lte=timezone.now())
    return with_facts(due).order_by("pk").first()


def wait(
    pk: int, run: int, contact: str, earlier: Mapping[str, WebhookEvent], values: dict[str, Any]
) -> bool:
    """Save these fields and what the event waits for, by handler; false if that has changed.

    Whoever ends an earlier event locks its row, and then tells those that wait for it. So the row
    is locked here too before it is looked at for the last time.
    """

    def write(using: str) -> bool:
        with _transaction(using):
            pks = {event.pk for event in earlier.values()}
            # Writes nothing, but locks on every database.
            events().filter(pk__in=pks).update(next_run_at=F("next_run_at"))
            now = [earlier_unfinished(pk, contact, handler) for handler in earlier]
            found = {event.pk: event.next_run_at for event in now if event is not None}
            if None in now or set(found) != pks:
                return False
            times = [time for time in (values["next_run_at"], *found.values()) if time is not None]
            waiting = values | {"next_run_at": min(times), "waiting_for": min(pks)}
            _update_event(connections[using], pk, run, waiting)
            return True

    return with_retries(write, using=database_alias())


def release(pk: int, contact: str) -> int:
    """Make the events due that wait for this one, or for one before it; return how many."""
    waiting = pending_of(contact).filter(waiting_for__lte=pk)
    return waiting.update(next_run_at=timezone.now(), waiting_for=None)


def postpone(pk: int, contact: str, until: datetime) -> None:
    """Tell the events that wait for this one when it is run again."""
    pending_of(contact).filter(waiting_for=pk).update(next_run_at=until)
