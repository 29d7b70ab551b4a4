"""Opt-outs: how one is made, how to ask for it, and that only a person ends it."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import phonenumbers
import pytest
from django.db import connection, transaction
from django.db.models.sql.compiler import SQLCompiler
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.connection import ConnectionDoesNotExist
from hypothesis import given, strategies as st
from phonenumbers import FrozenPhoneNumber

from cellcast_django import inbox, payloads, receiving
from cellcast_django.conf import conf
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message, OptOut, OptOutChange, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, is_stop_word, opt_in, opt_out, opted_out
from cellcast_django.signals import message_received, opt_out_received
from cellcast_django.testing import WebhookClient, opt_out_payload, reply_payload
from tests.admin_pages import make_invalid
from tests.database_faults import refused_for_another, refusing
from tests.fake_cellcast import KEY
from tests.handlers import Listen

pytestmark = pytest.mark.django_db

CUSTOMER = "+61400000000"
SPELLINGS = [CUSTOMER, "61400000000", "0400000000", "400000000", "0400 000 000", "+61 400-000-000"]


def outcomes(response: Any) -> list[str]:
    assert response.status_code == 200
    return [event["outcome"] for event in response.json()["events"]]


def history() -> list[tuple[str, str]]:
    return list(OptOutChange.objects.order_by("pk").values_list("kind", "source"))


def stop(client: WebhookClient, **changes: Any) -> list[str]:
    return outcomes(client.reply(**({"sender": CUSTOMER, "message": "STOP"} | changes)))


def webhook(client: WebhookClient) -> list[str]:
    return outcomes(client.opt_out(contact="400000000"))


# Asking


@pytest.mark.parametrize("asked", ["+61445123456", "0445 123 456", "61445123456", "445123456"])
def test_mobile_of_an_unknown_range_can_be_opted_out(client: WebhookClient, asked: str) -> None:
    client.opt_out(contact="445123456")
    assert is_opted_out(asked)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_is_opted_out_accepts_every_spelling(spelling: str) -> None:
    opt_out(spelling)
    for asked in SPELLINGS:
        assert is_opted_out(asked)
        assert opted_out([asked, "0400 000 001"]) == {asked}


@pytest.mark.parametrize("number", ["", " ", "0400 000 001", "cellcast"])
def test_is_opted_out_is_false_for_others(number: str) -> None:
    opt_out(CUSTOMER)
    assert not is_opted_out(number)
    assert opted_out([number]) == set()


def test_odd_number_is_opted_out_as_written() -> None:
    opt_out("Cellcast Pty")
    assert is_opted_out("Cellcast Pty")
    assert not is_opted_out("cellcast pty")


def test_ended_opt_out_no_longer_counts() -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    assert not is_opted_out(CUSTOMER)
    assert opted_out([CUSTOMER]) == set()


@pytest.mark.parametrize("number", ["", "\0"])
def test_empty_number_is_never_opted_out(number: str) -> None:
    OptOut.objects.create(contact="", source="list")
    assert not is_opted_out(number)
    assert opted_out([number]) == set()


def test_opted_out_returns_numbers_as_passed() -> None:
    opt_out(CUSTOMER)
    assert opted_out(SPELLINGS) == set(SPELLINGS)


def test_number_may_be_a_phonenumbers_object() -> None:
    number = phonenumbers.parse("0400 000 000", "AU")
    opt_out(number)
    assert is_opted_out(CUSTOMER)
    assert is_opted_out(number)
    assert OptOut.objects.with_contact(number).exists()
    hashable = FrozenPhoneNumber(number)
    assert opted_out([number]) == {CUSTOMER}
    assert opted_out([hashable]) == {hashable}
    assert opt_in(number)


@pytest.mark.parametrize("number", [None, 61400000000, b"+61400000000", object(), [CUSTOMER]])
def test_number_of_another_type_is_refused(number: Any) -> None:
    for ask in (is_opted_out, opt_out, opt_in, OptOut.objects.with_contact):
        with pytest.raises(TypeError):
            ask(number)
    with pytest.raises(TypeError):
        opted_out([CUSTOMER, number])
    assert not OptOut.objects.exists()


def test_opted_out_refuses_a_single_number() -> None:
    opt_out(CUSTOMER)
    with pytest.raises(TypeError, match="is_opted_out"):
        opted_out(CUSTOMER)


def test_opted_out_takes_one_query_per_thousand(django_assert_num_queries: Any) -> None:
    numbers = [f"+614{number:08d}" for number in range(10_000)]
    opt_out(numbers[0])
    opt_out(numbers[-1])
    with django_assert_num_queries(10):
        assert opted_out(iter(numbers)) == {numbers[0], numbers[-1]}
    with django_assert_num_queries(0):
        assert opted_out([]) == set()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: is_opted_out("+61400000007"),
        lambda: opted_out(f"+614{number:08d}" for number in range(20)),
    ],
    ids=["is_opted_out", "opted_out"],
)
def test_contact_lookup_uses_its_index(ask: Callable[[], Any]) -> None:
    opt_out("+61400000007")
    with CaptureQueriesContext(connection) as queries:
        assert ask()
    [query] = queries
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # which would scan a table this small
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"{explain} {query['sql']}")
        plan = str(cursor.fetchall())
    if connection.vendor == "sqlite":  # which has no statistics and would guess
        assert "(contact=?)" in plan
    elif connection.vendor == "postgresql":
        assert "Index Cond: ((contact)::text = " in plan
    else:
        assert "contact" in plan


class Replica:
    """A router that reads from another database."""

    def db_for_read(self, model: type, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: type, **hints: Any) -> str:
        return "default"

    def allow_relation(self, *args: Any, **hints: Any) -> bool:
        return True


def test_is_opted_out_reads_the_primary(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_opt_outs.Replica"]
    opt_out(CUSTOMER)
    assert is_opted_out(CUSTOMER)
    assert opted_out([CUSTOMER]) == {CUSTOMER}
    assert opt_in(CUSTOMER)
    assert not is_opted_out(CUSTOMER)


# By people


def test_opt_out_records_source_note_and_user() -> None:
    made = opt_out("0400 000 000", note="Told us on the phone.\0")
    stored = OptOut.objects.get()
    assert made == stored
    assert (stored.contact, stored.source) == (CUSTOMER, "person")
    assert (stored.note, stored.event, stored.ended_at) == ("Told us on the phone.", None, None)
    assert stored.is_active


def test_repeated_opt_out_adds_its_note_to_the_history(client: WebhookClient) -> None:
    webhook(client)
    before = OptOut.objects.get()
    opt_out(CUSTOMER)
    opt_out(CUSTOMER, note="Called as well.", username="mia")
    opt_out(CUSTOMER, note="Called again.\0")
    opt_out(CUSTOMER, note="Called as well.")  # an impatient click
    opt_out(CUSTOMER, note="Called")
    after = OptOut.objects.get()
    assert (after.source, after.since, after.event) == ("webhook", before.since, before.event)
    assert after.note == "Called as well.\nCalled again.\nCalled"
    assert history() == [("begun", "webhook"), *[("begun", "person")] * 5]
    notes = OptOutChange.objects.order_by("pk").values_list("note", "username")
    assert list(notes)[2:4] == [("Called as well.", "mia"), ("Called again.", "")]


def test_no_note_is_lost_when_an_opt_out_ends(client: WebhookClient) -> None:
    webhook(client)
    opt_out(CUSTOMER, note="Mrs Lee rang: no more texts.", username="mia")
    opt_in(CUSTOMER, note="Forged.")
    assert "Mrs Lee rang: no more texts." in OptOutChange.objects.values_list("note", flat=True)


def test_renewed_opt_out_has_its_new_source(client: WebhookClient) -> None:
    webhook(client)
    opt_in(CUSTOMER)
    made = opt_out(CUSTOMER)
    assert (made.source, made.event, made.ended_at) == ("person", None, None)
    assert OptOut.objects.get() == made


def test_reply_that_asks_for_it_is_the_proof() -> None:
    asked = "Please take me off, no more texts. " * 40
    earlier, reply = (
        MessageFactory.create(inbound=True, sender="0400 000 000", body=text)
        for text in ("Are you open?", asked)
    )
    opt_out(CUSTOMER, note="Read it today.", username="mia", asked_in=reply)
    assert Message.objects.unhandled().get() == earlier
    assert Message.objects.get(pk=reply.pk).handled_by == "mia"
    proof = OptOutChange.objects.get()
    assert (proof.text, proof.source) == (asked[:1_000], "person")
    assert (proof.note, proof.username) == ("Read it today.", "mia")


def test_reply_to_an_opt_out_that_stands_is_in_the_history() -> None:
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER, body="No more texts")
    opt_out(CUSTOMER)
    before = OptOut.objects.values().get()
    opt_out(CUSTOMER, asked_in=reply)
    assert OptOut.objects.values().get() == before
    assert [each.text for each in OptOutChange.objects.order_by("pk")] == ["", "No more texts"]


@pytest.mark.parametrize(
    "parts", [{"receiver": CUSTOMER}, {"inbound": True, "sender": "0400 000 001"}]
)
def test_proof_must_be_a_reply_of_the_contact(parts: dict[str, Any]) -> None:
    message = MessageFactory.create(**parts)
    with pytest.raises(ValueError, match="asked_in"):
        opt_out(CUSTOMER, asked_in=message)
    assert not OptOut.objects.exists()


@pytest.mark.parametrize("number", ["", "  ", "\0", "9" * 65])
def test_opt_out_refuses_impossible_numbers(number: str) -> None:
    with pytest.raises(ValueError, match="The number is"):
        opt_out(number)
    assert not OptOut.objects.exists()


def test_opt_out_accepts_a_number_of_maximum_length() -> None:
    opt_out("9" * 64)
    assert is_opted_out("9" * 64)


def test_opt_in_ends_only_that_contacts_opt_out() -> None:
    opt_out(CUSTOMER)
    opt_out("0400 000 001")
    assert opt_in(CUSTOMER)
    assert is_opted_out("0400 000 001")


def test_opt_in_returns_whether_it_ended_one() -> None:
    assert not opt_in(CUSTOMER)
    assert not opt_in("")
    opt_out(CUSTOMER)
    assert opt_in("0400 000 000")
    assert not opt_in(CUSTOMER)
    ended = OptOut.objects.get()
    assert ended.ended_at is not None
    assert not ended.is_active


def test_note_belongs_to_the_last_decision() -> None:
    opt_out(CUSTOMER, note="Told us on the phone.")
    opt_in(CUSTOMER, note="Signed the form again.\0")
    assert OptOut.objects.get().note == "Signed the form again."
    opt_out(CUSTOMER)
    assert OptOut.objects.get().note == ""


def test_opt_in_without_an_opt_out_creates_no_row() -> None:
    assert not opt_in(CUSTOMER)
    assert not OptOut.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", ["^INSERT", "^UPDATE"])
def test_opting_out_and_in_is_retried_after_a_serialisation_failure(statement: str) -> None:
    if statement == "^UPDATE":
        opt_out(CUSTOMER)
    with refusing(statement, error=refused_for_another(), times=1) as refusals:
        (opt_out if statement == "^INSERT" else opt_in)(CUSTOMER)
    assert refusals.count == 1
    assert is_opted_out(CUSTOMER) == (statement == "^INSERT")


def test_cache_of_the_orm_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``tests/hosts/test_cached.py`` shows beside real ones."""
    opt_out(CUSTOMER)
    monkeypatch.setattr(SQLCompiler, "execute_sql", lambda *args, **kwargs: [])
    assert not OptOut.objects.active().exists()
    assert is_opted_out(CUSTOMER)
    assert opted_out([CUSTOMER]) == {CUSTOMER}


