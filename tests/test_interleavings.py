"""Two requests about the same rows, their statements in every order: none is lost or doubled.

On PostgreSQL and MariaDB alone: SQLite has one lock, so that only whole transactions race there.
"""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cellcast_django import handlers, inbox
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_in, opt_out
from cellcast_django.payloads import Endpoint, Listed, Reply, read, status_payload
from cellcast_django.receiving import read_due, receive
from cellcast_django.testing import WebhookClient
from cellcast_django.upkeep.retention import Selection, prune
from cellcast_django.upkeep.taken_back import take_back
from tests.handlers import outcomes
from tests.interleaving import Race, Request, in_every_order, needs_server

pytestmark = [pytest.mark.django_db(transaction=True), needs_server]

CONTACT = "+61491570006"
REPORT = {"_id": "1", "receiver": CONTACT}


def status(word: str, **changes: Any) -> Request:
    return lambda: outcomes(WebhookClient().status(**REPORT | {"status": word} | changes))[0]


def reply(text: str, **changes: Any) -> Request:
    return lambda: outcomes(WebhookClient().reply(message=text, sender=CONTACT, **changes))[0]


def history() -> set[str]:
    return set(Message.objects.get().status_history.values_list("status", flat=True))


@pytest.mark.parametrize("before", [[], ["queued"]], ids=["new", "known"])
def test_two_reports_of_one_message(before: list[str]) -> None:
    def prepare() -> None:
        for word in before:
            status(word)()

    def check(race: Race) -> None:
        assert (race.first, race.second) == ("stored", "stored")
        for word in ("sent", "delivered"):
            assert race.told["status", CONTACT, word] == 1
        assert Message.objects.get().status == "delivered"
        assert history() == {*before, "sent", "delivered"}

    in_every_order(status("delivered"), status("sent"), prepare=prepare, check=check)


def test_two_copies_of_a_report() -> None:
    def check(race: Race) -> None:
        assert {race.first, race.second} == {"stored", "duplicate"}
        assert race.told == {("status", CONTACT, "sent"): 1}

    in_every_order(status("sent"), status("sent"), check=check)


def test_report_and_record_sent() -> None:
    def record() -> None:
        Message.objects.record_sent("1", receiver=CONTACT, body="At nine", reference="booking-1")

    def check(race: Race) -> None:
        assert race.first == "stored"
        assert race.told == {("status", CONTACT, "delivered"): 1}
        message = Message.objects.get()
        assert (message.status, message.sender) == ("delivered", "cellcast")
        assert (message.body, message.reference) == ("At nine", "booking-1")
        assert message.recorded_at is not None

    in_every_order(status("delivered"), record, check=check)


def test_stop_and_opting_in() -> None:
    def check(race: Race) -> None:
        begins = race.first == "stored" and ("opt out", CONTACT, "") in race.told
        assert race.second is True
        assert is_opted_out(CONTACT) is begins
        assert race.told["reply", CONTACT, "STOP"] == 1

    def opt_back_in() -> bool:
        return opt_in(CONTACT)

    in_every_order(reply("STOP"), opt_back_in, prepare=lambda: opt_out(CONTACT), check=check)


def test_two_stops() -> None:
    def check(race: Race) -> None:
        assert (race.first, race.second) == ("stored", "stored")
        assert is_opted_out(CONTACT)
        assert race.told["opt out", CONTACT, ""] == 1

    in_every_order(reply("STOP", _id="1"), reply("stop", _id="2"), check=check)


def test_late_webhook_and_recovery() -> None:
    an_hour_ago = timezone.now() - timedelta(hours=1)
    item = {"from": CONTACT, "body": "Yes", "received_at": an_hour_ago.isoformat()}
    place = Listed(an_hour_ago)
    listed = Reply(
        raw=json.dumps(item),
        cellcast_id="",
        sender=CONTACT,
        receiver="",
        status="received",
        body="Yes",
        original_body="",
        listed=place,
        alike=(place,),
    )

    def recover() -> str:
        [event] = receive([listed], endpoint=Endpoint.API)
        return event.outcome

    def check(race: Race) -> None:
        assert {race.first, race.second} == {"stored", "duplicate"}
        assert race.told == {("reply", CONTACT, "Yes"): 1}
        assert Message.objects.get().cellcast_id == "1"

    in_every_order(reply("Yes", _id="1"), recover, check=check)


def test_reading_a_deferred_report_and_the_same_webhook() -> None:
    def prepare() -> None:
        body = json.dumps(status_payload(**REPORT | {"status": "sent"}))
        payloads = read(body.encode(), "application/json", Endpoint.STATUS)
        inbox.defer(payloads, ValueError("played"), endpoint=Endpoint.STATUS)

    def read_it() -> None:
        read_due([WebhookEvent.objects.order_by("pk")[0].pk])
        handlers.run_due()

    def check(race: Race) -> None:
        assert race.told == {("status", CONTACT, "sent"): 1}
        outcomes = WebhookEvent.objects.values_list("outcome", flat=True)
        assert sorted(outcomes) == ["duplicate", "stored"]
        assert (Message.objects.get().status, history()) == ("sent", {"sent"})

    in_every_order(status("sent"), read_it, prepare=prepare, check=check)


def test_taking_back_and_a_report() -> None:
    def prepare() -> None:
        status("queued")()
        status("delivered", receiver="", sender="+61499666777")()

    def undo() -> None:
        take_back([WebhookEvent.objects.get(status_change__status="delivered").pk])

    def check(race: Race) -> None:
        assert race.first == "stored"
        assert race.told["status", CONTACT, "failed"] == 1
        assert (Message.objects.get().status, history()) == ("failed", {"queued", "failed"})

    in_every_order(status("failed"), undo, prepare=prepare, check=check)


def test_taking_back_and_the_same_report() -> None:
    """The genuine one repeats what was forged: whichever came first, it stands."""

    def undo() -> None:
        take_back([WebhookEvent.objects.order_by("pk")[0].pk])

    def check(race: Race) -> None:
        assert (Message.objects.get().status, history()) == ("delivered", {"delivered"})

    in_every_order(status("delivered"), undo, prepare=status("delivered"), check=check)


def test_pruning_and_a_report() -> None:
    def prepare() -> None:
        status("queued")()
        WebhookEvent.objects.update(received_at=timezone.now() - timedelta(days=2))
        Message.objects.update(created_at=timezone.now() - timedelta(days=2))

    def prune_old() -> None:
        prune(Selection(before=timezone.now() - timedelta(days=1)))

    def check(race: Race) -> None:
        assert race.first == "stored"
        assert race.told["status", CONTACT, "delivered"] == 1
        assert Message.objects.get().status == "delivered"

    in_every_order(status("delivered"), prune_old, prepare=prepare, check=check)
