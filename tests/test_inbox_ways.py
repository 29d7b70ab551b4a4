"""The database's own way of writing and the portable one always end in the same rows."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from cellcast_django import inbox
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.payloads import (
    Endpoint,
    Invalid,
    OptOut as OptOutPayload,
    Payload,
    Reply,
    StatusReport,
)
from cellcast_django.statuses import Status
from tests.ways import portable_way

ids = st.sampled_from(["66b5b93b1e2c012dfe964000", "7"])
numbers = st.sampled_from(["", "+61400000001", "0400 000 002"])
statuses = st.sampled_from([*Status.values, "paused", "unknown"])
parts: dict[str, Any] = {
    "raw": st.sampled_from(["{}", '{"_id": "…"}']),
    "cellcast_id": ids,
    "sender": numbers,
    "receiver": numbers,
    "status": statuses,
}
reports = st.builds(
    StatusReport,
    **parts,
    reason=st.sampled_from(["", "no credit", "%s '"]),
    reference=st.sampled_from(["", "booking-7", "%s '"]),
)
replies = st.builds(
    Reply,
    **parts,
    body=st.sampled_from(["", "yes", "STOP"]),
    original_body=st.sampled_from(["", "Coming?"]),
    media=st.sampled_from([(), ("https://media.example.com/1.jpg", "https://example.com/ü?'")]),
)
others = st.just(OptOutPayload(raw="{}", number="400000001")) | st.just(
    Invalid(raw="[", reason="…")
)


@pytest.mark.django_db
@settings(max_examples=settings().max_examples // 4)
@given(st.lists(reports | replies | others, min_size=1, max_size=8))
def test_both_ways_write_the_same_rows(payloads: list[Payload]) -> None:
    own = rows_of(payloads)
    with portable_way():
        assert rows_of(payloads) == own


def rows_of(payloads: list[Payload]) -> dict[str, list[Any]]:
    """Store the payloads one by one in empty tables, and return the rows."""
    for model in (OptOut, StatusChange, WebhookEvent, Message):
        model._default_manager.all().delete()
    for payload in payloads:
        inbox.store([payload], endpoint=Endpoint.RECEIVE, content_type="text/json", username="me")
    events = list(WebhookEvent.objects.order_by("pk"))
    changes = StatusChange.objects.order_by("pk").select_related("message", "event")
    return {
        "messages": [
            (
                *(getattr(message, name) for name in MESSAGE_FIELDS),
                message.status_changed_at
                == message.status_history.filter(applied=True).latest("pk").recorded_at,
            )
            for message in Message.objects.order_by("pk")
        ],
        "history": [
            (
                *(getattr(change, name) for name in HISTORY_FIELDS),
                change.message.key,
                events.index(change.event) if change.event else None,
            )
            for change in changes
        ],
        "events": [
            (
                *(getattr(event, name) for name in EVENT_FIELDS),
                event.message and event.message.key,
                event.done_at is None,
            )
            for event in events
        ],
        "opt-outs": sorted(OptOut.objects.values_list("contact", "source", "ended_at")),
    }


def _fields(model: Any) -> list[str]:
    """Return the columns that can be compared: no primary keys and no times."""
    kinds = ("AutoField", "BigAutoField", "DateTimeField", "ForeignKey", "OneToOneField")
    return [field.name for field in model._meta.fields if field.get_internal_type() not in kinds]


# From the previous status the single statement learns what it has changed. For a duplicate the two
# ways differ in it, and nobody reads it.
MESSAGE_FIELDS = [name for name in _fields(Message) if name != "previous_status"] + ["submitted_at"]
HISTORY_FIELDS = _fields(StatusChange)
EVENT_FIELDS = _fields(WebhookEvent)