class WritesElsewhere:
    """A router that writes to a database which does not exist."""

    def db_for_write(self, model: type, **hints: Any) -> str:
        return "elsewhere"


def test_opt_outs_use_the_routers_database(settings: Any, django_assert_num_queries: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_opt_outs.WritesElsewhere"]
    for ask in (is_opted_out, opt_out, opt_in, lambda number: opted_out([number])):
        with django_assert_num_queries(0), pytest.raises(ConnectionDoesNotExist):
            ask(CUSTOMER)


# By webhooks


def test_opt_out_webhook_opts_contact_out(client: WebhookClient) -> None:
    assert webhook(client) == ["stored"]
    stored, event = OptOut.objects.get(), WebhookEvent.objects.get()
    assert (stored.contact, stored.source, stored.event) == (CUSTOMER, "webhook", event)
    assert (stored.since, stored.ended_at) == (event.received_at, None)
    assert (event.kind, event.contact, event.outcome) == ("opt_out", CUSTOMER, "stored")


def test_second_opt_out_webhook_is_a_duplicate(
    client: WebhookClient,
) -> None:
    webhook(client)
    before = OptOut.objects.get()
    assert webhook(client) == ["duplicate"]
    duplicate = WebhookEvent.objects.get(outcome="duplicate")
    assert (duplicate.kind, duplicate.contact) == ("opt_out", CUSTOMER)
    assert OptOut.objects.values().get() == OptOut.objects.filter(pk=before.pk).values().get()
    assert OptOut.objects.get().since == before.since


@pytest.mark.parametrize(
    "text", ["STOP", "Stop.", " stop ", "S T O P", "«stop»", "Opt-out", "OPT OUT!", "unsubscribe"]
)
def test_text_of_only_a_stop_word_opts_out(client: WebhookClient, text: str) -> None:
    assert stop(client, message=text) == ["stored"]
    stored, event = OptOut.objects.get(), WebhookEvent.objects.get()
    assert (stored.contact, stored.source, stored.event) == (CUSTOMER, "reply", event)
    assert stored.since == event.received_at
    message = Message.objects.get()
    assert (message.body, message.handled_at) == (text, message.created_at)
    assert event.kind == "reply"


@pytest.mark.parametrize(
    "text",
    [
        "don't stop",
        "nonstop",
        "STOPPING by at 5",
        "Please stop",
        "stop stop",
        "Reply STOP to opt-out",
        "Please take me off, no more texts",
        "See you at 5",
        "🛑",
        "",
    ],
)
def test_other_texts_opt_nobody_out(client: WebhookClient, text: str) -> None:
    assert stop(client, message=text) == ["stored"]
    assert not OptOut.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"reply": "YES", "message": "STOP"},
        {"reply": "YES", "original_body": "STOP"},
        {"sender": ""},
        {"sender": None},
        {"sender": "  "},
    ],
)
def test_stop_counts_only_in_the_text_of_a_known_sender(
    client: WebhookClient, changes: dict[str, Any]
) -> None:
    assert stop(client, **changes) == ["stored"]
    assert not OptOut.objects.exists()


