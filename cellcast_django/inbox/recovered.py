"""Replies that both a webhook and Cellcast's API report: one message, whichever comes first.

The API gives a reply no id, so the two are matched by contact, text and time. Nobody else can store
a reply of that contact meanwhile, so a webhook and a recovery that race end as one message too.
"""

from datetime import datetime, timedelta
from typing import Any

from cellcast_django.conf import conf
from cellcast_django.database.exclusion import lock_for_insert
from cellcast_django.models import Direction, Message, MessageQuerySet, StatusChange, message_key
from cellcast_django.payloads import RecoveredReply, RecoveredReport, Reply, StatusReport

EARLIEST = timedelta(minutes=-5)
LATEST = timedelta(hours=24)
"""How long before or after the API's ``received_at`` the webhook may have been stored."""

LATE_WEBHOOK = timedelta(hours=48)
"""How long after ``received_at`` a webhook may still belong to a recovered reply."""


class RecoveredBeforeError(Exception):
    """The reply in this webhook has already been recovered: it is not a new message."""


def text_key(body: str) -> str:
    """Return the text with its white space collapsed, for comparing a webhook with the API."""
    return " ".join(body.split())


def identity(reply: RecoveredReply, contact: str) -> dict[str, Any]:
    """Return the fields of a message that is identified by its time, as it has no id."""
    received_at = reply.received_at.isoformat()
    return {
        "key": message_key(Direction.INBOUND, "recovered", contact, reply.body, received_at),
        "created_at": reply.received_at,
    }


def time_of(payload: Reply | StatusReport, now: datetime) -> datetime:
    """Return the time to record for a status: the API's if it has one, else ``now``."""
    if isinstance(payload, RecoveredReport) and payload.happened_at is not None:
        return min(payload.happened_at, now)
    return now


def stored_around(using: str, reply: RecoveredReply, contact: str) -> MessageQuerySet:
    """Return the contact's messages that may be this reply, already stored from a webhook."""
    since = reply.received_at + EARLIEST
    return Message.objects.using(using).inbound().filter(contact=contact, created_at__gte=since)


def waiting_for_webhook(using: str, contact: str, now: datetime) -> MessageQuerySet:
    """Return the contact's recovered replies whose webhook may still come."""
    since = now - LATE_WEBHOOK
    messages = Message.objects.using(using).inbound()
    return messages.filter(contact=contact, created_at__gte=since, cellcast_id="")


def may_be_recovered(contact: str) -> bool:
    """Whether a reply of the contact may have been recovered before its webhook came.

    Never without an API key; that saves the query.
    """
    return bool(contact and conf.api_key)


def refuse_recovered(using: str, contact: str, body: str, now: datetime) -> None:
    """Raise ``RecoveredBeforeError`` if a recovered reply is waiting for this webhook.

    Call it in the transaction that has just inserted the reply. One query, by an index.
    """
    if _with_text(waiting_for_webhook(using, contact, now), body):
        raise RecoveredBeforeError


def lock_replies(using: str, reply: RecoveredReply, contact: str) -> None:
    """Keep everybody else from storing a reply of the contact until commit. Must come first."""
    lock_for_insert(stored_around(using, reply, contact))


def find_other(using: str, reply: Reply, message: Message, now: datetime) -> Message | None:
    """Return the message that this reply was stored as before, or ``None``.

    ``message`` is the row just inserted for it. If there is another, that row is deleted, and the
    other one takes over what only it knew.
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
    """Return the message that a webhook has stored since the recovery looked."""
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


_TAKEN_OVER = (
    *("key", "cellcast_id", "sender", "receiver", "own_number"),
    *("body", "original_body", "media"),
)


def _complete(using: str, recovered: Message, webhook: Message, status: str) -> None:
    """Take over what only the webhook knows, as if it had come first.

    Its status too: the recovered reply's was a guess, so replacing it runs no handler.
    """
    for name in _TAKEN_OVER:
        setattr(recovered, name, getattr(webhook, name))
    recovered.status = status
    recovered.save(using=using, update_fields=[*_TAKEN_OVER, "status"])
    StatusChange.objects.using(using).filter(message=recovered).update(status=status)
