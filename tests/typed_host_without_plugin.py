"""A host project whose type checker knows Django by its stubs alone, as most editors do.

``pyright`` in strict mode and ``mypy --strict`` without plugins read it; nothing runs it.
"""

# pyright: strict

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, assert_type

from django.dispatch import receiver
from django.test import TestCase, override_settings
from phonenumbers import PhoneNumber

from cellcast_django.api import send_sms
from cellcast_django.contacts import to_contact
from cellcast_django.directory import Directory
from cellcast_django.handlers import run_again, skip
from cellcast_django.models import (
    CommandRun,
    Direction,
    HandlerCall,
    HandlerCallQuerySet,
    Message,
    MessageQuerySet,
    OptOut,
    OptOutChange,
    OptOutQuerySet,
    StatusChange,
    WebhookEvent,
    WebhookEventQuerySet,
)
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out, opted_out
from cellcast_django.payloads import Endpoint
from cellcast_django.sending import NotRecordedError, NotSentError, OptedOutError, send
from cellcast_django.signals import exactly_once, in_order, message_received
from cellcast_django.statuses import Status
from cellcast_django.testing import (
    Sent,
    WebhookClient,
    fail_next,
    pretend_to_send,
    reset,
    run_handlers,
    sent,
)


def remind(number: str, reply: Message) -> Message | None:
    try:
        message = send(number, "See you at nine?", reference="booking-7", answers=reply)
    except (NotSentError, OptedOutError) as error:
        assert_type(error.reason, str)
        return None
    except NotRecordedError:
        return None
    assert_type(send_sms(number, "Hi", "shop", reference="booking-7"), str)
    assert_type(message, Message)
    assert_type(Message.objects.record_sent(1, receiver=number, username="kim"), Message)
    return Message.objects.record_sent("1", receiver=number, sender="shop", body="Hi")


def look_at(message: Message) -> None:
    assert_type(message.media, list[str])
    assert_type(message.is_final, bool)
    assert_type(message.is_undelivered, bool)
    assert_type(message.delivery_time, timedelta | None)
    assert_type(message.in_reply_to, Message | None)
    assert_type(message.conversation(), MessageQuerySet)
    assert_type(message.conversation(own_number="0400 000 009").inbound(), MessageQuerySet)
    message.mark_handled(username="kim", note="She comes on Friday.")
    if message.status == Status.DELIVERED or message.status in (Status.SENT, Status.QUEUED):
        assert_type(Status.DELIVERED.value, str)
        assert_type(Status(message.status).final, bool)
    assert_type(message.direction == Direction.INBOUND, bool)
    for change in message.status_history.all():
        assert_type(change, StatusChange)
    for event in message.events.filter(outcome=WebhookEvent.Outcome.STORED):
        assert_type(event, WebhookEvent)
        assert_type(event.kind == WebhookEvent.Kind.REPLY, bool)
        assert_type(event.outcome == WebhookEvent.Outcome.STORED, bool)
        assert_type(event.endpoint == Endpoint.RECEIVE, bool)
        assert_type(event.calls.get().state == HandlerCall.State.DONE, bool)
    assert_type(CommandRun.objects.get().command == CommandRun.Command.RECOVER, bool)


def find() -> Message | None:
    messages = Message.objects.with_contact("0400 000 000").outbound()
    assert_type(messages, MessageQuerySet)
    assert_type(messages.delivered(), MessageQuerySet)
    assert_type(messages.silent(timedelta(hours=6)), MessageQuerySet)
    assert_type(messages.undelivered().order_by("created_at"), MessageQuerySet)
    assert_type(Message.objects.using("default").unhandled(), MessageQuerySet)
    assert_type(Message.objects.inbound().filter(body="YES"), MessageQuerySet)
    assert_type(Message.objects.with_reference("booking-7"), MessageQuerySet)
    assert_type(Message.objects.on_the_way().get(), Message)
    assert_type(Message.objects.fresh().on_the_way(), MessageQuerySet)
    return messages.on_the_way().first()


def watch(now: datetime) -> Iterator[WebhookEvent]:
    assert_type(HandlerCall.objects.due(now), HandlerCallQuerySet)
    assert_type(run_again(HandlerCall.objects.failed()), int)
    assert_type(skip(HandlerCall.objects.failing(), username="ann"), int)
    assert_type(WebhookEvent.objects.invalid(), WebhookEventQuerySet)
    assert_type(WebhookEvent.objects.pending().count(), int)
    assert_type(WebhookEvent.objects.done().exists(), bool)
    for event in WebhookEvent.objects.failed():
        assert_type(event.payload, dict[str, Any])
        assert_type(event.state, WebhookEvent.State | None)
        for call in event.calls.all():
            assert_type(call.error, str)
            assert_type(call.next_attempt_at, datetime | None)
            assert_type(call.event, WebhookEvent)
        yield event


class Customers(Directory):
    def names(self, contacts: list[str]) -> dict[str, str]:
        return dict.fromkeys(contacts, "Mrs Lee")

    def search(self, words: str) -> list[str]:
        return [to_contact("0400 000 000"), to_contact("0400 000 000", region="AU")]

    def references(self, references: list[str]) -> dict[str, tuple[str, str]]:
        return {each: (each, f"/bookings/{each}/") for each in references}

    def answers(self, contact: str) -> Iterator[str]:
        yield "See you then!"


def opt_outs(number: str, parsed: PhoneNumber) -> None:
    assert_type(is_opted_out(number), bool)
    assert_type(is_opted_out(parsed), bool)
    assert_type(opted_out([number]), set[str])
    assert_type(opt_out(number, note="at the counter"), OptOut)
    assert_type(opt_in(number, note="signed up again"), bool)
    assert_type(OptOut.objects.active().with_contact(number), OptOutQuerySet)
    for change in OptOut.objects.active().get().history.all():
        assert_type(change, OptOutChange)
        assert_type(change.kind == OptOutChange.Kind.BEGUN, bool)
        assert_type(change.source == OptOut.Source.PERSON, bool)


@receiver(message_received)
@in_order
@exactly_once
def take_answer(message: Message, event: WebhookEvent, **kwargs: Any) -> bool:
    return message.in_reply_to is not None


@override_settings(CELLCAST_SEND_WITH="cellcast_django.testing.pretend_to_send")
class WebhookTests(TestCase):
    def setUp(self) -> None:
        self.cellcast = WebhookClient()
        reset()

    def test_refusal(self) -> None:
        fail_next(NotSentError("Your balance is too low."))
        assert_type(send("0400 000 000", "See you at nine?"), Message)
        assert_type(self.cellcast.status(status="expired").status_code, int)
        assert_type(self.cellcast.sent, list[Sent])
        assert_type(sent[0].receiver, str)
        assert_type(pretend_to_send("0400 000 000", "Hi"), str)


def test_kit(client: WebhookClient, message: Message, event: WebhookEvent) -> None:
    assert_type(take_answer(message=message, event=event), bool)
    assert_type(WebhookClient(raise_handler_errors=False), WebhookClient)
    assert_type(client.reply(message="YES").status_code, int)
    assert_type(client.webhook(b"{", "status").status_code, int)
    assert_type(run_handlers(), int)