@pytest.mark.parametrize("in_array", [False, True])
def test_test_send_opts_nobody_out(listen: Listen, *, in_array: bool) -> None:
    told, replies = listen(opt_out_received), listen(message_received)
    body = json.dumps(reply_payload(sender=CUSTOMER, message="STOP"))
    reads = [
        *payloads.read(body.encode(), "application/json", payloads.Endpoint.RECEIVE),
        payloads.OptOut(raw="{}", number=CUSTOMER),
    ]
    for batch in [reads] if in_array else [[each] for each in reads]:
        receiving.receive(batch, endpoint=payloads.Endpoint.RECEIVE, is_test=True)
    assert not OptOut.objects.exists()
    assert [each["message"].body for each in replies] == ["STOP"]
    assert told == []
    events = WebhookEvent.objects.order_by("pk")
    assert [(each.kind, each.outcome, each.state) for each in events] == [
        ("reply", "stored", "done"),
        ("opt_out", "stored", "done"),
    ]


def test_test_send_tells_no_opt_out_that_stands(client: WebhookClient) -> None:
    webhook(client)
    test = payloads.OptOut(raw="{}", number=CUSTOMER)
    [event] = inbox.store([test], endpoint=payloads.Endpoint.OPT_OUT, is_test=True)
    assert event.is_stored
    assert len(history()) == 1


