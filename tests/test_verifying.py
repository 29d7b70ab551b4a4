"""``cellcast_status --verify``: what the app does keeps its rules, and a broken one is found."""

import json
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.utils import timezone

from cellcast_django.factories import HandlerCallFactory
from cellcast_django.inbox import store
from cellcast_django.models import (
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.payloads import Endpoint, mms_payload, read
from cellcast_django.recovery import recover
from cellcast_django.testing import WebhookClient, reply_payload
from cellcast_django.upkeep import verifying
from cellcast_django.upkeep.retention import Selection, prune
from cellcast_django.upkeep.verifying import Broken, find_broken
from tests.commands import failure_of, output_of
from tests.fake_cellcast import FakeCellcast

pytestmark = pytest.mark.django_db

PICTURE_AS_LISTED = json.dumps({"message": "", "media": [{"url": "https://example.com/1.jpg"}]})


@pytest.fixture(autouse=True)
def traffic(fake_cellcast: FakeCellcast, monkeypatch: Any) -> None:
    """Everything that stores, changes and empties rows, and a batch for each three keys."""
    monkeypatch.setattr(verifying, "BATCH_SIZE", 3)
    monkeypatch.setattr(connection, "timezone", ZoneInfo("Asia/Tokyo"))  # a setting of DATABASES
    monkeypatch.setattr(connection, "timezone_name", "Asia/Tokyo")
    connection.ensure_timezone()
    client = WebhookClient()
    client.reply(message="Can I bring my dog?", sender="0400000001")
    client.reply(message="gone soon", sender="0400000009")
    prune(Selection(number="0400000009", redact=True))
    client.reply(message="", media=["https://example.com/2.jpg"], mms=True)
    client.reply(**mms_payload())
    a_test = read(json.dumps(reply_payload()).encode(), "", Endpoint.RECEIVE)
    store(a_test, endpoint=Endpoint.RECEIVE, is_test=True)
    for status in ("odd", "queued", "delivered", "failed"):
        client.status(_id="1", status=status, receiver="0400000001")
    client.status(_id="1")
    Message.objects.record_sent("1", receiver="0400000001", body="Tomorrow at nine")
    Message.objects.record_sent("2", receiver="0400000001")
    client.opt_out(contact="400000003")
    client.reply(message="STOP", sender="0400000004")
    opt_in("0400000004", note="Asked us to")
    opt_out("0400000005", note="By phone")
    an_hour_ago = timezone.now() - timedelta(hours=1)
    for text in ("lost", "late", PICTURE_AS_LISTED):
        fake_cellcast.add_reply(an_hour_ago, "+61400000006", text)
    recover()
    client.reply(message="late", sender="0400000006", _id="3")
    client.reply(message="", sender="0400000006", _id="4")
    Message.objects.get(body="lost").mark_handled(username="mia")
    for state in ("done", "waiting"):
        event = WebhookEvent.objects.earliest("pk")
        HandlerCallFactory.create(event=event, handler=state, **{"waiting": state == "waiting"})


def test_nothing_is_broken_by_what_the_app_does() -> None:
    assert Message.objects.count() == 11
    assert list(find_broken()) == []
    assert json.loads(output_of("cellcast_status", "--verify", "--json"))["broken"] == []


BREAKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "status": (Message.objects.filter(cellcast_id="1"), {"status": "failed"}),
    "status without a history": (Message.objects.filter(cellcast_id="2"), {"status": "sent"}),
    "key of a reply": (Message.objects.filter(body__startswith="Can"), {"body": "May"}),
    "key of a recovered one": (Message.objects.filter(body="lost"), {"contact": "+614"}),
    "key of a report": (Message.objects.filter(cellcast_id="1"), {"key": "x"}),
    "handled": (Message.objects.filter(body="lost"), {"handled_at": None}),
    "call ended": (HandlerCall.objects.done(), {"next_attempt_at": timezone.now()}),
    "call unfinished": (HandlerCall.objects.unfinished(), {"next_attempt_at": None}),
    "opt-out ended": (OptOut.objects.filter(contact="+61400000003"), {"ended_at": timezone.now()}),
    "opt-out stands": (OptOut.objects.filter(contact="+61400000004"), {"ended_at": None}),
    "opt-out never begun": (OptOut.objects.filter(contact="+61400000005"), {"source": ""}),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_row_is_found(name: str) -> None:
    rows, changes = BREAKS[name]
    broken = rows.get()
    rows.filter(pk=broken.pk).update(**changes)
    rule = name.split(" ")[0]
    assert list(find_broken()) == [Broken(rule, type(broken).__name__, broken.pk)]


def test_history_whose_ids_do_not_follow_each_other_is_whole() -> None:
    """As on Galera, where each node gives out ids of its own."""
    first, second, *_ = StatusChange.objects.filter(message__cellcast_id="1").order_by("pk")
    StatusChange.objects.filter(pk=first.pk).update(status="x")
    StatusChange.objects.filter(pk=second.pk).update(status=first.status)
    StatusChange.objects.filter(pk=first.pk).update(status=second.status)
    assert list(find_broken()) == []


def test_command_prints_rule_and_id_and_fails() -> None:
    OptOutChange.objects.filter(note="Asked us to").delete()
    ended = OptOut.objects.get(contact="+61400000004")
    printed, error = failure_of("cellcast_status", "--verify")
    assert error.returncode == 1
    assert printed.endswith(f"  rule opt-out, model OptOut, id {ended.pk}\n")
    assert "+61" not in printed
    document = json.loads(failure_of("cellcast_status", "--verify", "--json")[0])
    assert document["broken"] == [{"rule": "opt-out", "model": "OptOut", "id": ended.pk}]
    assert len(document["problems"]) == 1


def test_command_prints_ids_as_they_are_pasted() -> None:
    call = HandlerCallFactory.create(id=36_919)
    HandlerCall.objects.filter(pk=call.pk).update(next_attempt_at=timezone.now())
    assert "id 36919" in failure_of("cellcast_status", "--verify")[0]
