"""How receiving goes, as the database knows it."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django import health
from cellcast_django.factories import MessageFactory, WebhookEventFactory
from cellcast_django.health import Health, count_silent, measure_health
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import Endpoint
from cellcast_django.testing import WebhookClient
from cellcast_django.webhooks import WEBHOOKS
from tests.many import add_copies

pytestmark = pytest.mark.django_db

ENDPOINTS = [each.endpoint for each in WEBHOOKS]


def ago(**duration: int) -> datetime:
    return timezone.now() - timedelta(**duration)


def a_health(**changes: Any) -> Health:
    values: dict[str, Any] = {
        "measured_at": timezone.now(),
        "last_webhook_at": dict.fromkeys(ENDPOINTS),
        "last_use_of": {},
        "events": dict.fromkeys(WebhookEvent.Outcome, 0),
        "received": dict.fromkeys(ENDPOINTS, 0),
        "received_more": frozenset(),
        "invalid": 0,
        "pending": 0,
        "failed": 0,
        "oldest_due_at": None,
        "handlers_ran_at": None,
        "sent": 0,
        "delivered": 0,
        "undelivered": 0,
    }
    return Health(**values | changes)


def test_nothing_has_come_yet() -> None:
    measured = measure_health()
    assert measured == a_health(measured_at=measured.measured_at)
    assert measured.last_webhook_at_any_url is None
    assert measured.delivery_rate is None
    assert measured.overdue == timedelta()


# The last webhook


def test_last_webhook_of_each_url(client: WebhookClient) -> None:
    client.reply()
    client.status()
    client.status()
    events = WebhookEvent.objects.order_by("pk")
    receive, _, status = events.values_list("received_at", flat=True)
    measured = measure_health()
    assert measured.last_webhook_at == {
        Endpoint.RECEIVE: receive,
        Endpoint.STATUS: status,
        Endpoint.OPT_OUT: None,
    }
    assert measured.last_webhook_at_any_url == status


@pytest.mark.parametrize("kind", list(WebhookEvent.Kind))
def test_any_kind_of_event_counts_for_its_url(kind: WebhookEvent.Kind) -> None:
    """An opt-out may come to the Receive URL, and rubbish to any."""
    WebhookEventFactory.create(endpoint="opt_out", kind=kind, received_at=ago(days=2))
    event = WebhookEventFactory.create(endpoint="opt_out", kind=kind, received_at=ago(days=1))
    assert measure_health().last_webhook_at[Endpoint.OPT_OUT] == event.received_at


def test_last_webhook_is_looked_for_among_the_newest_of_each_kind() -> None:
    opt_out = WebhookEventFactory.create(opt_out=True, received_at=ago(days=30))
    reply = WebhookEventFactory.create(endpoint="receive", received_at=ago(days=1))
    report = WebhookEventFactory.create()
    add_copies(report, health.MAX_EVENTS_PER_KIND - 2)
    assert measure_health().last_webhook_at[Endpoint.RECEIVE] == reply.received_at
    add_copies(report, 1)
    measured = measure_health()
    assert measured.last_webhook_at[Endpoint.OPT_OUT] == opt_out.received_at
    assert measured.last_webhook_at[Endpoint.RECEIVE] is None


def test_last_use_of_each_username_on_whichever_url() -> None:
    """So one sees when an old password can go."""
    old = WebhookEventFactory.create(username="old", received_at=ago(days=2))
    WebhookEventFactory.create(username="old", received_at=ago(days=3))
    WebhookEventFactory.create(username="new", received_at=ago(hours=2))
    new = WebhookEventFactory.create(username="new", reply=True, received_at=ago(hours=1))
    assert measure_health().last_use_of == {"old": old.received_at, "new": new.received_at}


def test_last_use_is_looked_for_among_the_newest_of_each_kind() -> None:
    WebhookEventFactory.create(username="old", received_at=ago(days=1))
    add_copies(WebhookEventFactory.create(username="new"), health.MAX_EVENTS_PER_KIND - 1)
    assert set(measure_health().last_use_of) == {"new"}


def test_newest_of_each_kind_are_asked_for_in_the_words_of_their_index() -> None:
    """In other words, PostgreSQL may walk the index on the time, past all other kinds."""
    [by_kind] = [
        index for index in WebhookEvent._meta.indexes if index.name == "cellcast_event_kind"
    ]
    with CaptureQueriesContext(connection) as queries:
        measure_health()
    order = ", ".join(f"{field} DESC" for field in by_kind.fields)
    for kind in WebhookEvent.Kind.values:
        assert f"kind >= '{kind}' AND kind <= '{kind}'" in queries[0]["sql"]
    assert queries[0]["sql"].count(f"ORDER BY {order} LIMIT 10000") == len(WebhookEvent.Kind)


# Events and events


def test_events_of_the_last_day_by_outcome() -> None:
    WebhookEventFactory.create_batch(3, received_at=ago(hours=23))
    WebhookEventFactory.create(opt_out=True)
    WebhookEventFactory.create_batch(2, duplicate=True)
    WebhookEventFactory.create(invalid=True, received_at=ago(hours=25))
    Outcome = WebhookEvent.Outcome
    assert measure_health().events == {
        Outcome.STORED: 4,
        Outcome.DUPLICATE: 2,
        Outcome.INVALID: 0,
    }


def test_pending_and_failed_event_of_any_age() -> None:
    oldest = WebhookEventFactory.create(pending=True, next_run_at=ago(minutes=12))
    WebhookEventFactory.create(pending=True, received_at=ago(days=30))
    WebhookEventFactory.create_batch(3, failed=True, received_at=ago(days=30))
    WebhookEventFactory.create()
    measured = measure_health()
    assert (measured.pending, measured.failed) == (2, 3)
    assert measured.oldest_due_at == oldest.next_run_at
    assert timedelta(minutes=12) <= measured.overdue < timedelta(minutes=13)


def test_events_of_any_age_that_could_not_be_understood() -> None:
    WebhookEventFactory.create_batch(2, invalid=True, received_at=ago(days=30))
    WebhookEventFactory.create(duplicate=True)
    WebhookEventFactory.create(failed=True)
    assert measure_health().invalid == 2


@pytest.mark.parametrize("trait", ["invalid", "pending", "failed", "duplicate"])
def test_tests_of_our_own_are_in_no_count(trait: str) -> None:
    raised = outcomes(confirm="Bad: luck")
    WebhookEventFactory.create(is_test=True, message=None, handler_results=raised, **{trait: True})
    measured = measure_health()
    assert measured == a_health(measured_at=measured.measured_at)
    assert health.count_unfinished() == {}


def outcomes(**errors: str) -> dict[str, Any]:
    return {name: {"at": "2026-11-01T09:00:00", "error": error} for name, error in errors.items()}


def test_unfinished_handlers_are_those_that_raised() -> None:
    WebhookEventFactory.create(pending=True, handler_results=outcomes(confirm="Bad: luck", log=""))
    WebhookEventFactory.create(pending=True, handler_results={})
    WebhookEventFactory.create_batch(2, failed=True, handler_results=outcomes(confirm="Bad: luck"))
    WebhookEventFactory.create(failed=True, handler_results=outcomes(a="Bad: luck", b="Bad: luck"))
    WebhookEventFactory.create(handler_results=outcomes(log=""))
    assert health.count_unfinished() == {
        "confirm": {"pending": 1, "failed": 2},
        "": {"pending": 1},
        "a": {"failed": 1},
        "b": {"failed": 1},
    }


def test_unfinished_handlers_are_those_of_a_limited_count_of_events() -> None:
    """Of the pending the ones due first, of the failed the newest."""
    first, second = outcomes(first="Bad: luck"), outcomes(second="Bad: luck")
    due = WebhookEventFactory.create(
        pending=True, next_run_at=ago(minutes=1), handler_results=first
    )
    failed = WebhookEventFactory.create(failed=True, handler_results=first)
    add_copies(due, health.MAX_UNFINISHED - 1)
    add_copies(failed, health.MAX_UNFINISHED - 1)
    add_copies(failed, 1, lambda number: {"handler_results": second})
    WebhookEventFactory.create(pending=True, handler_results=second)
    assert health.count_unfinished() == {
        "first": {"pending": 1_000, "failed": 999},
        "second": {"failed": 1},
    }


def test_unfinished_events_are_asked_for_in_the_words_of_their_index() -> None:
    """In other words, PostgreSQL walks the whole table when there are few of them."""
    [state] = [
        index for index in WebhookEvent._meta.indexes if index.name == "cellcast_event_state"
    ]
    with CaptureQueriesContext(connection) as queries:
        health.count_unfinished()
    for query in queries:
        ordered_by = re.findall(r"[`\"](\w+)[`\"](?: (?:ASC|DESC))", query["sql"])
        assert ordered_by == state.fields[: len(ordered_by)]
    assert len(queries) == 2


def test_events_of_each_url_since_a_moment() -> None:
    WebhookEventFactory.create_batch(2, received_at=ago(hours=1))
    WebhookEventFactory.create(invalid=True, endpoint="receive", received_at=ago(hours=1))
    WebhookEventFactory.create(opt_out=True, received_at=ago(hours=3))
    measured = health.measure_receiving(ago(hours=2))
    assert measured.received == {Endpoint.RECEIVE: 1, Endpoint.STATUS: 2, Endpoint.OPT_OUT: 0}
    assert not measured.received_more


def test_events_of_a_url_are_counted_up_to_a_limit_for_each_kind() -> None:
    add_copies(WebhookEventFactory.create(received_at=ago(hours=1)), health.MAX_EVENTS_PER_KIND)
    WebhookEventFactory.create(reply=True, received_at=ago(hours=1))
    measured = health.measure_receiving(ago(hours=2))
    assert measured.received == {Endpoint.RECEIVE: 1, Endpoint.STATUS: 10_000, Endpoint.OPT_OUT: 0}
    assert measured.received_more == {Endpoint.STATUS}


def test_event_that_is_due_later_is_not_overdue() -> None:
    WebhookEventFactory.create(pending=True, next_run_at=timezone.now() + timedelta(minutes=5))
    measured = measure_health()
    assert measured.pending == 1
    assert measured.overdue == timedelta()


# Deliveries


def test_deliveries_of_the_last_day() -> None:
    MessageFactory.create_batch(3, delivered=True, created_at=ago(hours=23))
    for status in ("expired", "failed", "dead"):
        MessageFactory.create(status=status)
    for status in ("", "received", "queued"):
        MessageFactory.create(status=status)
    MessageFactory.create(inbound=True, delivered=True)
    MessageFactory.create(delivered=True, created_at=ago(hours=25))
    measured = measure_health()
    assert (measured.sent, measured.delivered, measured.undelivered) == (9, 3, 3)
    assert measured.delivery_rate == 0.5


@pytest.mark.parametrize(
    ("delivered", "undelivered", "rate"), [(0, 0, None), (0, 2, 0.0), (2, 0, 1.0), (3, 1, 0.75)]
)
def test_delivery_rate_is_of_the_messages_that_ended(
    delivered: int, undelivered: int, rate: float | None
) -> None:
    measured = a_health(sent=100, delivered=delivered, undelivered=undelivered)
    assert measured.delivery_rate == rate


def test_silent_are_messages_of_the_last_week_without_a_report() -> None:
    for hours in (5, 7, 8, 24 * 8):
        MessageFactory.create(status="", created_at=ago(hours=hours))
    MessageFactory.create(delivered=True, created_at=ago(hours=7))
    assert count_silent(timedelta(hours=6)) == 2
    assert count_silent(timedelta(days=7)) == 1


# Reading


def test_age_is_never_negative() -> None:
    """The clocks of two hosts may differ."""
    measured = a_health()
    assert measured.age(measured.measured_at - timedelta(seconds=5)) == timedelta(seconds=5)
    assert measured.age(measured.measured_at + timedelta(seconds=5)) == timedelta()


def test_health_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        a_health().pending = 1  # type: ignore[misc]


def test_measuring_only_reads() -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        measure_health()
    assert len(queries) == 11
    assert all(query["sql"].startswith("SELECT") for query in queries.captured_queries)


@pytest.mark.django_db
def test_tests_of_our_own_are_in_no_figure(client: WebhookClient) -> None:
    tester = WebhookClient(headers={"Cellcast-Test-Send": "1"})
    client.status(_id="1", status="delivered")
    for _id, status in (("2", "delivered"), ("3", "failed"), ("4", "queued")):
        tester.status(_id=_id, status=status)
    tester.reply()
    tester.send("webhook-receiver", b"{")

    measured = measure_health()

    assert [number for number in measured.events.values() if number] == [1]
    assert (measured.sent, measured.delivered, measured.undelivered) == (1, 1, 0)


@pytest.mark.django_db
@pytest.mark.parametrize("changes", [{"is_test": True}, {"endpoint": Endpoint.API.value}])
def test_what_cellcast_did_not_send_itself_proves_no_webhook(changes: dict[str, Any]) -> None:
    WebhookEventFactory.create(**changes)
    measured = measure_health()
    assert set(measured.last_webhook_at.values()) == {None}
    assert measured.last_use_of == {}