def test_blocked_status_opts_nobody_out(client: WebhookClient) -> None:
    client.status(status="blocked", receiver=CUSTOMER)
    assert not OptOut.objects.exists()


def test_setting_replaces_the_stop_words(client: WebhookClient, settings: Any) -> None:
    settings.CELLCAST_STOP_WORDS = ["Ne-plus!"]
    assert is_stop_word("ne plus")
    assert not is_stop_word("stop")
    assert not is_stop_word("")
    settings.CELLCAST_STOP_WORDS = []
    stop(client)
    assert not OptOut.objects.exists()


@pytest.mark.parametrize("value", ["stop", None, 7, {"stop": 1}])
def test_malformed_setting_keeps_the_default_stop_words(settings: Any, value: Any) -> None:
    settings.CELLCAST_STOP_WORDS = value
    assert all(map(is_stop_word, conf.stop_words))
    assert not is_stop_word("s")


def test_stop_and_webhook_make_one_opt_out(client: WebhookClient) -> None:
    assert stop(client) == ["stored"]
    assert webhook(client) == ["duplicate"]
    assert OptOut.objects.get().source == "reply"
    assert stop(client, _id="2") == ["stored"]
    assert OptOut.objects.count() == 1


def test_array_of_opt_outs_and_stops_makes_one_per_contact(client: WebhookClient) -> None:
    payloads = [
        reply_payload(_id="1", sender="0400000002", message="stop"),
        opt_out_payload(contact="400000001"),
        reply_payload(_id="2", sender="0400000003", message="yes"),
        opt_out_payload(contact="400000002"),
        opt_out_payload(contact="+61400000001"),
        reply_payload(_id="1", sender="0400000002", message="stop"),
    ]
    response = client.webhook(payloads, "receive")
    assert outcomes(response) == [*["stored"] * 3, *["duplicate"] * 3]
    made = OptOut.objects.order_by("contact").values_list("contact", "source")
    assert list(made) == [("+61400000001", "webhook"), ("+61400000002", "reply")]


