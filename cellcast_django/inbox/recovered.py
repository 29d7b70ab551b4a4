"""Replies of which both a webhook and Cellcast's API tell: one message, whichever comes first.

The API gives a reply no id, so the two are told to be one by contact, text and time. That is
decided while nobody else stores a reply of the contact: a webhook and a recovery that race end as
one message too.
"""

from datetime import datetime, timedelta
from typing import Any

from cellcast_django.conf import conf
from cellcast_django.database.exclusion import lock_for_insert
from cellcast_django.models import (
    Direction,
    Message,
    MessageQuerySet,
    StatusChange,
    message_key,
)
from cellcast_django.payloads import RecoveredReply, RecoveredReport, Reply, StatusReport

EARLIEST = timedelta(minutes=-5)
LATEST = timedelta(hours=24)
"""A message may have been stored so long after the time at which the API says it was received."""

LATE_WEBHOOK = timedelta(hours=48)
"""So long after it was received, a webhook may still belong to a recovered reply."""


class RecoveredBeforeError(Exception):
    """The reply of this webhook has been recovered before: it is no new message."""


def text_key(body: str) -> str:
    """Return what two spellings of one text have in common: all but the white space."""
    return " ".join(body.split())


def identity(reply: RecoveredReply, contact: str) -> dict[str, Any]:
    """Return the fields of a message that is known by its time, for want of an id."""
    received_at = reply.received_at.isoformat()
    return {
        "key": message_key(Direction.INBOUND, "recovered", contact, reply.body, received_at),
        "created_at": reply.received_at,
    }


def time_of(payload: Reply | StatusReport, now: datetime) -> datetime:
    """Return the time to record for a status: that of the API where it tells one, else ``now``."""
    if isinstance(payload, RecoveredReport) and payload.happened_at is not None:
        return min(payload.happened_at, now)
    return now


def stored_around(using: str, reply: RecoveredReply, contact: str) -> MessageQuerySet:
    """Return the messages of the contact that may be this reply, brought by a webhook."""
    since = reply.received_at + EARLIEST
    return Message.objects.using(using).inbound().filter(contact=contact, created_at__gte=since)


def waiting_for_webhook(using: str, contact: str, now: datetime) -> MessageQuerySet:
    """Return the recovered replies of the contact whose webhook may still come."""
    since = now - LATE_WEBHOOK
    messages = Message.objects.using(using).inbound()
    return messages.filter(contact=contact, created_at__gte=since, cellcast_id="")


def may_be_recovered(contact: str) -> bool:
    """Whether a reply of the contact may have been recovered before its webhook came.

    Without an API key nothing has been, and nothing is asked.
    """
    return bool(contact and conf.api_key)


def refuse_recovered(using: str, contact: str, body: str, now: datetime) -> None:
    """Raise ``RecoveredBeforeError`` where a recovered reply has waited for the webhook of this.

    Call it in the transaction that has just inserted the reply. It is one look-up, by an index.
    """
    if _with_text(waiting_for_webhook(using, contact, now), body):
        raise RecoveredBeforeError


def lock_replies(using: str, reply: RecoveredReply, contact: str) -> None:
    """Let nobody else store a reply of the contact until the transaction ends. Must come first."""
    lock_for_insert(stored_around(using, reply, contact))


def find_other(using: str, reply: Reply, message: Message, now: datetime) -> Message | None:
    """Return the message that this reply has become before; ``message`` is its row, just inserted.

    Then the new row is gone, and the other one knows all that the two of them do.
    """
    if isinstance(reply, RecoveredReply):
        other = _brought_by_webhook(using, reply, message)
    elif may_be_recovered(message.contact):
        other = _recovered(using, message, now)
    else:
        return None
    if other is None:
        return None
    Message.objects.using(using).filter(pk=message.pk).delete()
    if not isinstance(reply, RecoveredReply):
        _complete(using, other, message, reply.status)
    return other


def _brought_by_webhook(using: str, reply: RecoveredReply, message: Message) -> Message | None:
    """Return the message that a webhook has brought since the recovery looked."""
    candidates = stored_around(using, reply, message.contact)
    candidates = candidates.filter(created_at__lte=reply.received_at + LATEST)
    candidates = candidates.exclude(cellcast_id="").exclude(pk__in=reply.claimed)
    return _with_text(candidates, reply.body)


def _recovered(using: str, message: Message, now: datetime) -> Message | None:
    return _with_text(
        waiting_for_webhook(using, message.contact, now).select_for_update(), message.body
    )


def _with_text(candidates: MessageQuerySet, body: str) -> Message | None:
    wanted = text_key(body)
    in_order = candidates.order_by("created_at", "pk")
    return next((each for each in in_order if text_key(each.body) == wanted), None)


_TAKEN_OVER = ("key", "cellcast_id", "sender", "receiver", "body", "original_body", "media")


def _complete(using: str, recovered: Message, webhook: Message, status: str) -> None:
    """Take over what only the webhook knows, as if it had come first.

    Its status too: that of the recovered reply was a guess, which is no news to anybody.
    """
    for name in _TAKEN_OVER:
        setattr(recovered, name, getattr(webhook, name))
    recovered.status = status
    recovered.save(using=using, update_fields=[*_TAKEN_OVER, "status"])
    StatusChange.objects.using(using).filter(message=recovered).update(status=status)
