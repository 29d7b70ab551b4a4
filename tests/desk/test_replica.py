"""The desk where a replica is read: what must be fresh is never read from it."""

from datetime import timedelta
from typing import Any

import pytest

from cellcast_django.desk.traffic import Month, count_messages
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Claim
from tests.admin_pages import staff, url_of
from tests.html import hidden_fields, only
from tests.test_replica import stored_messages

pytestmark = pytest.mark.django_db


def test_answering_sees_what_a_colleague_just_sent(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague's answer of a moment ago is not on the replica yet."""
    settings.DATABASE_ROUTERS = []
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    question = MessageFactory.create(inbound=True)
    client = staff("view_message", "answer_message")
    url = url_of("message", "conversation", question.pk)
    form = hidden_fields(only(client.get(url).text, "form[@class='cellcast-answer']"))
    take, release = Claim.take, Claim.release

    def take_and_lag(name: str, lasts: timedelta) -> Claim | None:
        settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsMessagesFromReplica"]
        return take(name, lasts)

    def release_and_catch_up(claim: Claim) -> None:
        release(claim)
        settings.DATABASE_ROUTERS = []

    monkeypatch.setattr(Claim, "take", take_and_lag)
    monkeypatch.setattr(Claim, "release", release_and_catch_up)

    client.post(url, form | {"text": "Yes"})

    assert stored_messages().outbound().get().body == "Yes"


def test_undo_finds_what_was_just_marked(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsMessagesFromReplica"]
    reply = MessageFactory.create(inbound=True)
    client = staff("view_message", "handle_message")
    client.post(url_of("message", "handle"), {"one": reply.pk})
    assert stored_messages().get().handled_at
    client.post(url_of("message", "reopen"), {"replies": reply.pk})
    assert stored_messages().get().handled_at is None


def test_counts_and_the_tests_left_out_of_them_are_read_from_the_primary(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_replica.ReadsMessagesFromReplica"]
    MessageFactory.create(delivered=True)
    assert sum(day["delivered"] for day in count_messages(Month.of()).values()) == 1
