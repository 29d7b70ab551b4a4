"""The inbox: what is stored, what is a duplicate, and that the order of arrival does not matter."""

import random
from collections.abc import Iterable
from datetime import timedelta
from itertools import permutations, zip_longest
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from cellcast_django import inbox, receiving
from cellcast_django.database import rows
from cellcast_django.fold import Known, Said, fold
from cellcast_django.handlers.work import facts_of
from cellcast_django.inbox.writing import Stored
from cellcast_django.models import (
    HandlerCall,
    Message,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.payloads import Endpoint, OptOut, Payload, Reply, StatusReport, read
from cellcast_django.signals import (
    FactSignal,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.statuses import Status
from tests.admin_pages import make_invalid
from tests.handlers import SIGNALS, Calls, connected

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


# store


@pytest.mark.parametrize(
    "changes",
    [
        {"body": "no"},
        {"sender": "+61400000002"},
        {"receiver": "+61400000008"},
        {"media": ("https://media.example.com/1.jpg",)},
    ],
)
def test_second_reply_with_the_same_id_is_kept(changes: dict[str, Any]) -> None:
    store(reply("yes"))
    assert outcomes(store(reply(**({"body": "yes"} | changes)))) == ["stored"]
    assert Message.objects.inbound().count() == 2


def test_ids_and_unknown_statuses_are_compared_exactly() -> None:
    store(*(report(cellcast_id=each) for each in ["abc", "ABC", "àbc", "abc "]))
    assert Message.objects.count() == 4
    assert Message.objects.filter(cellcast_id="abc").count() == 1
    assert outcomes(store(report("geliefert"), report("gélîefert"))) == ["stored", "stored"]


def test_reply_keeps_its_picture_urls() -> None:
    store(reply("", media=PICTURES))
    [again] = store(reply("", media=PICTURES))
    [other] = store(reply("", media=PICTURES[::-1]))

    assert (again.outcome, other.outcome) == ("duplicate", "stored")
    addresses = Message.objects.order_by("pk").values_list("media", flat=True)
    assert list(addresses) == [list(PICTURES), list(PICTURES[::-1])]


def test_repeated_reply_fills_in_missing_media() -> None:
    store(reply(media=PICTURES))
    Message.objects.update(media=[], body="", original_body="")
    store(reply(media=PICTURES, original_body="Coming?"))

    message = Message.objects.get()
    assert (message.media, message.body) == (list(PICTURES), "YES, I'll come")
    assert message.original_body == "Coming?"


@pytest.mark.parametrize("reasons", [("no credit", "no such number"), ("", "no such number")])
def test_first_report_of_a_status_decides_its_reason(reasons: tuple[str, str]) -> None:
    for reason in reasons:
        store(report("failed", reason=reason))
    store(report("rejected", reason="It's “blocked” %s"))

    changes = StatusChange.objects.values_list("status", "reason")
    assert dict(changes) == {"failed": reasons[0], "rejected": "It's “blocked” %s"}


@pytest.mark.parametrize("payload", [report(), reply(), OptOut(raw="{}", number=CUSTOMER)])
@pytest.mark.parametrize("via", ["", "inline", "default"])
def test_duplicate_has_nothing_to_run(
    payload: Payload, via: str, listen: Any, settings: Any
) -> None:
    settings.CELLCAST_RUN_HANDLERS = via or "inline"
    for signal in SIGNALS if via else []:
        listen(signal)
    stored, repeated = store(payload), store(payload)
    for event, outcome in ((stored[0], "stored"), (repeated[0], "duplicate")):
        row = WebhookEvent.objects.get(pk=event.pk)
        assert (row.outcome, row.message_id) == (event.outcome, event.message_id)
        assert row.outcome == outcome
    assert [call.event for call in stored.calls] == (stored if via else [])
    assert (repeated.calls, repeated[0].state) == ([], None)
    assert Message.objects.count() == StatusChange.objects.count() <= 1


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


def test_text_is_stored_unchanged() -> None:
    text = 'It\'s 100 %, \\ %s %(key)s "so"; `END`; -- \t\r\n🙂 '
    store(reply(text, raw=text))
    assert Message.objects.get().body == WebhookEvent.objects.get().body == text


@pytest.mark.parametrize("order", list(permutations(["unknown", "Ünknown", "paused"])))
def test_highest_unknown_status_by_code_point_wins(order: tuple[str, ...]) -> None:
    for status in (*order, *order):
        store(report(status))
    assert Message.objects.get().status == "Ünknown"


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


def test_later_report_fills_in_only_empty_fields() -> None:
    store(report("received", sender="", receiver=""))
    store(report("received", sender=OURS))
    store(report("expired", sender="other", receiver="+61400000005"))
    message = Message.objects.get()
    assert (message.sender, message.receiver, message.contact) == (OURS, CUSTOMER, CUSTOMER)
    assert message.own_number == OURS


def test_first_report_in_an_array_describes_the_message() -> None:
    store(
        report("sent", sender="", reason="x"), report("delivered"), report("dead", sender="other")
    )
    message = Message.objects.get()
    assert (message.sender, message.status) == ("cellcast", "delivered")
    assert list(message.status_history.values_list("status", "previous_status", "applied")) == [
        ("sent", "", True),
        ("delivered", "sent", True),
        ("dead", "delivered", False),
    ]


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


def test_report_on_a_message_without_history_moves_its_status() -> None:
    store(report("failed"))
    StatusChange.objects.all().delete()
    [event] = store(report("delivered"))
    assert event.outcome == "stored"
    assert event.status_change.previous_status == "failed"
    assert Message.objects.get().status == "delivered"


def test_long_header_values_are_cleaned_and_truncated() -> None:
    [event] = inbox.store(
        [report()], endpoint=Endpoint.STATUS, content_type="x\0" * 500, received_as="u" * 500
    )
    event.refresh_from_db()
    assert (event.content_type, event.received_as) == ("x" * 255, "u" * 255)


def test_nothing_comes_back_to_a_redacted_message_without_a_contact() -> None:
    redacted = Known(values={"contact": "", "body": ""}, status="sent", history=frozenset({"sent"}))
    said = Said(values={"contact": "", "body": "Hallo"}, at=timezone.now(), status="sent")
    assert fold(redacted, said) == (redacted, None)


# what is to be run


@pytest.mark.parametrize(
    ("signal", "payload"),
    [
        (message_received, reply()),
        (status_changed, report()),
        (opt_out_received, OptOut(raw="{}", number="404000000")),
    ],
)
def test_first_call_is_begun_by_this_process(signal: Any, payload: Payload) -> None:
    with connected(signal, handler=Calls(), other=Calls()):
        stored = store(payload)
    assert_is_stored(*stored.calls)
    first, second = stored.calls
    assert (first.state, first.attempts, first.version) == ("running", 1, 1)
    assert (second.state, second.attempts, second.version) == ("waiting", 0, 1)
    assert first.event is second.event is stored[0]
    for call in (first, second):
        assert call.next_attempt_at is not None
        lease = call.next_attempt_at - stored[0].received_at
        assert 300 <= lease.total_seconds() < 305


def test_calls_on_a_queue_are_nobodys_yet(settings: Any) -> None:
    settings.CELLCAST_RUN_HANDLERS = "default"
    with connected(status_changed, handler=Calls()):
        [call] = store(report()).calls
    assert_is_stored(call)
    assert (call.state, call.attempts, call.version) == ("waiting", 0, 0)
    assert call.next_attempt_at == call.event.received_at
    assert HandlerCall.objects.due().get() == call


def test_calls_of_a_large_array_are_inserted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROWS", 3)
    with connected(status_changed, handler=Calls(), other=Calls()):
        stored = store(*(report(cellcast_id=str(number)) for number in range(4)))
    assert_is_stored(*stored.calls)
    assert [call.event_id for call in stored.calls] == [event.pk for event in stored for _ in "ab"]


def test_event_without_its_message_has_nothing_to_run() -> None:
    [event] = store(report())
    Message.objects.all().delete()
    assert facts_of(WebhookEvent.objects.get(pk=event.pk)) == []


# reprocess


def invalid(body: str, endpoint: Endpoint = Endpoint.STATUS) -> WebhookEvent:
    [event] = inbox.store(read(body.encode(), "", endpoint), endpoint=endpoint)
    assert event.outcome == "invalid"
    return event


def test_reprocess_leaves_events_still_not_understood() -> None:
    event = invalid("[1")
    [again] = inbox.reprocess(event)
    assert (again.pk, again.outcome, again.error) == (event.pk, "invalid", event.error)
    assert WebhookEvent.objects.get().body == "[1"


def test_reprocess_keeps_the_events_id_and_time() -> None:
    body = '{"_id": "1", "type": "receive", "sender": "0400 000 001"}'
    event = make_invalid(body, received_at=timezone.now() - timedelta(days=3))
    [again] = inbox.reprocess(event)

    assert (again.pk, again.outcome, again.error) == (event.pk, "stored", "")
    stored = WebhookEvent.objects.get(pk=event.pk)
    assert (stored.outcome, stored.kind, stored.error) == ("stored", "reply", "")
    assert (stored.received_at, stored.contact) == (event.received_at, CUSTOMER)
    assert stored.status_change.status == "received"
    message = Message.objects.get()
    assert message.status == "received"
    assert message.created_at - event.received_at >= timedelta(days=3), "nobody has seen it yet"


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


def test_reprocess_skips_an_event_another_process_has_taken() -> None:
    event = invalid("[1")
    WebhookEvent.objects.update(outcome="stored", body='{"_id": "1", "status": "sent"}')
    event.refresh_from_db()
    assert inbox.reprocess(event) == []
    assert not Message.objects.exists()


# with_retries


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


@pytest.mark.parametrize("handled", SIGNALS)
def test_event_without_handlers_for_its_fact_is_done_at_once(handled: FactSignal) -> None:
    with connected(handled, handler=Calls()):
        [new], [changed] = store(reply()), store(reply(status="delivered"))
    assert (new.outcome, changed.outcome) == ("stored", "stored")
    for event, signal in ((new, message_received), (changed, status_changed)):
        assert event.calls.exists() == (signal == handled)
        assert event.state == ("pending" if signal == handled else "done")
