"""A host project that uses everything public, for the type checker: ``mypy --strict`` reads it.

Nothing runs it. Each ``assert_type`` is a promise to an editor and to a host project's own checks.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, assert_type

import pytest
from django.db.models import TextChoices
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.test import TestCase
from django.urls import include, path
from django.utils.functional import Promise

from cellcast_django import payloads, tasks
from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.factories import MessageFactory, StatusChangeFactory, WebhookEventFactory
from cellcast_django.handlers import (
    run_again,
    skip,
)
from cellcast_django.health import Health, Light, measure_health
from cellcast_django.models import (
    Direction,
    HandlerCall,
    HandlerCallQuerySet,
    Message,
    MessageQuerySet,
    OptOut as StoredOptOut,
    OptOutQuerySet,
    StatusChange,
    WebhookEvent,
    WebhookEventQuerySet,
)
from cellcast_django.opt_outs import (
    is_opted_out,
    is_stop_word,
    may_want_to_stop,
    opt_in,
    opt_out,
    opted_out,
)
from cellcast_django.payloads import Endpoint, Invalid, OptOut, Reply, StatusReport
from cellcast_django.retention import Kept, Pruned, Selection, prune
from cellcast_django.signals import (
    FactSignal,
    GiveUp,
    RetryLater,
    exactly_once,
    handlers_failed,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.statuses import Status
from cellcast_django.testing import (
    WebhookClient,
    opt_out_payload,
    reply_payload,
    status_payload,
)

urlpatterns = [path("sms/", include("cellcast_django.urls"))]


# Handlers


@receiver(message_received)
def answer(message: Message, event: WebhookEvent, **kwargs: Any) -> None:
    """Take a reply."""
    assert_type(message.body, str)
    assert_type(message.contact, str)
    assert_type(event.received_at, datetime)


@receiver(status_changed, sender=Message, dispatch_uid="shop.mark")
async def mark(message: Message, status_change: StatusChange, **kwargs: Any) -> None:
    """Take a status."""
    assert_type(status_change.applied, bool)
    assert_type(status_change.previous_status, str)
    assert_type(status_change.event, WebhookEvent | None)


@receiver([opt_out_received])
def unsubscribe(contact: str, event: WebhookEvent, **kwargs: Any) -> None:
    """Take an opt-out."""
    assert_type(event.message, Message | None)


@receiver(message_received)
@exactly_once
def book(message: Message, event: WebhookEvent, **kwargs: Any) -> None:
    """Ask to be called later, or no more."""
    if not message.body:
        raise GiveUp("Nothing to book.")
    raise RetryLater(timedelta(hours=8))


def keeps_its_type() -> None:
    """See that a marked handler is the function that it was."""
    assert_type(exactly_once(keeps_its_type)(), None)
    assert_type(RetryLater(timedelta(hours=8)).after, timedelta)
    assert_type(GiveUp("no").reason, str)


@receiver(handlers_failed)
def alarm(event: WebhookEvent, errors: dict[str, str], **kwargs: Any) -> None:
    """Take a failure."""
    assert_type(event.state, WebhookEvent.State | None)
    assert_type(skip(event.calls.filter(handler__in=errors), username="ann"), int)
    assert_type(run_again(event.calls.failing()), int)


def connect() -> None:
    """Connect a handler by hand."""
    assert_type(message_received, FactSignal)
    message_received.connect(answer, dispatch_uid="shop.answer")
    assert_type(message_received.disconnect(dispatch_uid="shop.answer"), bool)


# Messages


def send() -> Message:
    """Record what was sent."""
    message = Message.objects.record_sent("1", receiver="0400000000", sender="shop", body="Hi")
    assert_type(message, Message)
    return message


def look_at(message: Message) -> None:
    """Read what is known about a message."""
    assert_type(message.is_final, bool)
    assert_type(message.submitted_at, datetime | None)
    assert_type(message.status_changed_at, datetime | None)
    assert_type(message.delivery_time, timedelta | None)
    assert_type(message.conversation(), MessageQuerySet)
    assert_type(message.direction == Direction.INBOUND, bool)
    for change in message.status_history.all():
        assert_type(change, StatusChange)
    for event in message.events.filter(outcome=WebhookEvent.Outcome.STORED):
        assert_type(event, WebhookEvent)


def find() -> Message | None:
    """Narrow down step by step, in any order."""
    messages = Message.objects.with_contact("0400 000 000").outbound()
    assert_type(messages.delivered(), MessageQuerySet)
    assert_type(messages.silent(timedelta(hours=6)), MessageQuerySet)
    assert_type(messages.undelivered().order_by("created_at"), MessageQuerySet)
    assert_type(Message.objects.inbound().filter(body="YES"), MessageQuerySet)
    assert_type(Message.objects.on_the_way().get(), Message)
    return messages.on_the_way().first()


def watch(now: datetime) -> Iterator[WebhookEvent]:
    """Ask for the state of events."""
    assert_type(HandlerCall.objects.due(now), HandlerCallQuerySet)
    assert_type(WebhookEvent.objects.failed(), WebhookEventQuerySet)
    assert_type(WebhookEvent.objects.pending().count(), int)
    assert_type(WebhookEvent.objects.done().exists(), bool)
    yield from WebhookEvent.objects.failed().iterator()


# Statuses, payloads, settings


def describe(status: str) -> Promise:
    """Return Cellcast's sentence."""
    assert issubclass(Status, TextChoices)
    assert_type(Status(status), Status)
    return Status(status).description


