"""Opt-outs: how one is made, how to ask for it, and that only a person ends it."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import phonenumbers
import pytest
from django.db import DatabaseError
from django.utils import timezone
from django.utils.connection import ConnectionDoesNotExist
from phonenumbers import FrozenPhoneNumber

from cellcast_django import inbox, payloads
from cellcast_django.conf import conf
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message, OptOut, OptOutChange, WebhookEvent
from cellcast_django.opt_outs import (
    is_opted_out,
    is_stop_word,
    may_want_to_stop,
    opt_in,
    opt_out,
    opt_out_as_listed,
    opted_out,
)
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient, opt_out_payload, reply_payload
from tests.admin_pages import make_invalid
from tests.database_faults import refusing
from tests.fake_cellcast import KEY
from tests.handlers import Listen, outcomes

pytestmark = pytest.mark.django_db

CUSTOMER = "+61400000000"
SPELLINGS = [CUSTOMER, "61400000000", "0400000000", "400000000", "0400 000 000", "+61 400-000-000"]


def history() -> list[tuple[str, str]]:
    return list(OptOutChange.objects.order_by("pk").values_list("kind", "source"))


def stop(client: WebhookClient, **changes: Any) -> list[str]:
    return outcomes(client.reply(**({"sender": CUSTOMER, "message": "STOP"} | changes)))


def webhook(client: WebhookClient) -> list[str]:
    return outcomes(client.opt_out(contact="400000000"))


# Asking


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_is_opted_out_accepts_every_spelling(spelling: str) -> None:
    opt_out(spelling)
    for asked in SPELLINGS:
        assert is_opted_out(asked)
        assert opted_out([asked, "0400 000 001"]) == {asked}
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
    with pytest.raises(TypeError, match="is_opted_out"):
        opted_out(CUSTOMER)
    assert not OptOut.objects.exists()


def test_is_opted_out_reads_the_primary(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsFromReplica"]
    opt_out(CUSTOMER)
    assert is_opted_out(CUSTOMER)
    assert opted_out([CUSTOMER]) == {CUSTOMER}
    assert opt_in(CUSTOMER)
    assert not is_opted_out(CUSTOMER)


# By people


def test_opt_out_records_source_and_note() -> None:
    made = opt_out("0400 000 000", note="Told us on the phone.\0")
    opt_out("+61400000001")
    stored = OptOut.objects.with_contact("0400 000 000").get()
    assert made == stored
    assert (stored.contact, stored.source) == (CUSTOMER, "person")
    assert (stored.note, stored.event, stored.ended_at) == ("Told us on the phone.", None, None)
    assert stored.is_active
    assert not OptOut.objects.with_contact("").exists()


def test_refusal_of_a_number_that_has_opted_out_is_no_news() -> None:
    stands = opt_out("0400000001", note="On the phone.")
    opt_out_as_listed(stands.contact, "unsubscribed")
    assert (stands.history.count(), OptOut.objects.get().source) == (1, "person")


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
    before_its_end = list(notes)
    opt_in(CUSTOMER, note="Forged.")
    assert list(notes.all()) == [*before_its_end, ("Forged.", "")], "no note is lost"


@pytest.mark.parametrize("stands", [False, True])
def test_reply_that_asks_for_it_is_the_proof(*, stands: bool) -> None:
    asked = "Please take me off, no more texts. " * 40
    earlier, reply = (
        MessageFactory.create(inbound=True, sender="0400 000 000", body=text)
        for text in ("Are you open?", asked)
    )
    if stands:
        opt_out(CUSTOMER)
    before = OptOut.objects.values("since", "source").first()
    made = opt_out(CUSTOMER, note="Read it today.", username="mia", asked_in=reply)
    assert before in (None, {"since": made.since, "source": made.source})
    assert Message.objects.unhandled().get() == earlier
    assert Message.objects.get(pk=reply.pk).handled_by == "mia"
    *earlier_changes, proof = OptOutChange.objects.order_by("pk")
    assert [each.text for each in earlier_changes] == [""] * stands
    assert (proof.text, proof.source) == (asked[:1_000], "person")
    assert (proof.note, proof.username) == ("Read it today.", "mia")


def test_reply_stays_unhandled_if_the_opt_out_is_refused() -> None:
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER, body="No more, please.")
    with refusing("INSERT INTO .cellcast_django_optout"), pytest.raises(DatabaseError):
        opt_out(CUSTOMER, asked_in=reply)
    assert Message.objects.unhandled().get() == reply


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


def test_opt_in_returns_whether_it_ended_one() -> None:
    opt_out("0400 000 001")
    assert not opt_in(CUSTOMER)
    assert not opt_in("")
    opt_out(CUSTOMER)
    assert opt_in("0400 000 000")
    assert not opt_in(CUSTOMER)
    ended = OptOut.objects.with_contact(CUSTOMER).get()
    assert ended.ended_at is not None
    assert not ended.is_active
    assert opted_out([CUSTOMER, "0400 000 001"]) == {"0400 000 001"}


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


def test_opt_out_webhook_opts_contact_out_once(client: WebhookClient) -> None:
    assert webhook(client) == ["stored"]
    stored, event = OptOut.objects.get(), WebhookEvent.objects.get()
    assert (stored.contact, stored.source, stored.event) == (CUSTOMER, "webhook", event)
    assert (stored.since, stored.ended_at) == (event.received_at, None)
    assert (event.kind, event.contact, event.outcome) == ("opt_out", CUSTOMER, "stored")
    before = OptOut.objects.values().get()
    assert webhook(client) == ["duplicate"]
    duplicate = WebhookEvent.objects.get(outcome="duplicate")
    assert (duplicate.kind, duplicate.contact) == ("opt_out", CUSTOMER)
    assert [stop(client), stop(client)] == [["stored"], ["duplicate"]]
    assert OptOut.objects.values().get() == before
    assert history() == [("begun", "webhook")]


@pytest.mark.parametrize(
    "text", ["STOP", " stop. ", "S T O P", "«stop»", "OPT OUT!", "unsubscribe"]
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
        *("don't stop", "nonstop", "stop stop", "Reply STOP to opt-out", "See you at 5", "🛑", ""),
        pytest.param("\u0301\u0316" * 20_000, id="accents"),  # seconds to compose
    ],
)
def test_other_texts_opt_nobody_out(client: WebhookClient, text: str) -> None:
    assert stop(client, message=text) == ["stored"]
    client.status(status="blocked", receiver=CUSTOMER)
    assert not OptOut.objects.exists()


WISHES = [
    "don’t text me",
    "dont text me any more",
    "Please don't message me again",
    "do not contact me again",
    "Remove my number, this is the third time I ask",
    "I don’t want any more messages",
    "take my number off",
    "Please take me off your list",
    "delete my number",
    "I no longer wish to receive these",
    "never message me",
    "no texts please",
    "Wrong number, please remove",
    "Leave me alone",
    "STOPPING it",
    "not interested, thanks",
    "I DO NOT want to hear from you",
    "opt me out please",
    "take us off the list",
    "dont msg me pls",
]
ORDINARY = [
    "See you at 5",
    "Can you take me at 9?",
    "Please remove my booking on Friday",
    "I did not get your message",
    "No problem, text me when you are ready",
    "Do not worry, I will be there",
    "I don't know. Could you send me the address?",
    "Whenever you text, I laugh",
    "Please contact my husband instead",
]


@pytest.mark.parametrize("wish", WISHES)
def test_usual_wish_to_stop_is_marked(wish: str) -> None:
    assert may_want_to_stop(wish) and may_want_to_stop(wish.replace("’", "'"))


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_reply_is_no_wish_to_stop(text: str) -> None:
    assert not may_want_to_stop(text)


def test_setting_replaces_the_stop_words(client: WebhookClient, settings: Any) -> None:
    settings.CELLCAST_STOP_WORDS = ["Ne-plus!", "h\u1ee7y"]
    assert is_stop_word("ne plus") and is_stop_word("HU\u0309Y.")  # as some phones write it
    assert not is_stop_word("stop")
    assert not is_stop_word("")
    settings.CELLCAST_STOP_WORDS = []
    stop(client)
    assert not OptOut.objects.exists()
    for malformed in ("stop", None, 7, {"stop": 1}):
        settings.CELLCAST_STOP_WORDS = malformed
        assert all(map(is_stop_word, conf.stop_words))
        assert not is_stop_word("s")


# From Cellcast's list


def from_list() -> str:
    payload = payloads.OptOut(raw="{}", number="400000000")
    [event] = inbox.store([payload], endpoint=payloads.Endpoint.API)
    return event.outcome


def test_cellcasts_list_begins_an_opt_out_and_undoes_no_opt_in() -> None:
    assert [from_list(), from_list()] == ["stored", "duplicate"]
    assert OptOut.objects.get().source == "list"
    [change] = OptOutChange.objects.all()
    assert (change.source, change.text) == ("list", "{}")
    assert change.event == WebhookEvent.objects.earliest("pk")
    opt_in(CUSTOMER)
    assert from_list() == "duplicate"
    assert not is_opted_out(CUSTOMER)


def recovered_stop(received_at: datetime) -> WebhookEvent:
    """Store a STOP as ``cellcast_recover`` does."""
    parts: dict[str, Any] = dict.fromkeys(["cellcast_id", "receiver", "original_body"], "")
    parts |= {"raw": "{}", "sender": CUSTOMER, "body": "STOP", "status": "received"}
    payload = payloads.Reply(**parts, listed=payloads.Listed(received_at))
    [event] = inbox.store([payload], endpoint=payloads.Endpoint.API)
    return event


# Repeated and late events


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


@pytest.mark.parametrize("is_later", [True, False])
@pytest.mark.parametrize("body", [opt_out_payload(contact=CUSTOMER), reply_payload(message="STOP")])
def test_reprocessed_event_undoes_only_an_earlier_opt_in(
    body: dict[str, str], *, is_later: bool
) -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    at = OptOut.objects.values_list("ended_at", flat=True).get()
    assert at is not None
    at -= timedelta(0 if is_later else 3)
    [event] = inbox.reprocess(make_invalid(json.dumps(body), received_at=at))
    is_news = is_later or event.kind == "reply"
    assert event.outcome == ("stored" if is_news else "duplicate")
    assert is_opted_out(CUSTOMER) == is_later
    if is_later:
        made = OptOut.objects.get()
        assert (made.since, made.event) == (at, event)


@pytest.mark.parametrize("hours", [1, -1])
def test_recovered_stop_counts_only_if_sent_after_the_opt_in(hours: int) -> None:
    opt_out(CUSTOMER)
    opt_in(CUSTOMER)
    now = timezone.now()
    OptOut.objects.update(ended_at=now - timedelta(hours=3))
    recovered_stop(now - timedelta(hours=3 + hours))
    assert is_opted_out(CUSTOMER) == (hours < 0)


# The history


def test_history_keeps_each_beginning_and_end_with_text_and_note(client: WebhookClient) -> None:
    stop(client, message=" Stop! ")
    opt_in(CUSTOMER, note="Asked at the counter.\0", username="mia")
    webhook(client)
    opt_in(CUSTOMER, username=None)  # type: ignore[arg-type]  # as a user model may have it
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


# Clocks


@pytest.mark.parametrize("ask", [stop, webhook])
def test_opt_out_counts_after_the_clock_steps_back(
    client: WebhookClient,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[WebhookClient], list[str]],
) -> None:
    now = timezone.now()

    def step_back(hours: int) -> None:
        monkeypatch.setattr(timezone, "now", lambda: now - timedelta(hours=hours))

    stop(client)
    opt_in(CUSTOMER)
    step_back(hours=1)
    assert ask(client) == ["stored"]
    assert is_opted_out(CUSTOMER)
    step_back(hours=2)
    assert opt_in(CUSTOMER)
    assert not is_opted_out(CUSTOMER)
    assert [kind for kind, _ in history()] == ["begun", "ended"] * 2


# The model


def test_repr_hides_the_number() -> None:
    made = opt_out(CUSTOMER)
    change = made.history.get()
    assert CUSTOMER not in f"{made} {made!r} {change} {change!r}"