# From Cellcast's list


def from_list() -> str:
    payload = payloads.OptOut(raw="{}", number="400000000")
    [event] = inbox.store([payload], endpoint=payloads.Endpoint.API)
    return event.outcome


def recovered_stop(received_at: datetime) -> WebhookEvent:
    """Store a STOP as ``cellcast_recover`` does."""
    parts: dict[str, Any] = dict.fromkeys(["cellcast_id", "receiver", "original_body"], "")
    parts |= {"raw": "{}", "sender": CUSTOMER, "body": "STOP", "status": "received"}
    payload = payloads.Reply(**parts, listed=payloads.Listed(received_at))
    [event] = inbox.store([payload], endpoint=payloads.Endpoint.API)
    return event


def test_opt_out_from_cellcasts_list_is_stored_once() -> None:
    assert from_list() == "stored"
    assert OptOut.objects.get().source == "list"
    assert from_list() == "duplicate"


def test_cellcasts_list_does_not_undo_an_opt_in() -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    assert from_list() == "duplicate"
    assert not is_opted_out(CUSTOMER)


def test_recovered_stop_opts_out_from_its_sending_time(settings: Any) -> None:
    settings.CELLCAST_API_KEY = "4f1c9a52"
    wrote_at = timezone.now() - timedelta(days=1)
    event = recovered_stop(wrote_at)
    made = OptOut.objects.get()
    assert (made.source, made.since, made.event) == ("reply", wrote_at, event)
    assert Message.objects.get().handled_at == wrote_at
    assert WebhookClient().reply(sender=CUSTOMER, message="STOP").status_code == 200
    assert OptOut.objects.get() == made


# Repeated and late events


def test_opt_out_webhook_renews_an_ended_opt_out(client: WebhookClient) -> None:
    webhook(client)
    opt_in(CUSTOMER, note="Signed the form.")
    assert webhook(client) == ["stored"]
    again = OptOut.objects.get()
    assert again.is_active
    assert (again.event, again.note) == (WebhookEvent.objects.latest("pk"), "")


def test_stop_renews_an_ended_opt_out(client: WebhookClient) -> None:
    webhook(client)
    opt_in(CUSTOMER)
    assert stop(client) == ["stored"]
    assert OptOut.objects.get().source == "reply"
    assert is_opted_out(CUSTOMER)


def test_repeated_stop_after_an_opt_in_calls_only_opt_out_handlers(
    client: WebhookClient, listen: Listen
) -> None:
    replies, opt_outs_heard = listen(message_received), listen(opt_out_received)
    stop(client)
    opt_in(CUSTOMER)
    assert stop(client) == ["stored"]
    assert is_opted_out(CUSTOMER)
    assert (len(replies), len(opt_outs_heard)) == (1, 2)
    assert opt_outs_heard[1]["event"] == WebhookEvent.objects.latest("pk")
    assert WebhookEvent.objects.latest("pk").message == Message.objects.get()


def test_repeated_stop_with_another_status_renews_an_ended_opt_out(
    client: WebhookClient,
) -> None:
    stop(client)
    opt_in(CUSTOMER)
    assert stop(client, status="received") == ["stored"]
    assert is_opted_out(CUSTOMER)
    assert Message.objects.get().status_history.count() == 2


