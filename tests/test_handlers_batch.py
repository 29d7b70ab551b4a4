"""Several events stored together: nobody else runs those behind, and none is called twice."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django import inbox
from cellcast_django.handlers import run, run_due
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import Endpoint, read
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient, reply_payload
from tests.handlers import MARKS, Calls, connected, ran, reply

pytestmark = pytest.mark.django_db(transaction=True)

CUSTOMER = "+61491570006"


@pytest.fixture(params=list(MARKS.values()), ids=list(MARKS))
def handler(request: pytest.FixtureRequest) -> Iterator[Calls]:
    calls = Calls()
    with connected(message_received, texts=request.param(calls)):
        yield calls


def send(*texts: str) -> None:
    """Send these replies of one customer in one body."""
    bodies = [reply_payload(message=text, sender=CUSTOMER, _id=text) for text in texts]
    assert WebhookClient().webhook(bodies, "receive").status_code == 200


def once(act: Callable[[], object]) -> Callable[..., None]:
    acts = [act]

    def during(**kwargs: Any) -> None:
        if acts:
            acts.pop()()

    return during


def end_leases_behind() -> None:
    first = WebhookEvent.objects.earliest("pk")
    WebhookEvent.objects.exclude(pk=first.pk).update(next_run_at=timezone.now())


def test_events_run_elsewhere_meanwhile_are_not_called_again(handler: Calls) -> None:
    def others_run_what_is_due() -> None:
        end_leases_behind()
        run_due()

    # Between two events of the body: exactly_once has committed the first by then.
    first = Calls()
    first.during = once(others_run_what_is_due)
    with connected(message_received, zz_last=first):
        send("a", "b", "c")
    assert sorted(handler.heard()) == ["a", "b", "c"]
    assert len(first) == 3
    assert WebhookEvent.objects.done().count() == 3


def test_nobody_else_runs_events_behind_a_slow_one(
    handler: Calls, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call takes nearly as long as the lease."""
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    elsewhere: list[int] = []
    second = Calls()

    def take_long(**kwargs: Any) -> None:
        nonlocal now
        now += timedelta(seconds=0.85 * settings.CELLCAST_HANDLER_LEASE)
        elsewhere.extend(ran(run_due))

    second.during = take_long
    settings.CELLCAST_HANDLER_LEASE = 300
    with connected(message_received, zz_second=second):
        send(*"abcd")
    assert elsewhere == []
    assert handler.heard() == list("abcd")
    assert WebhookEvent.objects.done().count() == 4


def test_leases_are_not_renewed_without_need(handler: Calls) -> None:
    send("a")
    with CaptureQueriesContext(connection) as of_two:
        send("b", "c")
    with CaptureQueriesContext(connection) as of_three:
        send("d", "e", "f")
    with CaptureQueriesContext(connection) as of_four:
        send("g", "h", "i", "j")
    assert len(of_four) - len(of_three) == len(of_three) - len(of_two)


def test_single_event_asks_nothing_before_its_call() -> None:
    plain, before = Calls(), []
    with connected(message_received, plain=plain), CaptureQueriesContext(connection) as queries:
        plain.during = lambda **kwargs: before.extend(queries.captured_queries)
        reply()
    assert not [query["sql"] for query in before if query["sql"].startswith("UPDATE")]


def test_event_whose_lease_is_over_asks_before_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process was stopped between the commit and the call, and others have run the event."""
    plain = Calls()
    with connected(message_received, plain=plain):
        body = read(json.dumps(reply_payload()).encode(), "", Endpoint.RECEIVE)
        [event] = inbox.store(body, endpoint=Endpoint.RECEIVE)
        later = timezone.now() + timedelta(hours=1)
        monkeypatch.setattr(timezone, "now", lambda: later)
        assert ran(run_due) == [event.pk]
        run([event])
    assert len(plain) == 1
