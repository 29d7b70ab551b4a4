"""Delete or redact rows in short transactions, each batch locked in one order."""

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from django.db import transaction
from django.db.models import Case, CharField, F, Max, Min, Q, QuerySet, Value, When
from django.db.models.functions import Cast, Concat

from cellcast_django.database.retries import with_retries
from cellcast_django.models import (
    Direction,
    Message,
    StatusChange,
    WebhookEvent,
    database_alias,
    error_type,
)
from cellcast_django.retention.selection import BATCH_SIZE, EMPTY_EVENT, EMPTY_MESSAGE, Removed

BATCH_SECONDS = 60
"""How long a failed batch is retried: longer than a webhook, as nobody waits for a response."""

Remover = Callable[[str, list[int]], Removed]
"""Takes the alias of the database, and the primary keys of locked rows."""


def in_batches(rows: QuerySet[Any], lock_order: str, remove: Remover) -> Iterator[Removed]:
    """Remove the rows, and yield after each batch. ``lock_order`` is a field."""
    for pks in _batches(rows, lock_order):

        def remove_batch(using: str, pks: list[int] = pks) -> Removed:
            with transaction.atomic(using=using):
                return remove(using, _lock(rows, pks, lock_order))

        yield with_retries(remove_batch, using=database_alias(), for_seconds=BATCH_SECONDS)


def _batches(rows: QuerySet[Any], lock_order: str) -> Iterator[list[int]]:
    """Yield the primary keys of each batch, in the order of their locks."""
    bounds = rows.aggregate(first=Min("pk"), last=Max("pk"))
    if bounds["last"] is None:
        return
    start, last = bounds["first"], bounds["last"]
    while True:
        ahead = rows.filter(pk__gte=start, pk__lte=last).order_by("pk")
        batch = list(ahead.values_list("pk", lock_order)[:BATCH_SIZE])
        if batch:
            # Each row is (pk, lock_order), or just (pk,) if that is the order.
            yield [row[0] for row in sorted(batch, key=itemgetter(-1))]
        if len(batch) < BATCH_SIZE:
            return
        start = batch[-1][0] + 1


def _lock(rows: QuerySet[Any], pks: list[int], lock_order: str) -> list[int]:
    """Lock these rows, and return those that are still selected."""
    candidates = rows.model.objects.using(rows.db).filter(pk__in=pks)
    # A write that changes nothing: on SQLite, a transaction that reads first may fail to write.
    candidates.filter(pk=pks[0]).update(cellcast_id=F("cellcast_id"))
    list(candidates.order_by(lock_order).select_for_update().values_list("pk"))
    return list(rows.filter(pk__in=pks).values_list("pk", flat=True))


def delete_messages(using: str, pks: list[int]) -> Removed:
    """Delete these messages, with their events."""
    events = delete(WebhookEvent.objects.using(using).filter(message__in=pks))
    return Removed(delete(Message.objects.using(using).filter(pk__in=pks)), events)


def delete_events(using: str, pks: list[int]) -> Removed:
    """Delete these events."""
    return Removed(0, delete(WebhookEvent.objects.using(using).filter(pk__in=pks)))


def delete(rows: QuerySet[Any]) -> int:
    """Delete the rows and whatever depends on them; return how many rows of this model."""
    _, deleted = rows.delete()
    return deleted.get(rows.model._meta.label, 0)


_KEY_WITHOUT_PERSON = Case(
    When(
        direction=Direction.INBOUND,
        then=Concat(Value("redacted-"), Cast("pk", CharField(max_length=19))),
    ),
    default=F("key"),
    output_field=CharField(),
)


def redact_messages(using: str, pks: list[int]) -> Removed:
    """Redact these messages, with their events."""
    events = WebhookEvent.objects.using(using).filter(message__in=pks).exclude(**EMPTY_EVENT)
    removed = redact_events(using, list(events.values_list("pk", flat=True)))
    _redact_reasons(using, Q(message__in=pks))
    messages = Message.objects.using(using).filter(pk__in=pks)
    return Removed(messages.update(**EMPTY_MESSAGE, key=_KEY_WITHOUT_PERSON), removed.events)


def redact_events(using: str, pks: list[int]) -> Removed:
    """Redact these events."""
    events = WebhookEvent.objects.using(using).filter(pk__in=pks)
    for event in events.only("announcements").iterator(chunk_size=BATCH_SIZE):
        if event.handler_errors():
            for outcome in event.announcements.values():
                outcome["error"] = error_type(outcome["error"])
            event.save(using=using, update_fields=["announcements"])
    _redact_reasons(using, Q(event__in=pks))
    return Removed(0, events.update(**EMPTY_EVENT))


def _redact_reasons(using: str, which: Q) -> None:
    StatusChange.objects.using(using).filter(which).exclude(reason="").update(reason="")
