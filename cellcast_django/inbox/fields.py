"""The fields of a message and of its event that follow from the payload alone."""

from typing import Any

from cellcast_django.inbox import recovered
from cellcast_django.models import Direction, WebhookEvent, message_values
from cellcast_django.payloads import RecoveredReply, Reply, StatusReport


def message_fields(payload: Reply | StatusReport) -> dict[str, Any]:
    """Return the fields of the message that the payload describes, without a status."""
    if isinstance(payload, StatusReport):
        return message_values(
            Direction.OUTBOUND,
            cellcast_id=payload.cellcast_id,
            sender=payload.sender,
            receiver=payload.receiver,
            reference=payload.reference,
        )
    values = message_values(
        Direction.INBOUND,
        cellcast_id=payload.cellcast_id,
        sender=payload.sender,
        receiver=payload.receiver,
        body=payload.body,
        original_body=payload.original_body,
        media=payload.media,
    )
    if isinstance(payload, RecoveredReply):
        values |= recovered.identity(payload, values["contact"])
    return values


def kind_of(payload: Reply | StatusReport) -> WebhookEvent.Kind:
    """Return what an event with this payload reports."""
    return WebhookEvent.Kind.REPLY if isinstance(payload, Reply) else WebhookEvent.Kind.STATUS


def reason_of(payload: Reply | StatusReport) -> str:
    """Return the payload's reason for the status, if it has one."""
    return payload.reason if isinstance(payload, StatusReport) else ""
