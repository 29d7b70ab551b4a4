"""How rows go: deleted, or redacted, which empties what is personal so that the row can stay.

Each function takes the alias of the database and the primary keys of rows that are locked.
"""

from typing import Any, NamedTuple

from django.db.models import Case, CharField, F, Q, QuerySet, Value, When
from django.db.models.functions import Cast, Concat

from cellcast_django.models.message import Message
from cellcast_django.models.message_identity import Direction
from cellcast_django.models.status_change import StatusChange
from cellcast_django.models.webhook_event import WebhookEvent, error_type

EMPTY_MESSAGE: dict[str, Any] = {
    **dict.fromkeys(("sender", "receiver", "contact", "body", "original_body"), ""),
    "media": [],
}
EMPTY_EVENT = dict.fromkeys(("body", "contact", "error"), "")

_KEY_WITHOUT_PERSON = Case(
    When(
        direction=Direction.INBOUND,
        then=Concat(Value("redacted-"), Cast("pk", CharField(max_length=19))),
    ),
    default=F("key"),
    output_field=CharField(),
)


class Removed(NamedTuple):
    """How many messages and events were deleted or redacted."""

    messages: int
    events: int


def delete_messages(using: str, pks: list[int]) -> Removed:
    """Delete these messages, with their history and events."""
    events = delete(WebhookEvent.objects.using(using).filter(message__in=pks))
    return Removed(delete(Message.objects.using(using).filter(pk__in=pks)), events)


def delete_events(using: str, pks: list[int]) -> Removed:
    """Delete these events."""
    return Removed(0, delete(WebhookEvent.objects.using(using).filter(pk__in=pks)))


def delete(rows: QuerySet[Any]) -> int:
    """Delete the rows and whatever depends on them; return how many rows of this model."""
    _, deleted = rows.delete()
    return deleted.get(rows.model._meta.label, 0)


def redact_messages(using: str, pks: list[int]) -> Removed:
    """Redact these messages, with their history and events."""
    events = WebhookEvent.objects.using(using).filter(message__in=pks).exclude(**EMPTY_EVENT)
    redacted = redact_events(using, list(events.values_list("pk", flat=True)))
    _redact_reasons(using, Q(message__in=pks))
    messages = Message.objects.using(using).filter(pk__in=pks)
    return redacted._replace(messages=messages.update(**EMPTY_MESSAGE, key=_KEY_WITHOUT_PERSON))


def redact_events(using: str, pks: list[int]) -> Removed:
    """Redact these events, and the reasons that they reported."""
    events = WebhookEvent.objects.using(using).filter(pk__in=pks)
    for event in events.only("handler_results").iterator():
        if event.handler_errors():
            for outcome in event.handler_results.values():
                outcome["error"] = error_type(outcome["error"])
            event.save(using=using, update_fields=["handler_results"])
    _redact_reasons(using, Q(event__in=pks))
    return Removed(0, events.update(**EMPTY_EVENT))


def _redact_reasons(using: str, which: Q) -> None:
    StatusChange.objects.using(using).filter(which).exclude(reason="").update(reason="")
