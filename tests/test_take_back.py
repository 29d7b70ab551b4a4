"""Taking events back: what only they made goes, and the rest is as if they had never come."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import serializers
from django.db.models import ProtectedError
from django.db.models.signals import pre_delete
from django.test import override_settings
from django.utils import timezone

from cellcast_django.diagnostics.test_send import delete_tests
from cellcast_django.factories import WebhookEventFactory
from cellcast_django.inbox import store
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent
from cellcast_django.payloads import Endpoint, read
from cellcast_django.recovery import recover
from cellcast_django.testing import WebhookClient, reply_payload, status_payload
from cellcast_django.upkeep import taken_back
from cellcast_django.upkeep.retention import Pruned
from cellcast_django.upkeep.taken_back import take_back
from cellcast_django.upkeep.verifying import find_broken
from tests.database_faults import just_before, refusing
from tests.fake_cellcast import FakeCellcast
from tests.many import add_copies

pytestmark = pytest.mark.django_db

client = WebhookClient()

CONTACT = "+61491570156"
OTHER = "+61491570157"
ID = "66b5b93b1e2c012dfe964000"
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


def newest() -> int:
    pk: int = WebhookEvent.objects.latest("pk").pk
    return pk


def stored() -> str:
    """Return all rows of the app, as text to compare."""
    rows = [
        row
        for model in (Message, StatusChange, WebhookEvent, OptOut)
        for row in model.objects.order_by("pk")
    ]
    return str(serializers.serialize("json", rows, indent=1))


def history() -> list[tuple[str, str, bool]]:
    rows = StatusChange.objects.order_by("pk")
    return list(rows.values_list("status", "previous_status", "applied"))


def forge(by: WebhookClient = client, /, **changes: Any) -> int:
    assert by.status(**{"_id": ID, "receiver": CONTACT} | changes).status_code == 200
    return newest()


@pytest.mark.parametrize("genuine", [[], ["sent"], ["failed", "sent"], ["sent", "sent"]])
def test_forged_status_of_a_real_message_goes(genuine: list[str]) -> None:
    Message.objects.record_sent(ID, receiver=CONTACT, body="At 9?", reference="booking-7")
    for status in genuine:
        client.status(_id=ID, receiver=CONTACT, sender="cellcast", status=status)
    before = stored()
    forged = [
        forge(status="delivered", sender="+61499666666"),
        forge(status="dead", receiver=OTHER, reason="evil"),
        forge(status="on-its-way"),
    ]
    assert stored() != before
    assert take_back(forged) == Pruned(events=3)
    assert stored() == before
    assert take_back(forged) == Pruned()


def test_row_of_a_history_that_is_made_anew_keeps_its_key() -> None:
    """Copies elsewhere, of a warehouse say, know it by that."""
    forged = forge(status="failed")
    forge(status="sent")
    first, _second = StatusChange.objects.order_by("pk").values_list("pk", flat=True)
    take_back([forged])
    assert StatusChange.objects.get().pk == first
    assert history() == [("sent", "", True)]


@override_settings(CELLCAST_OWN_NUMBERS=["+61480000001"])
def test_own_number_that_a_forged_report_names_too_stays() -> None:
    Message.objects.record_sent(ID, receiver=CONTACT, body="At 9?", sender="+61480000001")
    take_back([forge(sender="+61480000001", status="failed")])
    assert Message.objects.get().sender == "+61480000001"


# What they had filled in


@pytest.mark.parametrize("redact", [True, False])
def test_what_redacted_or_pruned_events_may_have_said_is_kept(redact: bool) -> None:
    old = forge(status="sent", sender="")
    forge(status="sent")
    copy = newest()
    forged = forge(sender="cellcast", status="failed")
    events = WebhookEvent.objects.filter(pk__in=[old, copy])
    events.update(body="", contact="") if redact else events.delete()
    take_back([forged])
    message = Message.objects.get()
    assert message.contact == CONTACT
    assert history() == [("sent", "", True)]
    assert StatusChange.objects.get().event_id == (old if redact else None)


@pytest.mark.parametrize("is_redacted", [False, True])
def test_what_the_lists_say_stays(fake_cellcast: FakeCellcast, is_redacted: bool) -> None:
    """The text of a message comes from the list alone."""
    client.status(_id=ID, status="sent", receiver=CONTACT)
    fake_cellcast.add_report(ID, timezone.now(), receiver=CONTACT, message="At nine")
    recover()
    if is_redacted:
        WebhookEvent.objects.filter(endpoint="api").update(body="", contact="")
    before = stored()
    take_back([forge(status="failed")])
    assert stored() == before
    assert Message.objects.get().body == "At nine"


def test_genuine_webhook_of_a_recovered_reply_stays(fake_cellcast: FakeCellcast) -> None:
    fake_cellcast.add_reply(timezone.now() - timedelta(hours=1), CONTACT, "Yes")
    recover()
    client.reply(_id=ID, sender=CONTACT, message="Yes")
    Message.objects.get().mark_handled(username="kim", note="Phoned her.")
    before = stored()
    client.reply(_id=ID, sender=CONTACT, message="Yes", original_body="evil")
    take_back([newest()])
    assert stored() == before


def test_picture_of_a_recovered_reply_stays(fake_cellcast: FakeCellcast) -> None:
    """Also where its webhook came without one."""
    listed = json.dumps({"message": "", "media": [{"url": "https://example.com/1.jpg"}]})
    fake_cellcast.add_reply(timezone.now() - timedelta(hours=1), CONTACT, listed)
    recover()
    client.reply(_id=ID, sender=CONTACT, message="")
    assert len(Message.objects.get().media) == 1
    before = stored()
    client.reply(_id=ID, sender=CONTACT, message="", original_body="evil")
    take_back([newest()])
    assert stored() == before


# Which events


def test_message_that_has_gone_meanwhile_is_no_error() -> None:
    forged = forge()
    with just_before("^SELECT .*cellcast_django_message.*ORDER BY", Message.objects.all().delete):
        take_back([forged])
    take_back([forged])
    assert not WebhookEvent.objects.exists()


def test_events_that_another_run_has_taken_back_meanwhile_are_no_error() -> None:
    client.status(_id=ID, receiver=CONTACT, status="sent")
    before = stored()
    forged = forge()
    with just_before("^UPDATE .*cellcast_django_message", lambda: take_back([forged])):
        assert take_back([forged]) == Pruned()
    assert stored() == before


def test_message_that_your_own_model_protects_stays() -> None:
    forged = [forge(), forge(_id="other")]
    protected = Message.objects.get(cellcast_id=ID)

    def protect(instance: Message, **kwargs: Any) -> None:
        if instance.pk == protected.pk:
            raise ProtectedError("Protected.", {instance})

    pre_delete.connect(protect, sender=Message)
    try:
        pruned = take_back(forged)
    finally:
        pre_delete.disconnect(protect, sender=Message)
    assert (pruned.messages, pruned.events) == (1, 1)
    assert pruned.protected_by
    assert WebhookEvent.objects.get().message == protected


@pytest.mark.parametrize(
    "histories", [20, pytest.param(100, marks=pytest.mark.exhaustive)], ids=["few", "many"]
)
def test_rest_is_as_if_they_had_never_come(monkeypatch: pytest.MonkeyPatch, histories: int) -> None:
    """Reports at random, copies too, and some of them taken back; then the others come alone."""
    chance = random.Random(7)  # noqa: S311
    for _ in range(histories):
        said = [a_webhook(chance) for _ in range(chance.randint(2, 12))]
        record_at = chance.choice([None, *range(len(said))])
        events = replay(monkeypatch, said, record_at)
        taken = {pk for pk in events if chance.random() < 0.5}
        assert take_back(taken).events == len(taken)
        found = everything()
        left = [None if pk in taken else each for pk, each in zip(events, said, strict=True)]
        replay(monkeypatch, left, record_at)
        assert found == everything()
        assert list(find_broken()) == []


def a_webhook(chance: random.Random) -> tuple[Endpoint, dict[str, Any]]:
    """Return a report about one message, or a copy of one reply that may claim something else."""
    if chance.random() < 0.2:
        quoted = chance.choice(["", "Coming?", "Pay here"])
        said = {"_id": ID, "sender": CONTACT, "message": "Yes", "original_body": quoted}
        return Endpoint.RECEIVE, reply_payload(**said)
    report = {
        "_id": ID,
        "status": chance.choice(["queued", "sent", "delivered", "failed", "odd", "odder"]),
        "receiver": chance.choice([CONTACT, OTHER, ""]),
        "sender": chance.choice(["cellcast", "+61499666666", ""]),
        "reason": chance.choice(["", "no such number"]),
    }
    return Endpoint.STATUS, status_payload(**report)


def replay(monkeypatch: pytest.MonkeyPatch, said: list[Any], record_at: int | None) -> list[int]:
    """Store these webhooks a second apart, in an empty database; return their events."""
    Message.objects.all().delete()
    WebhookEvent.objects.all().delete()
    events = []
    for place, each in enumerate(said):
        now = NOON + timedelta(seconds=place)
        monkeypatch.setattr(timezone, "now", lambda now=now: now)
        if place == record_at:
            Message.objects.record_sent(ID, receiver=CONTACT, sender="me", body="At 9?")
        if each is not None:
            endpoint, payload = each
            body = json.dumps(payload).encode()
            [event] = store(read(body, "application/json", endpoint), endpoint=endpoint)
            events.append(event.pk)
    return events


def everything() -> list[dict[str, Any]]:
    """Return what is stored, without its keys."""
    rows = json.loads(serializers.serialize("json", Message.objects.order_by("key")))
    for row, message in zip(rows, Message.objects.order_by("key"), strict=True):
        names = "status", "previous_status", "applied", "reason", "recorded_at", "event__body"
        changes = message.status_history.order_by("pk").values_list(*names)
        row["fields"]["history"] = list(changes)
        del row["pk"]
    return [row["fields"] for row in rows]


# Many, and with webhooks at the same moment


def forged_copies(count: int, *, of_one_message: bool) -> list[int]:
    """Add forged reports: each of a message of its own, or all of one."""
    event = WebhookEventFactory.create(message__recorded_at=None)
    assert event.message is not None
    if of_one_message:
        return [event.pk, *add_copies(event, count - 1, lambda number: {"outcome": "duplicate"})]
    messages = add_copies(event.message, count - 1)
    return [
        event.pk,
        *add_copies(event, count - 1, lambda number: {"message_id": messages[number]}),
    ]


@pytest.mark.parametrize("of_one_message", [False, True])
@pytest.mark.parametrize("count", [6, 7, 8, 15])
def test_many_are_taken_back_in_batches(
    monkeypatch: pytest.MonkeyPatch, count: int, of_one_message: bool
) -> None:
    monkeypatch.setattr(taken_back, "MESSAGES_AT_A_TIME", 7)
    forged = forged_copies(count, of_one_message=of_one_message)
    genuine = WebhookEventFactory.create(message__recorded_at=None)
    totals = []
    take_back(forged, progress=lambda pruned: totals.append(pruned.events))
    batches = [min(count, done) for done in range(7, count + 7, 7)]
    assert totals == ([count] if of_one_message else batches)
    assert WebhookEvent.objects.get() == genuine
    assert Message.objects.get() == genuine.message


def test_message_never_goes_before_its_events() -> None:
    """Without its message, ``cellcast_recover --unconfirmed`` could not compare a reply."""
    for number in range(3):
        client.reply(_id=str(number))
    forged = list(WebhookEvent.objects.values_list("pk", flat=True))
    interrupted = refusing("DELETE FROM .cellcast_django_webhook", error=KeyboardInterrupt())
    with interrupted, pytest.raises(KeyboardInterrupt):
        take_back(forged)
    assert not WebhookEvent.objects.filter(message=None).exists()
    take_back(forged)
    assert not WebhookEvent.objects.exists()


def test_deleting_tests_takes_back_their_status_of_a_recorded_message() -> None:
    tester = WebhookClient(headers={"Cellcast-Test-Send": "1"})
    forge(tester, status="sent")
    Message.objects.record_sent(ID, receiver=CONTACT)
    forge(status="failed")
    tester.status(_id=ID, status="delivered")
    tester.reply(_id="test")
    assert delete_tests() == Pruned(1, 3)
    message = Message.objects.get()
    assert (message.status, message.cellcast_id) == ("failed", ID)
    assert history() == [("failed", "", True)]
