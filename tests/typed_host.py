"""What ``typed_host_without_plugin`` leaves out of a host project: ``mypy --strict`` reads both.

Nothing runs it. Each ``assert_type`` is a promise to an editor and to a host project's own checks.
"""

from datetime import datetime, timedelta
from typing import Any, assert_type

import pytest
from django.db.models import QuerySet, TextChoices
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.utils.functional import Promise

from cellcast_django import payloads, tasks
from cellcast_django.admin import MessageAdmin
from cellcast_django.conf import conf
from cellcast_django.factories import MessageFactory, StatusChangeFactory, WebhookEventFactory
from cellcast_django.health import Health, Light, measure_health
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.opt_outs import is_stop_word, may_want_to_stop
from cellcast_django.payloads import Endpoint, Invalid, OptOut, Reply, StatusReport
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
from cellcast_django.testing import WebhookClient, opt_out_payload, reply_payload, status_payload
from cellcast_django.upkeep.retention import Kept, Pruned, Selection, prune

urlpatterns = [path("sms/", include("cellcast_django.urls"))]


# Handlers


@receiver(status_changed, sender=Message, dispatch_uid="shop.mark")
async def mark(message: Message, status_change: StatusChange, **kwargs: Any) -> None:
    assert_type(status_change.applied, bool)


@receiver([opt_out_received])
def unsubscribe(contact: str, event: WebhookEvent, **kwargs: Any) -> None:
    """Take an opt-out."""


@receiver(message_received)
@exactly_once
def book(message: Message, event: WebhookEvent, **kwargs: Any) -> None:
    if not message.body:
        raise GiveUp("Nothing to book.")
    raise RetryLater(timedelta(hours=8))


def keeps_its_type() -> None:
    assert_type(exactly_once(keeps_its_type)(), None)
    assert_type(RetryLater(timedelta(hours=8)).after, timedelta)
    assert_type(GiveUp("no").reason, str)


@receiver(handlers_failed)
def alarm(event: WebhookEvent, errors: dict[str, str], **kwargs: Any) -> None:
    """Take a failure."""


def connect() -> None:
    assert_type(message_received, FactSignal)
    message_received.connect(book, dispatch_uid="shop.book")
    assert_type(message_received.disconnect(dispatch_uid="shop.book"), bool)


# Messages, statuses, payloads, settings


def describe(status: str) -> Promise:
    assert issubclass(Status, TextChoices)
    assert_type(Status(status), Status)
    return Status(status).description


def read(body: bytes) -> str:
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
    assert_type(conf.webhook_secrets, tuple[str, ...])
    assert_type(conf.default_region, str)
    assert_type(conf.max_body_bytes, int)
    assert_type(conf.run_handlers, str)
    assert_type(conf.handler_lease, int)


class OurMessages(MessageAdmin):
    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).filter(own_number="+61480000000")


# Operations


def metrics(request: HttpRequest) -> HttpResponse:
    health = measure_health()
    assert_type(health, Health)
    assert_type(health.handlers.overdue, timedelta)
    assert_type(health.deliveries.rate, float | None)
    assert_type(health.replies.longest_wait, timedelta)
    assert_type(health.webhooks.urls[Endpoint.STATUS].last_at, datetime | None)
    assert_type(health.webhooks.urls[Endpoint.STATUS].light, Light)
    assert_type(health.events[WebhookEvent.Outcome.INVALID], int)
    return HttpResponse(f"cellcast_pending {health.handlers.pending}")


def run_handlers_on_a_schedule() -> None:
    tasks.run_due_handlers.enqueue()
    tasks.recover.enqueue()
    tasks.run_handlers.using(priority=10).enqueue(1)


def erase(number: str) -> int:
    selection = Selection(number=number, redact=True)
    assert_type(selection.count(), Pruned)
    assert_type(selection.kept(), Kept)
    return prune(selection, progress=lambda pruned: None).messages


def stops(text: str) -> None:
    assert_type(is_stop_word(text), bool)
    assert_type(may_want_to_stop(text), bool)


# Tests


@pytest.mark.django_db
def host_test(cellcast: WebhookClient) -> None:
    cellcast.webhook([status_payload(_id="1"), status_payload(_id="2")], "status")
    assert_type(reply_payload(message="YES"), dict[str, Any])
    assert_type(opt_out_payload(), dict[str, Any])
    message = MessageFactory.create(delivered=True)
    assert_type(message, Message)
    assert_type(MessageFactory.build(inbound=True), Message)
    assert_type(MessageFactory.create_batch(3), list[Message])
    assert_type(StatusChangeFactory.create(message=message), StatusChange)
    assert_type(WebhookEventFactory.create(failed=True), WebhookEvent)
