"""Is this message here already? Asked for each reply that looks new, and for nothing else.

Cellcast's API lists replies without an id. So a reply may have been recovered before its webhook
comes, or come by webhook while the recovery looks; contact, text and time tell that the two are one
message. The storing of a webhook knows of recovery only what it asks here.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from cellcast_django.database.exclusion import lock_for_insert
from cellcast_django.inbox.drafts import StatusDraft
from cellcast_django.models import Message, MessageQuerySet, StatusChange
from cellcast_django.payloads import RecoveredReply

EARLIEST = timedelta(minutes=-5)
LATEST = timedelta(hours=24)
"""How long before or after the API's ``received_at`` the webhook may have been stored."""

LATE_WEBHOOK = timedelta(hours=48)
"""How long after ``received_at`` a webhook may still belong to a recovered reply."""


def text_key(body: str) -> str:
    """Return the text with its white space collapsed, for comparing a webhook with the API."""
    return " ".join(body.split())


def lock_out_others(using: str, drafts: Iterable[StatusDraft]) -> None:
    """Keep others from storing replies of the contacts whose replies were recovered.

    Must come first in the transaction, and lasts until it ends.
    """
    for draft in drafts:
        if isinstance(draft.payload, RecoveredReply):
            lock_for_insert(_around(using, draft.payload, draft.message.contact))


def unite(
    using: str, new: Iterable[StatusDraft], rows: Mapping[str, Message], now: datetime
) -> dict[str, Message]:
    """Return, by the key of the reply, the messages as which new replies were stored before.

    ``rows`` are the messages just inserted for them, by their keys. Those that turn out to be
    another one are deleted; the other one takes over what only the webhook knows. One query for the
    webhooks' contacts.
    """
    found: dict[str, Message] = {}
    drafts = [each for each in new if each.message.contact]
    waiting = _waiting(using, drafts, now)
    for draft in drafts:
        payload, row = draft.payload, rows[draft.message.key]
        if isinstance(payload, RecoveredReply):
            other = _brought_by_webhook(using, payload, row.contact)
        else:
            other = next((each for each in waiting if _is_same(each, row)), None)
            if other is not None:
                waiting.remove(other)
        if other is None:
            continue
        Message.objects.using(using).filter(pk=row.pk).delete()
        if not isinstance(payload, RecoveredReply):
            _take_over(using, other, row, payload.status)
        found[row.key] = other
    return found


def _waiting(using: str, drafts: Iterable[StatusDraft], now: datetime) -> list[Message]:
    """Return the recovered replies whose webhook may be one of these."""
    contacts = {
        each.message.contact for each in drafts if not isinstance(each.payload, RecoveredReply)
    }
    if not contacts:
        return []
    replies = Message.objects.using(using).inbound().filter(contact__in=contacts, cellcast_id="")
    since = now - LATE_WEBHOOK
    return list(
        replies.filter(created_at__gte=since).order_by("created_at", "pk").select_for_update()
    )


def _brought_by_webhook(using: str, reply: RecoveredReply, contact: str) -> Message | None:
    """Return the message that a webhook has stored since the recovery looked."""
    candidates = _around(using, reply, contact)
    candidates = candidates.filter(created_at__lte=reply.received_at + LATEST)
    candidates = candidates.exclude(cellcast_id="").exclude(pk__in=reply.claimed)
    wanted = text_key(reply.body)
    in_order = candidates.order_by("created_at", "pk")
    return next((each for each in in_order if text_key(each.body) == wanted), None)


def _around(using: str, reply: RecoveredReply, contact: str) -> MessageQuerySet:
    since = reply.received_at + EARLIEST
    return Message.objects.using(using).inbound().filter(contact=contact, created_at__gte=since)


def _is_same(recovered: Message, row: Message) -> bool:
    return recovered.contact == row.contact and text_key(recovered.body) == text_key(row.body)


def _take_over(using: str, recovered: Message, webhook: Message, status: str) -> None:
    """Take over what only the webhook knows, as if it had come first.

    Its status too: the recovered reply's was a guess, so replacing it runs no handler.
    """
    names = ["key", "cellcast_id", *Message.REPORTED]
    for name in names:
        setattr(recovered, name, getattr(webhook, name))
    recovered.status = status
    recovered.save(using=using, update_fields=[*names, "status"])
    StatusChange.objects.using(using).filter(message=recovered).update(status=status)
