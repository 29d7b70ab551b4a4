"""Opt-outs: how one is made, how to ask for it, and that only a person ends it."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import phonenumbers
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from phonenumbers import FrozenPhoneNumber

from cellcast_django import inbox, payloads
from cellcast_django.conf import DEFAULT_STOP_WORDS
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, is_stop_word, opt_in, opt_out, opted_out
from cellcast_django.signals import opt_out_received
from cellcast_django.testing import WebhookClient, opt_out_payload, reply_payload
from tests.admin_pages import make_invalid
from tests.handlers import Listen

pytestmark = pytest.mark.django_db

CUSTOMER = "+61400000000"
SPELLINGS = [CUSTOMER, "61400000000", "0400000000", "400000000", "0400 000 000", "+61 400-000-000"]


def outcomes(response: Any) -> list[str]:
    assert response.status_code == 200
    return [event["outcome"] for event in response.json()["events"]]


def stop(client: WebhookClient, **changes: Any) -> list[str]:
    return outcomes(client.reply(**({"sender": CUSTOMER, "message": "STOP"} | changes)))


def webhook(client: WebhookClient) -> list[str]:
    return outcomes(client.opt_out(contact="400000000"))


# Asking


@pytest.mark.parametrize("asked", ["+61445123456", "0445 123 456", "61445123456", "445123456"])
def test_opt_out_of_a_mobile_whose_range_is_unknown_to_phonenumbers(
    client: WebhookClient, asked: str
) -> None:
    client.opt_out(contact="445123456")
    assert is_opted_out(asked)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("asked", SPELLINGS)
def test_opt_out_is_known_in_every_spelling_of_the_number(spelling: str, asked: str) -> None:
    opt_out(spelling)
    assert is_opted_out(asked)
    assert opted_out([asked, "0400 000 001"]) == {asked}


@pytest.mark.parametrize("number", ["", " ", "0400 000 001", "cellcast"])
def test_others_have_not_opted_out(number: str) -> None:
    opt_out(CUSTOMER)
    assert not is_opted_out(number)
    assert opted_out([number]) == set()


def test_what_is_no_phone_number_is_known_as_it_is_written() -> None:
    opt_out("Cellcast Pty")
    assert is_opted_out("Cellcast Pty")
    assert not is_opted_out("cellcast pty")


def test_one_that_has_ended_counts_no_more() -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    assert not is_opted_out(CUSTOMER)
    assert opted_out([CUSTOMER]) == set()


@pytest.mark.parametrize("number", ["", "\0"])
def test_number_that_is_empty_is_nobodys(number: str) -> None:
    OptOut.objects.create(contact="", source="list")
    assert not is_opted_out(number)
    assert opted_out([number]) == set()


def test_opted_out_gives_back_each_spelling_that_was_asked_for() -> None:
    opt_out(CUSTOMER)
    assert opted_out(SPELLINGS) == set(SPELLINGS)


def test_number_may_be_an_object_of_phonenumbers() -> None:
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
def test_what_is_neither_text_nor_an_object_of_phonenumbers_is_refused(number: Any) -> None:
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


def test_opted_out_asks_one_query_for_each_thousand(django_assert_num_queries: Any) -> None:
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
def test_contacts_are_found_by_their_own_index(ask: Callable[[], Any]) -> None:
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


def test_what_was_stored_a_moment_ago_counts_though_reads_go_to_a_replica(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_opt_outs.Replica"]
    opt_out(CUSTOMER)
    assert is_opted_out(CUSTOMER)
    assert opted_out([CUSTOMER]) == {CUSTOMER}
    assert opt_in(CUSTOMER)
    assert not is_opted_out(CUSTOMER)


# By people


def test_opt_out_by_a_person() -> None:
    made = opt_out("0400 000 000", note="Told us on the phone.\0")
    stored = OptOut.objects.get()
    assert made == stored
    assert (stored.contact, stored.source) == (CUSTOMER, "person")
    assert (stored.note, stored.event, stored.ended_at) == ("Told us on the phone.", None, None)
    assert stored.is_active


def test_opt_out_on_one_that_stands_keeps_its_source_and_its_time(client: WebhookClient) -> None:
    webhook(client)
    before = OptOut.objects.get()
    opt_out(CUSTOMER, note="Called as well.")
    after = OptOut.objects.get()
    assert (after.source, after.since, after.event) == ("webhook", before.since, before.event)
    assert after.note == "Called as well."


def test_opt_out_again_after_an_end_is_a_persons(client: WebhookClient) -> None:
    webhook(client)
    opt_in(CUSTOMER)
    made = opt_out(CUSTOMER)
    assert (made.source, made.event, made.ended_at) == ("person", None, None)
    assert OptOut.objects.get() == made


@pytest.mark.parametrize("number", ["", "  ", "\0", "9" * 65])
def test_opt_out_refuses_what_cannot_be_a_number(number: str) -> None:
    with pytest.raises(ValueError, match="The number is"):
        opt_out(number)
    assert not OptOut.objects.exists()


def test_opt_out_takes_a_number_of_the_greatest_length() -> None:
    opt_out("9" * 64)
    assert is_opted_out("9" * 64)


def test_opt_in_ends_nobody_elses() -> None:
    opt_out(CUSTOMER)
    opt_out("0400 000 001")
    assert opt_in(CUSTOMER)
    assert is_opted_out("0400 000 001")


def test_opt_in_says_whether_there_was_one_to_end() -> None:
    assert not opt_in(CUSTOMER)
    assert not opt_in("")
    opt_out(CUSTOMER)
    assert opt_in("0400 000 000")
    assert not opt_in(CUSTOMER)
    ended = OptOut.objects.get()
    assert ended.ended_at is not None
    assert not ended.is_active


def test_notes_are_kept_one_after_the_other() -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER, note="Signed the form again.\0")
    opt_out(CUSTOMER, note="Changed her mind.")
    opt_in(CUSTOMER, note="And again.")
    opt_out(CUSTOMER)
    assert OptOut.objects.get().note == "Signed the form again.\nChanged her mind.\nAnd again."


# By webhooks


def test_opt_out_webhook(client: WebhookClient) -> None:
    assert webhook(client) == ["stored"]
    stored, event = OptOut.objects.get(), WebhookEvent.objects.get()
    assert (stored.contact, stored.source, stored.event) == (CUSTOMER, "webhook", event)
    assert (stored.since, stored.ended_at) == (event.received_at, None)
    assert (event.kind, event.contact, event.outcome) == ("opt_out", CUSTOMER, "stored")


def test_opt_out_webhook_of_a_contact_who_has_opted_out_is_a_duplicate(
    client: WebhookClient,
) -> None:
    webhook(client)
    before = OptOut.objects.get()
    assert webhook(client) == ["duplicate"]
    duplicate = WebhookEvent.objects.duplicates().get()
    assert (duplicate.kind, duplicate.contact) == ("opt_out", CUSTOMER)
    assert OptOut.objects.values().get() == OptOut.objects.filter(pk=before.pk).values().get()
    assert OptOut.objects.get().since == before.since


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "text", ["STOP", "Stop.", " stop ", "S T O P", "«stop»", "Opt-out", "OPT OUT!", "unsubscribe"]
)
def test_reply_whose_whole_text_is_a_stop_word_opts_out(client: WebhookClient, text: str) -> None:
    assert stop(client, message=text) == ["stored"]
    stored, event = OptOut.objects.get(), WebhookEvent.objects.get()
    assert (stored.contact, stored.source, stored.event) == (CUSTOMER, "reply", event)
    assert stored.since == event.received_at
    assert Message.objects.get().body == text
    assert event.kind == "reply"


@pytest.mark.usefixtures("way")
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


@pytest.mark.usefixtures("way")
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
def test_only_the_text_of_a_known_customer_counts(
    client: WebhookClient, changes: dict[str, Any]
) -> None:
    assert stop(client, **changes) == ["stored"]
    assert not OptOut.objects.exists()


def test_blocked_only_hints_at_an_opt_out(client: WebhookClient) -> None:
    client.status(status="blocked", receiver=CUSTOMER)
    assert not OptOut.objects.exists()


def test_stop_words_are_a_setting(client: WebhookClient, settings: Any) -> None:
    settings.CELLCAST_STOP_WORDS = ["Ne-plus!", "", "…"]
    assert is_stop_word("ne plus")
    assert not is_stop_word("stop")
    assert not is_stop_word("")
    settings.CELLCAST_STOP_WORDS = []
    stop(client)
    assert not OptOut.objects.exists()


@pytest.mark.parametrize("value", ["stop", None, 7, {"stop": 1}])
def test_a_mistake_in_the_setting_does_not_turn_stop_words_off(settings: Any, value: Any) -> None:
    settings.CELLCAST_STOP_WORDS = value
    assert all(map(is_stop_word, DEFAULT_STOP_WORDS))
    assert not is_stop_word("s")


def test_stop_beside_the_webhook_makes_one_opt_out(client: WebhookClient) -> None:
    assert stop(client) == ["stored"]
    assert webhook(client) == ["duplicate"]
    assert OptOut.objects.get().source == "reply"
    assert stop(client, _id="2") == ["stored"]
    assert OptOut.objects.count() == 1


def test_array_of_opt_outs_and_replies_makes_one_for_each_contact(client: WebhookClient) -> None:
    payloads = [
        reply_payload(_id="1", sender="0400000002", message="stop"),
        opt_out_payload(contact="400000001"),
        reply_payload(_id="2", sender="0400000003", message="yes"),
        opt_out_payload(contact="400000002"),
        opt_out_payload(contact="+61400000001"),
        reply_payload(_id="1", sender="0400000002", message="stop"),
    ]
    response = client.send("webhook-receiver", payloads)
    assert outcomes(response) == [*["stored"] * 3, *["duplicate"] * 3]
    made = OptOut.objects.order_by("contact").values_list("contact", "source")
    assert list(made) == [("+61400000001", "webhook"), ("+61400000002", "reply")]


# From Cellcast's list


def from_list() -> str:
    payload = payloads.OptOut(raw="{}", number="400000000")
    [event] = inbox.store([payload], endpoint=payloads.Endpoint.API)
    return event.outcome


def test_opt_out_of_cellcasts_list() -> None:
    assert from_list() == "stored"
    assert OptOut.objects.get().source == "list"
    assert from_list() == "duplicate"


def test_list_does_not_undo_an_opt_in() -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    assert from_list() == "duplicate"
    assert not is_opted_out(CUSTOMER)


def test_stop_that_was_recovered_opts_out_since_the_customer_wrote_it(settings: Any) -> None:
    settings.CELLCAST_API_KEY = "4f1c9a52"
    wrote_at = timezone.now() - timedelta(days=1)
    parts: dict[str, Any] = dict.fromkeys(["cellcast_id", "receiver", "original_body"], "")
    parts |= {"raw": "{}", "sender": CUSTOMER, "body": "STOP", "status": "received"}
    payload = payloads.RecoveredReply(**parts, received_at=wrote_at)
    [event] = inbox.store([payload], endpoint=payloads.Endpoint.API)
    made = OptOut.objects.get()
    assert (made.source, made.since, made.event) == ("reply", wrote_at, event)
    assert WebhookClient().reply(sender=CUSTOMER, message="STOP").status_code == 200
    assert OptOut.objects.get() == made


# Repeated and late events


def test_new_opt_out_after_an_opt_in_stands_again(client: WebhookClient) -> None:
    webhook(client)
    opt_in(CUSTOMER, note="Signed the form.")
    assert webhook(client) == ["stored"]
    again = OptOut.objects.get()
    assert again.is_active
    assert (again.event, again.note) == (WebhookEvent.objects.latest("pk"), "Signed the form.")


def test_new_stop_after_an_opt_in_stands_again(client: WebhookClient) -> None:
    webhook(client)
    opt_in(CUSTOMER)
    assert stop(client) == ["stored"]
    assert OptOut.objects.get().source == "reply"
    assert is_opted_out(CUSTOMER)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("status", ["delivered", "received"])
def test_same_stop_again_after_an_opt_in_does_not(client: WebhookClient, status: str) -> None:
    stop(client)
    opt_in(CUSTOMER)
    stop(client, status=status)
    assert not is_opted_out(CUSTOMER)


@pytest.mark.usefixtures("way")
def test_same_stop_again_ends_nothing(client: WebhookClient) -> None:
    stop(client)
    before = OptOut.objects.values().get()
    assert stop(client) == ["duplicate"]
    assert stop(client, status="received") == ["stored"]
    assert OptOut.objects.values().get() == before


def test_stop_that_came_before_the_ledger_makes_none_when_it_comes_again(
    client: WebhookClient,
) -> None:
    stop(client)
    OptOut.objects.all().delete()
    assert stop(client) == ["duplicate"]
    assert not OptOut.objects.exists()


@pytest.mark.parametrize("body", [opt_out_payload(contact=CUSTOMER), reply_payload(message="STOP")])
def test_event_that_is_understood_late_does_not_undo_a_later_opt_in(
    body: dict[str, str],
) -> None:
    invalid = make_invalid(json.dumps(body))
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    [event] = inbox.reprocess(invalid)
    assert event.outcome == ("stored" if event.kind == "reply" else "duplicate")
    assert not is_opted_out(CUSTOMER)


def test_event_that_is_understood_late_opts_out_since_it_came() -> None:
    three_days_ago = timezone.now() - timedelta(days=3)
    stop = json.dumps(reply_payload(message="STOP"))
    [event] = inbox.reprocess(make_invalid(stop, received_at=three_days_ago))
    made = OptOut.objects.get()
    assert (made.since, made.event) == (event.received_at, event)


def test_deleting_its_event_leaves_the_opt_out(client: WebhookClient) -> None:
    webhook(client)
    WebhookEvent.objects.all().delete()
    assert OptOut.objects.get().event is None
    assert is_opted_out(CUSTOMER)


def test_nothing_is_stored_where_the_webhook_is_not(
    listen: Listen,
) -> None:
    def refuse(event_ids: list[int]) -> None:
        raise RuntimeError

    listen(opt_out_received)
    payload = payloads.OptOut(raw="{}", number=CUSTOMER)
    with pytest.raises(RuntimeError):
        inbox.store([payload], endpoint=payloads.Endpoint.OPT_OUT, outbox=refuse)
    assert not OptOut.objects.exists()


# The model


def test_queryset_of_one_contact_knows_every_spelling() -> None:
    made = opt_out(CUSTOMER)
    opt_out("+61400000001")
    assert OptOut.objects.with_contact("0400 000 000").get() == made
    assert not OptOut.objects.with_contact("").exists()


def test_opt_out_in_a_log_shows_no_number() -> None:
    made = opt_out(CUSTOMER)
    assert CUSTOMER not in f"{made} {made!r}"
