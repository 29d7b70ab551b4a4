"""How receiving goes, as the database knows it."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from cellcast_django import health
from cellcast_django.factories import (
    HandlerCallFactory,
    MessageFactory,
    WebhookEventFactory,
)
from cellcast_django.health import (
    Deliveries,
    Light,
    SlowHandler,
    measure_handlers,
    measure_health,
    measure_webhooks,
    slowest_handlers,
)
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.payloads import Endpoint
from cellcast_django.testing import WebhookClient
from tests.many import add_copies

pytestmark = pytest.mark.django_db

TESTER = {"Cellcast-Test-Send": "1"}
HOUR = timedelta(hours=1)


def ago(**duration: int) -> datetime:
    return timezone.now() - timedelta(**duration)


# The last webhook


@pytest.mark.parametrize("kind", list(WebhookEvent.Kind))
def test_event_of_any_kind_counts_for_its_url(kind: WebhookEvent.Kind) -> None:
    """An opt-out may come to the Receive URL, and rubbish to any."""
    WebhookEventFactory.create(endpoint="opt_out", kind=kind, received_at=ago(days=2))
    event = WebhookEventFactory.create(endpoint="opt_out", kind=kind, received_at=ago(days=1))
    urls = measure_webhooks().urls
    assert urls[Endpoint.OPT_OUT].last_at == event.received_at


def test_health_has_the_last_use_of_each_secret() -> None:
    for name, hours in (("old", 50), ("new", 2), ("old", 9)):
        WebhookEventFactory.create(received_as=name, received_at=ago(hours=hours))
    WebhookEventFactory.create(received_as="test", is_test=True)
    WebhookEventFactory.create(received_as="api", endpoint=Endpoint.API.value)
    uses = measure_webhooks().last_use_of
    since = {name: round((timezone.now() - used) / HOUR) for name, used in uses.items()}
    assert since == {"old": 9, "new": 2}


# Lights


def light() -> Light:
    return measure_webhooks().urls[Endpoint.STATUS].light


def unreported(count: int, **age: int) -> None:
    """Add messages that were recorded so long ago, and never reported on."""
    add_copies(MessageFactory.create(status="", created_at=ago(**age)), count - 1)


def test_twenty_unreported_messages_without_a_report_since_alarm() -> None:
    assert light() == Light.NEVER
    WebhookEventFactory.create(is_test=True)
    WebhookEventFactory.create(endpoint=Endpoint.API.value, message=None)
    Message.objects.all().delete()
    empty = measure_health()
    assert {each.light for each in empty.webhooks.urls.values()} == {Light.NEVER}
    assert (empty.webhooks.last_at, empty.deliveries.rate) == (None, None)
    assert empty.handlers.overdue == empty.replies.longest_wait == timedelta()
    WebhookEventFactory.create(received_at=ago(hours=3), message=None)
    unreported(19, hours=2)
    assert light() == Light.RECEIVED
    unreported(1, hours=2)
    assert light() == Light.UNREPORTED
    urls = measure_webhooks().urls.values()
    assert [url.endpoint for url in urls if url.problem] == [Endpoint.STATUS]
    WebhookEventFactory.create(reply=True)
    assert light() == Light.UNREPORTED
    WebhookEventFactory.create(received_at=ago(minutes=90), message=None)
    assert light() == Light.RECEIVED


@pytest.mark.parametrize("age", [{"minutes": 30}, {"hours": 25}, {"hours": 2}])
def test_messages_just_sent_long_ago_or_by_others_do_not_alarm(age: dict[str, int]) -> None:
    unreported(30, **age)
    if age == {"hours": 2}:
        Message.objects.update(recorded_at=None)
    assert light() == Light.NEVER


# What is unfinished


def test_calls_are_counted_by_their_state() -> None:
    oldest = HandlerCallFactory.create(waiting=True, next_attempt_at=ago(minutes=12))
    HandlerCallFactory.create(running=True, next_attempt_at=ago(minutes=-5))
    HandlerCallFactory.create_batch(2, retrying=True)
    HandlerCallFactory.create_batch(3, failed=True)
    HandlerCallFactory.create(state="gave_up")
    HandlerCallFactory.create()
    WebhookEventFactory.create_batch(2, invalid=True, received_at=ago(days=30))
    WebhookEventFactory.create(invalid=True, dismissed_at=timezone.now())
    assert measure_health().invalid == 2
    handlers = measure_handlers()
    counts = (handlers.pending, handlers.waiting, handlers.retrying, handlers.failed)
    assert counts == (4, 1, 2, 4)
    assert handlers.oldest_due_at == oldest.next_attempt_at
    assert timedelta(minutes=12) <= handlers.overdue < timedelta(minutes=13)


def test_call_that_waits_for_an_earlier_one_is_not_overdue() -> None:
    HandlerCallFactory.create(retrying=True, contact="+61491570006", next_attempt_at=ago(days=-1))
    HandlerCallFactory.create(waiting=True, contact="+61491570006", next_attempt_at=ago(days=1))
    handlers = measure_handlers()
    assert (handlers.pending, handlers.overdue) == (2, timedelta())


@pytest.mark.parametrize("trait", ["invalid", "pending", "failed", "duplicate"])
def test_counts_exclude_test_sends(trait: str) -> None:
    WebhookEventFactory.create(is_test=True, message=None, **{trait: True})
    measured = measure_health()
    handlers = measured.handlers
    assert (measured.invalid, handlers.pending, handlers.failed) == (0, 0, 0)
    assert not any(measured.events.values())
    assert (measured.failing_handlers, measured.slowest_handlers) == ([], [])


def test_slowest_handlers_are_named_with_their_longest_call() -> None:
    for handler, seconds in [("a", 0.5), ("b", 2.25), ("a", 3.0), ("d", 0.1), ("c", None)]:
        HandlerCallFactory.create(handler=handler, seconds=seconds)
    found = [(each.handler, each.seconds) for each in slowest_handlers()]
    assert found == [("a", 3.0), ("b", 2.25), ("d", 0.1)]


@pytest.mark.parametrize(("seconds", "is_slow"), [(150.0, False), (150.5, True)])
def test_call_over_half_the_lease_is_slow(seconds: float, is_slow: bool) -> None:
    assert SlowHandler(handler="a", seconds=seconds).is_too_slow == is_slow


# Deliveries


def test_health_counts_deliveries_of_the_last_day() -> None:
    MessageFactory.create_batch(3, delivered=True, created_at=ago(hours=23))
    for status in ("expired", "failed", "dead", "", "received", "queued"):
        MessageFactory.create(status=status)
    MessageFactory.create(inbound=True, delivered=True)
    MessageFactory.create(delivered=True, created_at=ago(hours=25))
    assert measure_health().deliveries == Deliveries(sent=9, delivered=3, undelivered=3)


# Reading


def test_age_is_never_negative() -> None:
    """The clocks of two hosts may differ."""
    assert health.age(timezone.now() + timedelta(seconds=5)) == timedelta()
    assert health.age(ago(seconds=5)) >= timedelta(seconds=5)


def test_test_sends_appear_only_in_their_own_figure(client: WebhookClient) -> None:
    tester = WebhookClient(headers=TESTER)
    client.status(_id="1", status="delivered")
    for _id, status in (("2", "delivered"), ("3", "failed"), ("4", "queued")):
        tester.status(_id=_id, status=status)
    tester.reply()
    tester.webhook(b"{", "receive")

    measured = measure_health()

    assert [number for number in measured.events.values() if number] == [1]
    assert measured.tests == 5
    assert measured.invalid == measured.replies.waiting == 0
    assert measured.deliveries == Deliveries(sent=1, delivered=1, undelivered=0)
    assert Message.objects.count() > 1
