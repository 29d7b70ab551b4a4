"""What is personal in each row, and how it is emptied so that the row can stay."""

from typing import Any

from django.db.models import Case, CharField, F, Q, Value, When
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


def redact_messages(using: str, pks: list[int]) -> tuple[int, int]:
    """Redact these messages, with their events; return how many there were of each."""
    events = WebhookEvent.objects.using(using).filter(message__in=pks).exclude(**EMPTY_EVENT)
    redacted = redact_events(using, list(events.values_list("pk", flat=True)))
    _redact_reasons(using, Q(message__in=pks))
    messages = Message.objects.using(using).filter(pk__in=pks)
    return messages.update(**EMPTY_MESSAGE, key=_KEY_WITHOUT_PERSON), redacted


def redact_events(using: str, pks: list[int]) -> int:
    """Redact these events; return how many there were."""
    events = WebhookEvent.objects.using(using).filter(pk__in=pks)
    for event in events.only("announcements").iterator():
        if event.handler_errors():
            for outcome in event.announcements.values():
                outcome["error"] = error_type(outcome["error"])
            event.save(using=using, update_fields=["announcements"])
    _redact_reasons(using, Q(event__in=pks))
    return events.update(**EMPTY_EVENT)


def _redact_reasons(using: str, which: Q) -> None:
    StatusChange.objects.using(using).filter(which).exclude(reason="").update(reason="")
