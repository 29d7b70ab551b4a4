"""Factories make the rows that the inbox would have written."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    OptOutFactory,
    StatusChangeFactory,
    WebhookEventFactory,
)
from cellcast_django.models import (
    HandlerCall,
    Message,
    OptOut,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.testing import WebhookClient
from cellcast_django.upkeep.verifying import find_broken

pytestmark = pytest.mark.django_db


# Messages


def test_outbound_message_has_no_status_by_default() -> None:
    message = MessageFactory.create()
    assert (message.direction, message.status, message.status_changed_at) == ("outbound", "", None)
    assert message.contact == message.receiver != ""
    assert message.submitted_at is not None
    assert timezone.now() - message.submitted_at < timedelta(seconds=10)
    MessageFactory.create(delivered=True, history=False)
    assert not StatusChange.objects.exists()
    given: dict[str, Any] = {"cellcast_id": "66b5b93b1e2c012dfe964000", "receiver": "0400 000 000"}
    delivered = MessageFactory.create(delivered=True, **given)
    again = Message.objects.record_sent(**given)
    assert (again, again.submitted_at) == (delivered, delivered.submitted_at)
    assert delivered.contact == "+61400000000"
    assert delivered.submitted_at and delivered.delivery_time
    assert delivered.submitted_at + delivered.delivery_time == delivered.status_changed_at


def test_built_rows_are_not_stored() -> None:
    message = MessageFactory.build(inbound=True, body="YES")
    event = WebhookEventFactory.build(reply=True, message=message)
    change = StatusChangeFactory.build(message=message, status="delivered")
    assert (event.contact, change.previous_status) == (message.sender, "received")
    assert message.status == "received"
    assert not Message.objects.exists()
    assert not StatusChange.objects.exists()


# The history


def test_status_change_moves_its_message() -> None:
    message = MessageFactory.create(status="queued")
    change = StatusChangeFactory.create(message=message)
    message.refresh_from_db()
    assert (change.previous_status, change.status, change.applied) == ("queued", "delivered", True)
    assert message.status == "delivered"
    assert message.status_changed_at == change.recorded_at
    late = StatusChangeFactory.create(message=message, status="expired")
    message.refresh_from_db()
    assert (late.previous_status, late.applied, message.status) == ("delivered", False, "delivered")
    assert StatusChangeFactory.create().message.status == "delivered"


# Events


@pytest.mark.parametrize(
    ("changes", "kind", "endpoint"),
    [
        ({}, "status", "status"),
        ({"reply": True}, "reply", "receive"),
        ({"opt_out": True}, "opt_out", "opt_out"),
    ],
)
def test_event_is_done_and_its_body_is_cellcasts_payload(
    changes: dict[str, Any], kind: str, endpoint: str, client: WebhookClient
) -> None:
    event = WebhookEventFactory.create(**changes)
    assert (event.kind, event.endpoint, event.outcome) == (kind, endpoint, "stored")
    assert WebhookEvent.objects.done().get() == event
    assert event.contact.startswith("+61")
    client.webhook(event.body.encode(), event.endpoint)
    again = WebhookEvent.objects.latest("pk")
    assert again != event
    assert again.message == event.message
    assert (again.kind, again.contact, again.cellcast_id) == (
        event.kind,
        event.contact,
        event.cellcast_id,
    )


@pytest.mark.parametrize(
    ("trait", "is_found"),
    [
        ("waiting", HandlerCall.objects.due),
        ("running", HandlerCall.objects.unfinished),
        ("retrying", HandlerCall.objects.failing),
        ("failed", HandlerCall.objects.failed),
        ("skipped", lambda: HandlerCall.objects.exclude(skipped_by="")),
    ],
)
def test_call_is_in_the_state_of_its_trait(trait: str, is_found: Any) -> None:
    assert HandlerCallFactory.create().state == "done"
    call = HandlerCallFactory.create(**{trait: True})
    assert (call.state, call.signal) == (trait, "status_changed")
    assert is_found().get() == call
    assert list(find_broken()) == []


def test_duplicate_and_invalid_events_have_nothing_to_run() -> None:
    duplicate = WebhookEventFactory.create(duplicate=True)
    invalid = WebhookEventFactory.create(invalid=True)
    assert (duplicate.state, duplicate.calls.count()) == (None, 0)
    assert WebhookEvent.objects.invalid().get() == invalid
    assert (invalid.message, invalid.body) == (None, '{"hello": "world"}')
    assert not StatusChange.objects.exists()


# Opt-outs


def test_event_factory_creates_the_history() -> None:
    event = WebhookEventFactory.create(history__status="rejected")
    assert event.status_change.status == "rejected"
    without = WebhookEventFactory.create(history=False)
    assert not StatusChange.objects.filter(event=without).exists()


def test_opt_out_stands_unless_ended() -> None:
    opt_out = OptOutFactory.create(contact="+61400000000", note="On the phone.")
    assert is_opted_out("0400 000 000")
    assert (opt_out.source, opt_out.note) == ("person", "On the phone.")
    assert OptOutFactory.create(contact="+61400000000") == opt_out
    ended = OptOutFactory.create(ended=True)
    assert not is_opted_out(ended.contact)


def test_event_factory_creates_the_opt_out() -> None:
    event = WebhookEventFactory.create(opt_out=True)
    change = event.opt_out_change
    assert (change.opt_out.source, change.opt_out.since) == ("webhook", event.received_at)
    assert is_opted_out(event.contact)
    WebhookEventFactory.create(opt_out=True, duplicate=True)
    assert OptOut.objects.get() == change.opt_out
