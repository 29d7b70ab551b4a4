"""Replies that both a webhook and the API report are one message, whichever comes first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django import receiving
from cellcast_django.inbox.same_message import StoredReply, distinguishing_media, match
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.payloads import Endpoint, Listed, Reply
from cellcast_django.recovery import recover
from cellcast_django.signals import message_received, status_changed
from tests.fake_cellcast import FakeCellcast
from tests.plans import plan_of

pytestmark = pytest.mark.django_db

ID = "66b5b93b1e2c012dfe964000"
CUSTOMER = "+61400000001"
OURS = "+61400000009"
HOUR = timedelta(hours=1)


def webhook(body: str = "Yes please", **changes: Any) -> WebhookEvent:
    values: dict[str, Any] = {"raw": "{}", "cellcast_id": ID, "sender": CUSTOMER, "receiver": OURS}
    values |= {"status": "delivered", "body": body, "original_body": "Nine?"}
    reply = Reply(**(values | changes))
    [event] = receiving.receive([reply], endpoint=Endpoint.RECEIVE)
    return event


def recovery(
    body: str = "Yes please",
    *,
    hours_ago: float = 1,
    received_at: datetime | None = None,
    media: tuple[str, ...] = (),
    **changes: Any,
) -> WebhookEvent:
    values: dict[str, Any] = {"raw": '{"from": "…"}', "sender": "400000001", "status": "received"}
    values |= dict.fromkeys(["cellcast_id", "receiver", "original_body"], "") | changes
    received_at = received_at or timezone.now() - hours_ago * HOUR
    listed = Listed(received_at, distinguishing_media(body, media))
    reply = Reply(**values, body=body, media=media, listed=listed)
    [event] = receiving.receive([reply], endpoint=Endpoint.API)
    return event


# From the API first


@pytest.mark.parametrize("in_array", [False, True])
def test_each_late_webhook_matches_one_recovered_reply(*, in_array: bool) -> None:
    recovery(hours_ago=3)
    recovery(hours_ago=2)
    values: dict[str, Any] = {"raw": "{}", "sender": CUSTOMER, "receiver": OURS}
    values |= {"status": "received", "body": "Yes please", "original_body": ""}
    count = 2 if in_array else 3
    replies = [Reply(**values, cellcast_id=str(number)) for number in range(count)]
    for batch in [replies] if in_array else [[each] for each in replies]:
        receiving.receive(batch, endpoint=Endpoint.RECEIVE)
    outcomes = WebhookEvent.objects.filter(endpoint="receive").order_by("pk")
    assert [each.outcome for each in outcomes] == ["duplicate", "duplicate", "stored"][:count]
    ids = Message.objects.order_by("created_at").values_list("cellcast_id", flat=True)
    assert (sorted(ids) if in_array else list(ids)) == ["0", "1", "2"][:count]


@pytest.mark.parametrize("hours", [0.5, 47.9])
def test_late_webhook_is_a_duplicate_that_fills_in_missing_fields(
    listen: Any, hours: float
) -> None:
    replies, changes = listen(message_received), listen(status_changed)
    recovered = recovery(hours_ago=hours).message
    assert recovered is not None
    event = webhook("Yes  please\n")

    assert (event.outcome, event.message) == ("duplicate", recovered)
    assert webhook("Yes  please\n").outcome == "duplicate"
    message = Message.objects.get()
    assert (message.cellcast_id, message.sender, message.receiver) == (ID, CUSTOMER, OURS)
    assert (message.body, message.original_body) == ("Yes  please\n", "Nine?")
    assert (message.status, message.created_at) == ("delivered", recovered.created_at)
    assert StatusChange.objects.get().status == "delivered"
    assert (len(replies), changes) == (1, [])
    Message.objects.all().delete()
    early = webhook("Yes  please\n").message
    assert early is not None and early.key == message.key


@pytest.mark.parametrize(
    ("hours", "changes"),
    [
        *((1, {"body": body}) for body in ("No", "yes please")),
        (1, {"sender": "+61400000002"}),
        (48.1, {}),
    ],
)
def test_webhook_of_another_reply_is_stored(hours: float, changes: dict[str, Any]) -> None:
    recovery(hours_ago=hours)
    assert webhook(**changes).outcome == "stored"
    assert Message.objects.count() == 2


def test_replies_without_a_number_never_match() -> None:
    recovery(sender="")
    assert webhook(sender="").outcome == "stored"


@pytest.mark.skipif(connection.vendor != "sqlite", reason="asks SQLite itself")
def test_no_look_reads_the_replies_of_other_contacts(fake_cellcast: FakeCellcast) -> None:
    fake_cellcast.add_reply(timezone.now() - HOUR, CUSTOMER, "Yes please")
    with CaptureQueriesContext(connection) as captured:
        recovery("Nine", hours_ago=2)
        webhook()
        recover()
    looks = [query["sql"] for query in captured if '"contact" IN (' in query["sql"]]
    plans = [step for look in looks if look.startswith("SELECT") for step in plan_of(look)]
    assert plans
    assert [step for step in plans if "contact=?" not in step and "TEMP B-TREE" not in step] == []


# By webhook first


def test_replies_of_one_body_share_out_the_webhooks_messages() -> None:
    webhook()
    now = timezone.now()
    places = [Listed(now - hours * HOUR) for hours in (3, 2, 0)]
    values: dict[str, Any] = dict.fromkeys(["cellcast_id", "receiver", "original_body"], "")
    values |= {"raw": "{}", "sender": CUSTOMER, "status": "received", "body": "Yes please"}
    replies = [Reply(**values, listed=place, alike=tuple(places)) for place in places]
    events = receiving.receive(replies, endpoint=Endpoint.API)
    assert [event.outcome for event in events] == ["stored", "stored", "duplicate"]
    assert Message.objects.count() == 3


@pytest.mark.parametrize(
    ("hours_ago", "outcome"),
    [(-0.08, "duplicate"), (23.9, "duplicate"), (-0.09, "stored"), (24.1, "stored")],
)
def test_webhook_matches_from_five_minutes_before_to_a_day_after(
    hours_ago: float, outcome: str
) -> None:
    webhook()
    assert recovery(hours_ago=hours_ago).outcome == outcome


@pytest.mark.parametrize("cellcast_id", ["recovered", " "])
def test_recovered_reply_never_has_the_key_of_a_webhooks_reply(cellcast_id: str) -> None:
    at = timezone.now() - HOUR
    webhook(at.isoformat(), cellcast_id=cellcast_id, sender=CUSTOMER, receiver="Yes please")
    recovery(received_at=at)
    assert Message.objects.count() == 2


# Pictures

A, B = "https://media.example.com/A.jpg", "https://media.example.com/B.jpg"


@pytest.mark.parametrize(
    ("text", "listed", "sent", "is_same"),
    [
        ("", [A], [A], True),
        (" ", [A], [B], False),
        ("", [A], [A, B], False),
        ("", [], [A], True),  # the list may not tell of media
        ("", [A], [], True),
        ("", [], [], True),
        ("Look", [A], [B], True),
    ],
)
@pytest.mark.parametrize("order", [1, -1], ids=["recovery first", "webhook first"])
def test_picture_without_a_text_matches_by_url(
    text: str, listed: list[str], sent: list[str], is_same: bool, order: int
) -> None:
    def recover() -> str:
        return recovery(text, media=tuple(listed)).outcome

    def arrive() -> str:
        return webhook(text, media=tuple(sent)).outcome

    outcomes = [each() for each in (recover, arrive)[::order]]
    assert outcomes == ["stored", "duplicate" if is_same else "stored"]
    kept = {url for media in Message.objects.values_list("media", flat=True) for url in media}
    first = [listed, sent][::order][0]
    assert kept >= set(first or sent if order == 1 else first)
    if not is_same:
        assert kept == {*listed, *sent}


# Matching by time

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hours)


def matched(items: list[float], messages: list[float]) -> dict[int, int]:
    """Match times in hours."""
    listed = [Listed(at(hours)) for hours in items]
    stored = [StoredReply(at(hours), pk, (), False) for pk, hours in enumerate(messages)]
    return {listed.index(item): message.pk for item, message in match(listed, stored).items()}


@pytest.mark.parametrize(
    ("items", "messages", "expected"),
    [
        ([], [], {}),
        ([9], [], {}),
        ([], [9], {}),
        ([9], [9], {0: 0}),
        ([9], [8.92], {0: 0}),
        ([9], [8.91], {}),
        ([9], [33], {0: 0}),
        ([9], [33.1], {}),
        ([9, 15], [9, 15], {0: 0, 1: 1}),
        ([9, 15], [15], {1: 0}),  # the first is missing, though it could have come so late
        ([9, 15], [9], {0: 0}),
        ([9, 15], [9.01, 14], {0: 0}),  # nothing comes an hour before it was received
        ([9, 10], [10.01, 33.5], {0: 0, 1: 1}),  # the nearest would leave one without
        ([9, 9.1, 9.2], [9.1], {1: 0}),
        ([9], [8.95, 9.01, 9.6], {0: 1}),
        ([1, 2, 3, 4], [2, 3], {1: 0, 2: 1}),
        ([0, 5 / 3600], [3 / 3600], {0: 0}),  # of two that are as near, the one before its webhook
    ],
)
def test_matching_pairs_as_many_as_possible_then_the_near(
    items: list[float], messages: list[float], expected: dict[int, int]
) -> None:
    assert matched(items, messages) == expected
