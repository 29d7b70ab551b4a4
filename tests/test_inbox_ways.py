"""The database's own way of writing and the portable one always end in the same rows."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from django.db import models
from django.utils import timezone
from hypothesis import example, given, settings, strategies as st

from cellcast_django import inbox
from cellcast_django.models import Message, OptOut, OptOutChange, StatusChange, WebhookEvent
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.payloads import (
    Endpoint,
    Invalid,
    OptOut as OptOutPayload,
    Payload,
    Reply,
    StatusReport,
)
from cellcast_django.statuses import Status
from tests.handlers import SIGNALS, Calls, connected
from tests.ways import portable_way

Step = Payload | Callable[[], object]
"""A webhook, or what a member of staff does."""

NUMBERS = ("+61400000001", "0400 000 002")

numbers = st.sampled_from(["", *NUMBERS])
parts: dict[str, Any] = {
    "raw": st.sampled_from(["{}", '{"_id": "…"}']),
    "cellcast_id": st.sampled_from(["66b5b93b1e2c012dfe964000", "7"]),
    "sender": numbers,
    "receiver": numbers,
    "status": st.sampled_from([*Status.values, "paused", "unknown"]),
}
reports = st.builds(
    StatusReport,
    **parts,
    reason=st.sampled_from(["", "no credit", "%s '"]),
)
replies = st.builds(
    Reply,
    **parts,
    body=st.sampled_from(["", "yes", "STOP", "stop!", "START", "unstop", "don’t stop"]),
    original_body=st.sampled_from(["", "Coming?"]),
    media=st.sampled_from([(), ("https://media.example.com/1.jpg", "https://example.com/ü?'")]),
)
opt_outs = st.builds(
    OptOutPayload, raw=st.just('{"contact": "%s"}'), number=st.sampled_from(NUMBERS)
)
by_staff = st.builds(partial, st.sampled_from([opt_in, opt_out]), st.sampled_from(NUMBERS))


def record(cellcast_id: str, **values: Any) -> None:
    """Record a message that was sent at the time of its step."""
    message = Message.objects.record_sent(cellcast_id, **values)
    Message.objects.filter(pk=message.pk).update(created_at=timezone.now())


recordings = st.builds(
    partial,
    st.just(record),
    st.sampled_from(["66b5b93b1e2c012dfe964000", "7"]),
    receiver=st.sampled_from(NUMBERS),
    reference=st.sampled_from(["", "booking-8"]),
)
invalid = st.just(Invalid(raw="[", reason="…"))


def stop(cellcast_id: str, body: str = "STOP") -> Reply:
    return Reply(
        raw="{}",
        cellcast_id=cellcast_id,
        sender=NUMBERS[0],
        receiver=NUMBERS[1],
        status="received",
        body=body,
        original_body="",
    )


OPT_OUT = OptOutPayload(raw="{} %s", number=NUMBERS[0])
AGAIN_AND_AGAIN: list[Step] = [
    stop("7"),
    stop("7"),
    stop("8", "stop!"),
    OPT_OUT,
    partial(opt_in, NUMBERS[0], note="She called"),
    stop("9", "START"),
    stop("7"),
    partial(opt_in, NUMBERS[0]),
    stop("10", "STOP"),
    partial(opt_in, NUMBERS[0]),
    OPT_OUT,
    OPT_OUT,
]


@pytest.mark.exhaustive
@pytest.mark.django_db
@settings(max_examples=settings().max_examples // 2)
@given(
    steps=st.lists(
        reports | replies | opt_outs | by_staff | recordings | invalid, min_size=1, max_size=8
    ),
    has_handlers=st.booleans(),
    is_test=st.booleans(),
)
@example(steps=AGAIN_AND_AGAIN, has_handlers=True, is_test=False)
@example(steps=AGAIN_AND_AGAIN, has_handlers=False, is_test=False)
@example(steps=AGAIN_AND_AGAIN, has_handlers=True, is_test=True)
def test_both_ways_write_the_same_rows(
    steps: list[Step], has_handlers: bool, is_test: bool
) -> None:
    with ExitStack() as handlers:
        for signal in SIGNALS * has_handlers:
            handlers.enter_context(connected(signal, handler=Calls()))
        own = rows_after(steps, is_test=is_test)
        with portable_way():
            assert rows_after(steps, is_test=is_test) == own


MODELS: tuple[type[models.Model], ...] = (
    OptOutChange,
    OptOut,
    StatusChange,
    WebhookEvent,
    Message,
)


def rows_after(steps: list[Step], *, is_test: bool) -> dict[str, list[dict[str, Any]]]:
    """Take the steps one by one, a minute apart, with empty tables; return the rows by model."""
    for model in MODELS:
        model._default_manager.all().delete()
    for number, step in enumerate(steps):
        time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        with patch("django.utils.timezone.now", return_value=time):
            if callable(step):
                step()
            else:
                inbox.store(
                    [step],
                    endpoint=Endpoint.RECEIVE,
                    content_type="text/json",
                    username="cellcast",
                    is_test=is_test,
                )
    tables = {model: list(model._default_manager.order_by("pk")) for model in MODELS}
    places = {row: place for rows in tables.values() for place, row in enumerate(rows)}
    return {
        model.__name__: [
            {
                field.name: places.get(value) if field.is_relation else value
                for field in model._meta.concrete_fields
                if not field.primary_key and field not in UNREAD
                for value in [getattr(row, field.name)]
            }
            for row in rows
        ]
        for model, rows in tables.items()
    }


# From the previous status the single statement learns what it has changed. For a duplicate the two
# ways differ in it, and nobody reads it.
UNREAD = [Message._meta.get_field("previous_status")]