def test_repeated_stop_changes_nothing_while_opted_out(client: WebhookClient) -> None:
    stop(client)
    before = OptOut.objects.values().get()
    assert stop(client) == ["duplicate"]
    assert stop(client, status="received") == ["stored"]
    assert OptOut.objects.values().get() == before
    assert history() == [("begun", "reply")]


def test_repeated_stop_without_an_opt_out_begins_one(client: WebhookClient) -> None:
    stop(client)
    OptOut.objects.all().delete()
    assert stop(client) == ["stored"]
    assert is_opted_out(CUSTOMER)


@pytest.mark.parametrize("is_ended", [True, False])
def test_late_webhook_renews_an_ended_recovered_stop(
    client: WebhookClient, listen: Listen, settings: Any, *, is_ended: bool
) -> None:
    settings.CELLCAST_API_KEY = KEY
    replies = listen(message_received)
    recovered_stop(timezone.now() - timedelta(hours=2))
    if is_ended:
        opt_in(CUSTOMER)
    assert stop(client) == (["stored"] if is_ended else ["duplicate"])
    assert is_opted_out(CUSTOMER)
    assert Message.objects.count() == 1
    assert not replies
    assert OptOut.objects.get().history.count() == (3 if is_ended else 1)


@pytest.mark.parametrize("body", [opt_out_payload(contact=CUSTOMER), reply_payload(message="STOP")])
def test_reprocessed_event_does_not_undo_a_later_opt_in(
    body: dict[str, str],
) -> None:
    invalid = make_invalid(json.dumps(body))
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    [event] = inbox.reprocess(invalid)
    assert event.outcome == ("stored" if event.kind == "reply" else "duplicate")
    assert not is_opted_out(CUSTOMER)


@pytest.mark.parametrize("body", [opt_out_payload(contact=CUSTOMER), reply_payload(message="STOP")])
def test_reprocessed_event_undoes_an_earlier_opt_in(body: dict[str, str]) -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    ended_at = OptOut.objects.values_list("ended_at", flat=True).get()
    [event] = inbox.reprocess(make_invalid(json.dumps(body), received_at=ended_at))
    assert event.outcome == "stored"
    assert is_opted_out(CUSTOMER)


def test_reprocessed_event_opts_out_from_its_arrival() -> None:
    three_days_ago = timezone.now() - timedelta(days=3)
    stop = json.dumps(reply_payload(message="STOP"))
    [event] = inbox.reprocess(make_invalid(stop, received_at=three_days_ago))
    made = OptOut.objects.get()
    assert (made.since, made.event) == (event.received_at, event)


@pytest.mark.parametrize("hours", [1, -1])
def test_recovered_stop_counts_only_if_sent_after_the_opt_in(hours: int) -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    now = timezone.now()
    OptOut.objects.update(ended_at=now - timedelta(hours=3))
    recovered_stop(now - timedelta(hours=3 + hours))
    assert is_opted_out(CUSTOMER) == (hours < 0)


def test_opt_out_survives_its_event(client: WebhookClient) -> None:
    webhook(client)
    WebhookEvent.objects.all().delete()
    assert OptOut.objects.get().event is None
    assert is_opted_out(CUSTOMER)


def test_opt_out_is_rolled_back_with_its_webhook(
    listen: Listen,
) -> None:
    listen(opt_out_received)
    payload = payloads.OptOut(raw="{}", number=CUSTOMER)
    with refusing("INSERT INTO .*handlercall", error=RuntimeError()), pytest.raises(RuntimeError):
        inbox.store([payload], endpoint=payloads.Endpoint.OPT_OUT)
    assert not OptOut.objects.exists()


# The history


def test_history_keeps_each_beginning_and_end_with_text_and_note(client: WebhookClient) -> None:
    stop(client, message=" Stop! ")
    opt_in(CUSTOMER, note="Asked at the counter.\0", username="mia")
    webhook(client)
    opt_in(CUSTOMER)
    opt_out(CUSTOMER, note="Rang us.", username="ben")
    first, second = WebhookEvent.objects.order_by("pk")
    rows = OptOut.objects.get().history.values_list(
        "kind", "source", "event", "text", "note", "username"
    )
    assert list(rows) == [
        ("begun", "reply", first.pk, " Stop! ", "", ""),
        ("ended", "person", None, "", "Asked at the counter.", "mia"),
        ("begun", "webhook", second.pk, second.body, "", ""),
        ("ended", "person", None, "", "", ""),
        ("begun", "person", None, "", "Rang us.", "ben"),
    ]


