"""A contact's order: what a handler ``in_order`` has to finish first, and who waits for that.

An event waits for the one before it, never for all of them, and counts as an intervention there:
so whoever ends a run of that one knows that somebody waits, and tells them in the same transaction.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import NamedTuple

from django.db.models import F
from django.db.models.functions import Least
from django.utils import timezone

from cellcast_django.handlers.calls import calls_of, with_facts
from cellcast_django.models import (
    HandlerResult,
    WebhookEvent,
    WebhookEventQuerySet,
)


class Earlier(NamedTuple):
    """An earlier event of the contact, and the name of the handler's result there."""

    pk: int
    name: str


def pending_of(contact: str) -> WebhookEventQuerySet:
    """Return the contact's pending events, by their index: only what is pending has a time."""
    return WebhookEvent.objects.fresh().filter(contact=contact, next_run_at__isnull=False)


# Before a call


def before(pk: int, contact: str, handler: str) -> Iterator[tuple[Earlier, HandlerResult | None]]:
    """Yield the handler's results for the contact's pending events before this one, last first.

    Usually the first of them decides, so that one is read alone.
    """
    pending = pending_of(contact).order_by("-pk")
    if not contact or not pending.filter(pk__lt=pk).exists():  # a third of the cost of reading none
        return
    size = 1
    while events := with_facts(pending.filter(pk__lt=pk))[:size]:
        for event in events:
            for call in calls_of(event):
                if call.handler == handler:
                    yield Earlier(event.pk, call.name), event.handler_results.get(call.name)
            pk = event.pk
        size = min(10 * size, 100)


def lock(pks: Collection[int]) -> dict[int, WebhookEvent]:
    """Say that somebody waits for these events, which locks them; return those still pending."""
    events = WebhookEvent.objects.fresh().filter(pk__in=pks)
    events.update(interventions=F("interventions") + 1)
    return {each.pk: each for each in events.pending().only("next_run_at", "handler_results")}


# When a run of an event ends


def release(contact: str, pk: int) -> bool:
    """Make due what waits for this event, or for one before it; return whether anything does.

    What waits behind has no later time than what it waits for.
    """
    now, waiting = timezone.now(), _waiting(contact)
    released = waiting.filter(waiting_for__lte=pk)
    is_released = released.update(next_run_at=Least("next_run_at", now), waiting_for=None) > 0
    if is_released:
        waiting.filter(next_run_at__gt=now).only_waiting().update(next_run_at=now)
    return is_released


def postpone(contact: str, pk: int, until: datetime) -> None:
    """Let everything wait until then that waits for this event, or for one behind it.

    Except where another handler is called again: that keeps its time.
    """
    _waiting(contact).filter(waiting_for__gte=pk).only_waiting().update(next_run_at=until)


def release_orphans() -> list[int]:
    """Make due what waits for events that were deleted, which nobody has ended; return its keys."""
    orphans = list(WebhookEvent.objects.fresh().orphaned().only("contact", "waiting_for"))
    for event in orphans:
        release(event.contact, event.waiting_for or 0)
    return [event.pk for event in orphans]


def next_due(contact: str, after: int) -> WebhookEvent | None:
    """Return the contact's first due event after the one with this key that waits for nobody."""
    due = pending_of(contact).filter(
        pk__gt=after, next_run_at__lte=timezone.now(), waiting_for__isnull=True
    )
    return with_facts(due).order_by("pk").first()


def _waiting(contact: str) -> WebhookEventQuerySet:
    return pending_of(contact).filter(waiting_for__isnull=False)