def read(body: bytes) -> str:
    """Tell what a body says."""
    [payload] = payloads.read(body, "application/json", Endpoint.RECEIVE)
    assert_type(payload, Reply | StatusReport | OptOut | Invalid)
    match payload:
        case Reply():
            return payload.body
        case StatusReport():
            return payload.status
        case OptOut():
            return payload.number
        case Invalid():
            return payload.reason


def settings() -> None:
    """Read the settings with their defaults."""
    assert_type(conf.webhook_secrets, tuple[str, ...])
    assert_type(conf.default_region, str)
    assert_type(conf.max_body_bytes, int)
    assert_type(conf.run_handlers, str)
    assert_type(conf.handler_lease, int)
    assert_type(conf.handler_max_attempts, int)
    assert_type(conf.public_url, str)
    assert_type(to_contact("0400000000", conf.default_region), str)


# Operations


def metrics(request: HttpRequest) -> HttpResponse:
    """Show the health."""
    health = measure_health()
    assert_type(health, Health)
    assert_type(health.handlers.pending, int)
    assert_type(health.handlers.overdue, timedelta)
    assert_type(health.deliveries.rate, float | None)
    assert_type(health.replies.longest_wait, timedelta)
    assert_type(health.webhooks.urls[Endpoint.STATUS].last_at, datetime | None)
    assert_type(health.webhooks.urls[Endpoint.STATUS].light, Light)
    assert_type(health.events[WebhookEvent.Outcome.INVALID], int)
    return HttpResponse(f"cellcast_pending {health.handlers.pending}")


def run_handlers_on_a_schedule() -> None:
    """Enqueue what a schedule would, and what runs for one event."""
    tasks.run_due_handlers.enqueue()
    tasks.recover.enqueue()
    tasks.run_handlers.using(priority=10).enqueue(1)


def erase(number: str) -> int:
    """Erase a customer."""
    selection = Selection(number=number, redact=True)
    assert_type(selection.count(), Pruned)
    assert_type(selection.kept(), Kept)
    return prune(selection, progress=lambda pruned: None).messages


# Tests


class ReplyTests(TestCase):
    """A test case with the client for webhooks, as docs/testing.md has it."""

    def setUp(self) -> None:
        self.cellcast = WebhookClient()

    def test_reply(self) -> None:
        assert_type(self.cellcast.reply(message="YES").status_code, int)
        self.cellcast.status(status="expired")
        self.cellcast.opt_out(contact="0400000000")
        self.cellcast.webhook([status_payload(_id="1"), status_payload(_id="2")], "status")
        assert_type(reply_payload(message="YES"), dict[str, Any])
        assert_type(opt_out_payload(), dict[str, Any])


@pytest.mark.django_db
def host_test(cellcast: WebhookClient) -> None:
    """A test with the fixture and the factories."""
    message = MessageFactory.create(delivered=True)
    assert_type(message, Message)
    assert_type(MessageFactory.build(inbound=True), Message)
    assert_type(MessageFactory.create_batch(3), list[Message])
    assert_type(StatusChangeFactory.create(message=message), StatusChange)
    assert_type(WebhookEventFactory.create(failed=True), WebhookEvent)
    cellcast.status(_id=message.cellcast_id)


# Opt-outs


def opt_outs(number: str) -> None:
    """Ask the ledger, and write into it."""
    assert_type(is_opted_out(number), bool)
    assert_type(opted_out([number]), set[str])
    assert_type(opt_out(number, note="at the counter"), StoredOptOut)
    assert_type(opt_in(number, note="signed up again"), bool)
    assert_type(StoredOptOut.objects.active().with_contact(number), OptOutQuerySet)
    assert_type(is_stop_word("STOP"), bool)
    assert_type(may_want_to_stop("Please stop"), bool)
