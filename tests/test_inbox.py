"""The inbox: what is stored, what is a duplicate, and that the order of arrival does not matter."""

import random
from collections.abc import Iterable
from datetime import timedelta
from itertools import zip_longest
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from cellcast_django import inbox, receiving
from cellcast_django.fold import Snapshot, Update, fold
from cellcast_django.inbox.writing import Stored
from cellcast_django.models import (
    Message,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.payloads import Endpoint, Payload, Reply, StatusReport, read
from cellcast_django.signals import (
    FactSignal,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.statuses import Status
from tests.admin_pages import make_invalid
from tests.handlers import Calls, connected

pytestmark = pytest.mark.django_db

ID = "66b5b93b1e2c012dfe964000"
CUSTOMER = "+61400000001"
OURS = "+61400000009"
PICTURES = ("https://media.example.com/1.jpg", "https://media.example.com/ü?a=1&b='2'")


def report(status: str = "delivered", **changes: Any) -> StatusReport:
    values = {"raw": "{}", "cellcast_id": ID, "sender": "cellcast", "receiver": CUSTOMER}
    return StatusReport(**(values | {"status": status} | changes))


def reply(body: str = "YES, I'll come", **changes: Any) -> Reply:
    values = {"raw": "{}", "cellcast_id": ID, "sender": CUSTOMER, "receiver": OURS}
    values |= {"status": "received", "body": body, "original_body": ""}
    return Reply(**(values | changes))


def store(*payloads: Payload) -> Stored:
    return inbox.store(payloads, endpoint=Endpoint.STATUS)


def outcomes(events: list[WebhookEvent]) -> list[str]:
    return [event.outcome for event in events]


@pytest.mark.parametrize("reasons", [("no credit", "no such number"), ("", "no such number")])
def test_first_report_of_a_status_decides_its_reason(reasons: tuple[str, str]) -> None:
    for reason in reasons:
        store(report("failed", reason=reason))
    store(report("rejected", reason="It's “blocked” %s"))

    changes = StatusChange.objects.values_list("status", "reason")
    assert dict(changes) == {"failed": reasons[0], "rejected": "It's “blocked” %s"}


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize(
    "payloads",
    [
        [report()],
        [report("failed", reason="no such number")],
        [reply()],
        [reply("", media=PICTURES)],
        [reply("STOP")],
        [report("failed"), report()],
        [report(), report("failed")],
    ],
    ids=["report", "with a reason", "reply", "pictures", "stop", "later status", "late status"],
)
@pytest.mark.parametrize("heard", [(status_changed, message_received), (opt_out_received,)])
def test_handlers_get_rows_equal_to_stored_ones(
    payloads: list[Payload], is_recorded: bool, heard: tuple[FactSignal, ...], listen: Any
) -> None:
    for signal in heard:
        listen(signal)
    if is_recorded:
        Message.objects.record_sent(ID, receiver=CUSTOMER, body="See you on Tuesday?")
    [*_, event] = [event for payload in payloads for event in store(payload)]
    assert_is_stored(event, event.message, event.status_change)
    assert event.status_change.event is event
    assert event.status_change.message is event.message
    if hasattr(event, "opt_out_change"):
        assert_is_stored(event.opt_out_change, event.opt_out_change.opt_out)


def assert_is_stored(*rows: Any) -> None:
    for row in rows:
        names = [field.attname for field in row._meta.concrete_fields]
        [stored] = type(row)._default_manager.filter(pk=row.pk).values(*names)
        assert stored == {name: getattr(row, name) for name in names}


LOWEST_FIRST = [
    *[each.value for each in Status if not each.final],
    *["paused", "unknown"],
    *[each.value for each in Status if each.final],
]
"""The known statuses and two unknown ones."""


def test_any_order_of_the_statuses_with_duplicates_ends_the_same() -> None:
    chance = random.Random(15)  # noqa: S311
    orders = [chance.sample(LOWEST_FIRST, chance.randint(3, len(LOWEST_FIRST))) for _ in range(20)]
    told = [chance.choices(order, k=3) + order + chance.choices(order, k=3) for order in orders]
    for statuses in zip_longest(*told):
        store_all(
            report(status, cellcast_id=str(number))
            for number, status in enumerate(statuses)
            if status is not None
        )
    for number, words in enumerate(told):
        assert_highest_status_stands(Message.objects.get(cellcast_id=str(number)), words)


def assert_highest_status_stands(message: Message, told: list[str]) -> None:
    changes = list(message.status_history.all())
    assert message.status == max(told, key=LOWEST_FIRST.index)
    assert [change.status for change in changes] == list(dict.fromkeys(told))
    moved_last = [change for change in changes if change.applied][-1]
    assert (moved_last.status, moved_last.recorded_at) == (
        message.status,
        message.status_changed_at,
    )


def store_all(payloads: Iterable[Payload]) -> None:
    for payload in payloads:
        store(payload)


@pytest.mark.parametrize(("username", "stored"), [(None, ""), (7, "7")])
def test_username_of_a_host_projects_authentication_is_text(username: Any, stored: str) -> None:
    [event] = inbox.store([report()], endpoint=Endpoint.STATUS, received_as=username)
    assert event.received_as == stored


def test_later_report_fills_in_only_empty_fields() -> None:
    store(report("received", sender="", receiver=""))
    store(report("received", sender=OURS))
    store(report("expired", sender="other", receiver="+61400000005"))
    message = Message.objects.get()
    assert (message.sender, message.receiver, message.contact) == (OURS, CUSTOMER, CUSTOMER)
    assert message.own_number == OURS


@pytest.mark.parametrize("payload", [report(), reply(), reply("STOP"), report("paused")])
def test_only_the_reply_of_a_test_send_is_already_handled(payload: Reply | StatusReport) -> None:
    [event] = inbox.store([payload], endpoint=Endpoint.RECEIVE, is_test=True)
    handled_at = event.received_at if isinstance(payload, Reply) else None
    assert Message.objects.get().handled_at == handled_at


@pytest.mark.parametrize("body", ["YES, I'll come", "STOP"])
def test_real_reply_is_not_a_duplicate_of_its_test(body: str) -> None:
    heard = Calls()
    with connected(message_received, heard=heard):
        for _ in range(2):
            receiving.receive([reply(body)], endpoint=Endpoint.RECEIVE, is_test=True)
        for _ in range(2):
            receiving.receive([reply(body)], endpoint=Endpoint.RECEIVE)
    outcomes = WebhookEvent.objects.order_by("pk").values_list("is_test", "outcome")
    assert list(outcomes) == [
        (True, "stored"),
        (True, "duplicate"),
        (False, "stored"),
        (False, "duplicate"),
    ]
    test, real = Message.objects.order_by("pk")
    assert [call["message"] for call in heard.arguments] == [test, real]
    assert (test.body, test.contact) == (real.body, real.contact)
    assert (real.handled_at is None) is (body != "STOP")
    assert list(Message.objects.of_tests()) == [test]


def test_nothing_comes_back_to_a_redacted_message_without_a_contact() -> None:
    redacted = Snapshot(
        values={"contact": "", "body": ""}, status="sent", history=frozenset({"sent"})
    )
    update = Update(values={"contact": "", "body": "Hallo"}, at=timezone.now(), status="sent")
    assert fold(redacted, update) == (redacted, None)


def invalid(body: str, endpoint: Endpoint = Endpoint.STATUS) -> WebhookEvent:
    [event] = inbox.store(read(body.encode(), "", endpoint), endpoint=endpoint)
    assert event.outcome == "invalid"
    return event


def test_reprocess_splits_an_array_into_events_of_the_same_origin() -> None:
    origin = {
        "endpoint": "api",
        "content_type": "application/vnd.cellcast",
        "received_as": "spare",
        "is_test": True,
        "received_at": timezone.now() - timedelta(days=3),
    }
    parts = ['{"_id": 1, "status": "sent"}', '{"_id": 2, "status": "sent"}']
    event = make_invalid(f"[{', '.join(parts)}]")
    WebhookEvent.objects.update(**origin)
    event.refresh_from_db()

    events = inbox.reprocess(event)
    assert outcomes(events) == ["stored", "stored"]
    assert events[0].pk == event.pk
    assert list(WebhookEvent.objects.order_by("pk").values_list("body", flat=True)) == parts
    for each in (events[1], WebhookEvent.objects.get(pk=events[1].pk)):
        assert {name: getattr(each, name) for name in origin} == origin
    unseen = Message.objects.filter(created_at__gt=event.received_at)
    assert unseen.count() == 2, "nobody has seen them yet"


def test_reprocess_skips_an_event_another_process_has_taken() -> None:
    event = invalid("[1")
    WebhookEvent.objects.update(outcome="stored", body='{"_id": "1", "status": "sent"}')
    event.refresh_from_db()
    assert inbox.reprocess(event) == []
    assert not Message.objects.exists()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no server to lose")
@pytest.mark.django_db(transaction=True)
def test_connection_cut_by_the_server_is_reopened() -> None:
    cut = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}[connection.vendor]
    ask = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
    with connection.cursor() as cursor:
        cursor.execute(ask[connection.vendor])
        [backend] = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute(cut % backend)
    other.close()
    assert outcomes(store(report())) == ["stored"]
