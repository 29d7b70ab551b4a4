"""Replies that both a webhook and the API report are one message, whichever comes first."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django import receiving
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.payloads import Endpoint, RecoveredReply, Reply
from cellcast_django.signals import message_received, status_changed
from tests.fake_cellcast import KEY

pytestmark = pytest.mark.django_db

ID = "66b5b93b1e2c012dfe964000"
CUSTOMER = "+61400000001"
OURS = "+61400000009"
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _site(way: str, settings: Any) -> None:
    """A site with an API key; each way of writing."""
    settings.CELLCAST_API_KEY = KEY


def webhook(body: str = "Yes please", *, is_test: bool = False, **changes: Any) -> WebhookEvent:
    values: dict[str, Any] = {"raw": "{}", "cellcast_id": ID, "sender": CUSTOMER, "receiver": OURS}
    values |= {"status": "delivered", "body": body, "original_body": "Nine?"}
    reply = Reply(**(values | changes))
    [event] = receiving.receive([reply], endpoint=Endpoint.RECEIVE, is_test=is_test)
    return event


def recovery(
    body: str = "Yes please", *, hours_ago: float = 1, number: str = "400000001", **changes: Any
) -> WebhookEvent:
    values: dict[str, Any] = {
        "raw": '{"from": "…"}',
        "cellcast_id": "",
        "sender": number,
        "receiver": "",
    }
    values |= {"status": "received", "body": body, "original_body": ""}
    values |= {"received_at": timezone.now() - hours_ago * HOUR} | changes
    [event] = receiving.receive([RecoveredReply(**values)], endpoint=Endpoint.API)
    return event


# From the API first


def test_recovered_reply_is_a_message_of_the_time_at_which_it_was_received(listen: Any) -> None:
    calls = listen(message_received)
    received_at = timezone.now() - 3 * HOUR
    event = recovery(received_at=received_at)

    message = Message.objects.get()
    assert (message.direction, message.cellcast_id, message.status) == ("inbound", "", "received")
    assert (message.sender, message.receiver, message.contact) == ("400000001", "", CUSTOMER)
    assert (message.body, message.created_at) == ("Yes please", received_at)
    assert (event.endpoint, event.kind, event.outcome) == ("api", "reply", "stored")
    assert (event.body, event.message, event.contact) == ('{"from": "…"}', message, CUSTOMER)
    assert [call["message"] for call in calls] == [message]


def test_same_item_again_is_a_duplicate(listen: Any) -> None:
    calls = listen(message_received)
    received_at = timezone.now() - HOUR
    assert recovery(received_at=received_at).outcome == "stored"
    assert recovery(received_at=received_at).outcome == "duplicate"
    assert Message.objects.count() == len(calls) == 1


def test_same_text_at_another_time_is_another_message() -> None:
    assert recovery(hours_ago=1).outcome == recovery(hours_ago=2).outcome == "stored"
    assert Message.objects.count() == 2


@pytest.mark.parametrize("hours", [0.5, 47.9])
def test_late_webhook_is_a_duplicate_that_fills_in_what_it_knows(listen: Any, hours: float) -> None:
    replies, changes = listen(message_received), listen(status_changed)
    message = recovery(hours_ago=hours).message
    assert message is not None
    event = webhook("Yes  please\n")

    assert (event.outcome, event.message, event.next_run_at) == ("duplicate", message, None)
    created_at = message.created_at
    message = Message.objects.get()
    assert (message.cellcast_id, message.sender, message.receiver) == (ID, CUSTOMER, OURS)
    assert (message.body, message.original_body) == ("Yes  please\n", "Nine?")
    assert (message.status, message.created_at) == ("delivered", created_at)
    assert StatusChange.objects.get().status == "delivered"
    assert len(replies) == 1
    assert changes == []


def test_late_webhook_leaves_what_it_would_have_made_by_coming_first() -> None:
    webhook()
    first = Message.objects.values("key", "cellcast_id", "sender", "receiver", "body", "status")
    expected = first.get()
    Message.objects.all().delete()
    recovery()
    webhook()
    assert first.all().get() == expected


def test_copies_of_the_late_webhook_are_duplicates() -> None:
    recovery()
    assert [webhook().outcome for _ in range(3)] == ["duplicate"] * 3
    assert Message.objects.count() == StatusChange.objects.count() == 1


def test_each_late_webhook_belongs_to_one_recovered_reply() -> None:
    recovery(hours_ago=3)
    recovery(hours_ago=2)
    outcomes = [webhook(cellcast_id=str(number)).outcome for number in range(3)]
    assert outcomes == ["duplicate", "duplicate", "stored"]
    ids = Message.objects.order_by("created_at").values_list("cellcast_id", flat=True)
    assert list(ids) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "changes", [{"body": "No"}, {"body": "yes please"}, {"sender": "+61400000002"}]
)
def test_webhook_of_another_reply_is_stored(changes: dict[str, Any]) -> None:
    recovery()
    assert webhook(**changes).outcome == "stored"
    assert Message.objects.count() == 2


def test_webhook_after_two_days_is_another_reply() -> None:
    recovery(hours_ago=48.1)
    assert webhook().outcome == "stored"


def test_later_status_of_the_reply_finds_it() -> None:
    recovery()
    webhook()
    event = webhook(status="read")
    assert (event.outcome, event.message) == ("stored", Message.objects.get())


def test_test_send_is_not_taken_for_a_late_webhook() -> None:
    recovery()
    event = webhook(is_test=True)
    assert event.outcome == "stored"
    assert Message.objects.filter(cellcast_id="").exists()


def test_replies_without_a_number_are_never_the_same() -> None:
    recovery(number="")
    assert webhook(sender="").outcome == "stored"


# By webhook first


def test_reply_whose_webhook_came_while_the_recovery_looked_is_a_duplicate(listen: Any) -> None:
    calls = listen(message_received)
    message = webhook("Yes please ").message
    event = recovery()
    assert (event.outcome, event.message) == ("duplicate", message)
    assert Message.objects.get() == message
    assert len(calls) == 1


def test_message_that_belongs_to_another_item_is_no_reason_to_drop_this_one() -> None:
    message = webhook().message
    assert message is not None
    assert recovery(claimed=frozenset([message.pk])).outcome == "stored"


@pytest.mark.parametrize(
    ("hours_ago", "outcome"),
    [(-0.08, "duplicate"), (23.9, "duplicate"), (-0.09, "stored"), (24.1, "stored")],
)
def test_webhook_comes_between_five_minutes_before_and_a_day_after(
    hours_ago: float, outcome: str
) -> None:
    webhook()
    assert recovery(hours_ago=hours_ago).outcome == outcome


def test_recovered_reply_is_none_but_its_own() -> None:
    recovery(hours_ago=1)
    assert recovery(hours_ago=2).outcome == "stored"


# What it costs


def look_ups(queries: CaptureQueriesContext) -> int:
    """Count the queries that look for messages without an id."""
    statements = [query["sql"].replace('"', "").replace("`", "") for query in queries]
    return sum(bool(re.search(r"cellcast_id = ''", each)) for each in statements)


@pytest.mark.parametrize("key", ["", KEY])
def test_reply_is_looked_up_once_whatever_the_key(settings: Any, key: str) -> None:
    settings.CELLCAST_API_KEY = key
    recovery()
    with CaptureQueriesContext(connection) as queries:
        assert webhook(sender="+61400000002").outcome == "stored"
    assert look_ups(queries) == 1
    assert webhook().outcome == "duplicate"


def test_array_is_looked_up_once_for_all_its_contacts() -> None:
    recovered = recovery(number="400000007").message
    replies = [
        Reply(
            raw="{}",
            cellcast_id=str(number),
            sender=f"+6140000{number:04}",
            receiver=OURS,
            status="delivered",
            body="Yes please",
            original_body="",
        )
        for number in range(50)
    ]
    with CaptureQueriesContext(connection) as queries:
        events = receiving.receive(replies, endpoint=Endpoint.RECEIVE)
    assert look_ups(queries) == 1
    duplicates = [event.message for event in events if event.outcome == "duplicate"]
    assert duplicates == [recovered]
