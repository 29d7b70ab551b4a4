"""The portable way to store a webhook: any number of events, on every database.

The transaction's first statement writes, which locks the messages' rows in the order of their keys;
then come the opt-outs' rows, in the order of their contacts. Every decision is made under these
locks.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone

from cellcast_django.database.inserts import insert
from cellcast_django.database.transactions import own_transaction
from cellcast_django.inbox import recovered
from cellcast_django.inbox.fields import message_fields
from cellcast_django.inbox.locked_rows import LockedRows
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.payloads import Endpoint, Payload, RecoveredReply, Reply, StatusReport

Outbox = Callable[[list[int]], None]
"""Called before the commit with the ids of the events that have something to run."""


class NoLongerInvalidError(Exception):
    """Another process has processed the event in the meantime."""


def write(
    using: str,
    payloads: Sequence[Payload],
    origin: dict[str, Any],
    *,
    replaced: WebhookEvent | None = None,
    outbox: Outbox | None = None,
) -> list[WebhookEvent]:
    """Write everything in one transaction of its own, and return the events in the payloads' order.

    The first event takes the place of ``replaced``, an invalid one. Raises ``NoLongerInvalidError``
    if that one is not invalid any more.
    """
    now = timezone.now()
    named = {
        payload: _new_message(payload, now, origin)
        for payload in payloads
        if isinstance(payload, Reply | StatusReport)
    }
    with own_transaction(using):
        for payload, message in named.items():
            if isinstance(payload, RecoveredReply):
                recovered.lock_replies(using, payload, message.contact)
        # What comes from elsewhere has a time of its own, which says what it is older than.
        have_just_arrived = replaced is None and origin["endpoint"] != Endpoint.API
        locked = LockedRows(using, named, now, have_just_arrived=have_just_arrived)
        if not origin["is_test"]:
            locked.unite_with_recovered()
        locked.lock_opt_outs(payloads)
        events = [
            locked.enter(WebhookEvent(body=payload.raw, **origin), payload) for payload in payloads
        ]
        if replaced is not None:
            _replace(using, replaced, events[0])
        insert(using, events if replaced is None else events[1:])
        locked.save()
        due = [event.pk for event in events if event.next_run_at is not None]
        if outbox is not None and due:
            outbox(due)
    return events


def _new_message(payload: Reply | StatusReport, now: datetime, origin: dict[str, Any]) -> Message:
    """Return the message as it is inserted if this payload is the first to report it."""
    message = Message(
        **message_fields(payload),
        status=payload.status,
        status_changed_at=recovered.time_of(payload, now),
    )
    if origin["is_test"]:  # nobody needs to do anything about a test of our own
        message.handled_at = origin["received_at"]
    return message


_REPLACED_FIELDS = (
    "kind",
    "outcome",
    "error",
    "body",
    "cellcast_id",
    "contact",
    "message",
    "done_at",
    "next_run_at",
    "attempts",
)


def _replace(using: str, replaced: WebhookEvent, event: WebhookEvent) -> None:
    """Put ``event`` in the place of an invalid one, unless another process was quicker."""
    values = {name: getattr(event, name) for name in _REPLACED_FIELDS}
    if event.outcome != WebhookEvent.Outcome.INVALID:
        values["dismissed_at"] = None
    if not WebhookEvent.objects.using(using).unreadable().filter(pk=replaced.pk).update(**values):
        raise NoLongerInvalidError
    event.pk = replaced.pk
    event._state.adding = False