def test_history_keeps_the_secret_of_the_webhook(client: WebhookClient, settings: Any) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = ["leaked:a-long-enough-password"]
    stop(client)
    opt_in(CUSTOMER, username="kim")
    webhook(client)
    rows = OptOutChange.objects.order_by("pk").values_list("received_as", "username")
    assert list(rows) == [("leaked", ""), ("", "kim"), ("leaked", "")]


def test_history_keeps_the_item_of_cellcasts_list() -> None:
    from_list()
    [change] = OptOutChange.objects.all()
    assert (change.source, change.text) == ("list", "{}")
    assert change.event == WebhookEvent.objects.get()


def test_history_keeps_the_first_thousand_characters_of_a_text(client: WebhookClient) -> None:
    stop(client, message="stop" + "." * 2_000)
    assert OptOutChange.objects.get().text == "stop" + "." * 996


@pytest.mark.parametrize(
    ("username", "stored"),
    [(None, ""), (7, "7"), (phonenumbers.parse(CUSTOMER), "Country Code: 61 National")],
    ids=["none", "staff number", "phone number"],
)
def test_usernames_need_not_be_text(username: Any, stored: str) -> None:
    """A user model may sign people in by a number; ``get_username`` returns what its field has."""
    answer = Message.objects.record_sent("sent", receiver=CUSTOMER, username=username)
    reply = MessageFactory.create(direction="inbound", sender=CUSTOMER)
    reply.mark_handled(username=username)
    opt_out(CUSTOMER, username=username)
    opt_in(CUSTOMER, note="Asked.", username=username)
    reply.refresh_from_db()
    written = [answer.sent_by, reply.handled_by]
    written += OptOutChange.objects.values_list("username", flat=True)
    assert len(written) == 4
    assert all(each.startswith(stored) for each in written)
    assert all(written) == bool(stored)


def test_history_truncates_a_long_username() -> None:
    opt_out(CUSTOMER, username="m" * 300)
    opt_in(CUSTOMER, username="m" * 300)
    assert set(OptOutChange.objects.values_list("username", flat=True)) == {"m" * 255}


def test_history_survives_its_events(client: WebhookClient) -> None:
    stop(client)
    before = OptOutChange.objects.values("kind", "at", "text").get()
    WebhookEvent.objects.all().delete()
    Message.objects.all().delete()
    assert OptOutChange.objects.values("kind", "at", "text").get() == before
    assert OptOutChange.objects.get().event is None


def test_history_is_deleted_only_with_its_opt_out(client: WebhookClient) -> None:
    webhook(client)
    opt_out("0400 000 001")
    OptOut.objects.with_contact(CUSTOMER).delete()
    assert OptOutChange.objects.get().opt_out.contact == "+61400000001"


# Clocks


class Steps:
    """A clock of the wall that a test sets."""

    def __init__(self) -> None:
        self.now = timezone.now()

    def back(self, **ago: int) -> None:
        self.now -= timedelta(**ago)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The clock of this host, which stands still until the test sets it."""
    steps = Steps()
    monkeypatch.setattr(timezone, "now", lambda: steps.now)
    return steps


@pytest.mark.parametrize("ask", [stop, webhook])
def test_opt_out_counts_after_the_clock_steps_back(
    client: WebhookClient, wall: Steps, ask: Callable[[WebhookClient], list[str]]
) -> None:
    stop(client)
    opt_in(CUSTOMER)
    wall.back(hours=1)
    assert ask(client) == ["stored"]
    assert is_opted_out(CUSTOMER)
    wall.back(hours=1)
    assert opt_in(CUSTOMER)
    assert not is_opted_out(CUSTOMER)
    assert [kind for kind, _ in history()] == ["begun", "ended"] * 2


class Ledger:
    """The rules of an opt-out, as DESIGN has them."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, datetime]] = []

    @property
    def stands(self) -> bool:
        return bool(self.rows) and self.rows[-1][0] == "begun"

    def arrives(self, source: str, at: datetime) -> None:
        if not self.stands:
            self.rows.append(("begun", source, at))

    def comes_from_elsewhere(self, source: str, at: datetime) -> None:
        if not self.rows or at >= self.rows[-1][2]:
            self.arrives(source, at)

    def is_listed(self, at: datetime) -> None:
        if not self.rows:
            self.arrives("list", at)

    def ends(self, at: datetime) -> None:
        if self.stands:
            self.rows.append(("ended", "person", at))


ACTIONS = ("stop", "webhook", "list", "opt_out", "opt_in", "opt_in", "api", "reprocessed")
minutes = st.integers(-90, 90)
actions = st.tuples(st.sampled_from(ACTIONS), minutes, st.integers(0, 300))


@pytest.mark.exhaustive
@given(st.lists(actions, min_size=20, max_size=20))
def test_row_and_history_agree_with_a_model_in_any_order_and_clock(
    taken: list[tuple[str, int, int]],
) -> None:
    OptOut.objects.all().delete()
    ledger, now = Ledger(), timezone.now()
    with pytest.MonkeyPatch.context() as patched:
        for number, (action, step, age) in enumerate(taken):
            now += timedelta(minutes=step)
            patched.setattr(timezone, "now", lambda now=now: now)
            act(ledger, action, now, now - timedelta(minutes=age), f"{number}-{step}-{age}")
            assert is_opted_out(CUSTOMER) == ledger.stands
    assert_agrees(ledger)


def act(ledger: Ledger, action: str, now: datetime, earlier: datetime, cellcast_id: str) -> None:
    """Do the same to the database and to the ledger."""

    def receive(body: dict[str, str], endpoint: payloads.Endpoint) -> None:
        payload = payloads.read(json.dumps(body).encode(), "application/json", endpoint)
        inbox.store(payload, endpoint=endpoint)

    parts = {"_id": cellcast_id, "sender": CUSTOMER, "message": "STOP"}
    match action:
        case "stop":
            receive(reply_payload(**parts), payloads.Endpoint.RECEIVE)
            ledger.arrives("reply", now)
        case "webhook":
            receive(opt_out_payload(contact="400000000"), payloads.Endpoint.OPT_OUT)
            ledger.arrives("webhook", now)
        case "list":
            from_list()
            ledger.is_listed(now)
        case "opt_out":
            opt_out(CUSTOMER)
            ledger.rows.append(("begun", "person", now))
        case "opt_in":
            opt_in(CUSTOMER)
            ledger.ends(now)
        case "api":
            recovered_stop(earlier)
            ledger.comes_from_elsewhere("reply", earlier)
        case "reprocessed":
            inbox.reprocess(make_invalid(json.dumps(reply_payload(**parts)), received_at=earlier))
            ledger.comes_from_elsewhere("reply", earlier)


def assert_agrees(ledger: Ledger) -> None:
    assert OptOut.objects.active().exists() == ledger.stands
    found = OptOut.objects.first()
    if found is None:
        assert not ledger.rows
        return
    assert list(found.history.values_list("kind", "source", "at")) == ledger.rows
    assert found.is_active == ledger.stands
    last = ledger.rows[: len(ledger.rows) - (not ledger.stands)]  # since it began the last time
    ends = [place for place, row in enumerate(last) if row[0] == "ended"]
    begun = list(found.history.all())[ends[-1] + 1 if ends else 0]
    assert (found.source, found.since, found.event) == (begun.source, begun.at, begun.event)
    assert found.ended_at == (None if ledger.stands else ledger.rows[-1][2])


# The model


def test_with_contact_accepts_every_spelling() -> None:
    made = opt_out(CUSTOMER)
    opt_out("+61400000001")
    assert OptOut.objects.with_contact("0400 000 000").get() == made
    assert not OptOut.objects.with_contact("").exists()


def test_opt_out_repr_hides_the_number() -> None:
    made = opt_out(CUSTOMER)
    assert CUSTOMER not in f"{made} {made!r}"


def test_locked_row_without_a_beginning_is_not_an_opt_out() -> None:
    with transaction.atomic():
        locked = OptOut.objects.insert_and_lock([CUSTOMER])[CUSTOMER]
    assert not locked.is_active
    assert not OptOut.objects.active().exists()
    assert not is_opted_out(CUSTOMER)
    assert opted_out([CUSTOMER]) == set()
    assert not opt_in(CUSTOMER)
    assert opt_out(CUSTOMER).is_active


def test_opt_out_change_repr_hides_the_number() -> None:
    change = opt_out(CUSTOMER).history.get()
    assert CUSTOMER not in f"{change} {change!r}"
