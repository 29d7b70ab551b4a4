"""A handler that fails slowly for every event does not keep other handlers' events waiting."""

from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from cellcast_django import receiving
from cellcast_django.handlers import run_again, run_due
from cellcast_django.models import WebhookEvent
from cellcast_django.signals import exactly_once, in_order, message_received, status_changed
from cellcast_django.testing import WebhookClient, reply_payload
from tests.clock import Clock
from tests.database_faults import refused_for_another
from tests.handlers import Calls, connected, make_due, ran, reply

pytestmark = pytest.mark.django_db


def take(clock: Clock, seconds: float) -> Any:
    """Return a function that makes a handler take this long."""
    return lambda **kwargs: clock.sleep(seconds)


@pytest.fixture
def waiting_for_task(
    first: Calls, clock: Clock, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let events wait for a queue that has no worker, and the first handler fail slowly."""
    settings.CELLCAST_RUN_HANDLERS = "task"
    monkeypatch.setattr(receiving, "enqueue", lambda pks: None)
    first.error, first.during = TimeoutError("no answer"), take(clock, 14)


def due_replies(first: Calls, count: int) -> list[WebhookEvent]:
    first.error = TimeoutError("no answer")
    events = [reply(message=str(each)) for each in range(count)]
    for event in events:
        make_due(event)
    first.arguments.clear()
    return events


def test_slow_failing_handler_is_left_out_after_half_a_minute(first: Calls, clock: Clock) -> None:
    events = due_replies(first, 8)
    first.during = take(clock, 10)
    statuses = Calls()
    statuses.error = ValueError("no")
    with connected(status_changed, statuses=statuses):
        WebhookClient().status()
        make_due(WebhookEvent.objects.latest("pk"))
        statuses.error = None
        attempted = ran(run_due)
    assert len(first) == 4, "the fourth call made it more than half a minute"
    assert len(statuses) == 2
    assert attempted == [event.pk for event in events[:4]] + [WebhookEvent.objects.latest("pk").pk]
    untouched = WebhookEvent.objects.get(pk=events[-1].pk)
    assert (untouched.attempts, untouched.state) == (1, "pending")

    first.error = None
    assert ran(run_due) == [event.pk for event in events[4:]], "the next run tries"


def test_other_handlers_are_still_called(first: Calls, second: Calls, clock: Clock) -> None:
    second.error = ValueError("no")
    events = due_replies(first, 6)
    first.during, second.error = take(clock, 14), None
    second.arguments.clear()
    ran(run_due)
    assert (len(first), len(second)) == (3, 6)
    last = WebhookEvent.objects.get(pk=events[-1].pk)
    assert (last.state, last.attempts) == ("pending", 2)
    assert list(last.handler_errors()) == ["first"]


@pytest.mark.usefixtures("waiting_for_task")
def test_left_out_handler_still_gets_its_events_in_order(first: Calls, clock: Clock) -> None:
    booking = Calls(error=ValueError("no"))
    with connected(message_received, booking=in_order(booking)):
        earlier = [reply(sender=f"+6149157000{each}") for each in range(3)]
        events = [reply(message=each) for each in ("YES", "CANCEL", "YES again")]
        ran(run_due, [event.pk for event in [*earlier, *events]])
        last = WebhookEvent.objects.get(pk=events[-1].pk)
        assert (len(first), last.waiting_for) == (3, None)
        assert last.is_due(timezone.now()), "for the handler that was left out"

        booking.error = first.error = None
        first.during = take(clock, 0)
        booking.arguments.clear()
        make_due(events[0])
        run_due()
    assert [call["event"].pk for call in booking.arguments] == [event.pk for event in events]


@pytest.mark.usefixtures("waiting_for_task")
def test_handler_left_out_of_a_first_run_loses_no_attempt(
    first: Calls, second: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    *_, last = [reply(message=str(each)) for each in range(4)]
    run_due()
    assert (len(first), len(second)) == (3, 4)

    first.error = None
    assert ran(run_due) == [last.pk]
    last.refresh_from_db()
    assert (last.state, len(first), len(second)) == ("done", 4, 4)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("waiting_for_task")
def test_result_beside_a_left_out_handler_survives_a_refused_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once, commit, refusals = Calls(), connection.commit, [refused_for_another()]

    def refuse_first_commit_of_last_event() -> None:
        if len(once) == 4 and refusals:
            connection.rollback()
            raise refusals.pop()
        commit()

    with connected(message_received, once=exactly_once(once)):
        *_, last = [reply(message=str(each)) for each in range(4)]
        monkeypatch.setattr(connection, "commit", refuse_first_commit_of_last_event)
        run_due()
    last.refresh_from_db()
    assert len(once) == 5
    assert last.has_finished("once")


def test_first_runs_of_a_body_leave_no_handler_out(first: Calls, clock: Clock) -> None:
    first.error, first.during = TimeoutError("no answer"), take(clock, 14)
    bodies = [reply_payload(message=str(each)) for each in range(5)]
    WebhookClient().webhook(bodies, "receive")
    assert len(first) == 5


def test_running_events_again_leaves_no_handler_out(first: Calls, clock: Clock) -> None:
    events = due_replies(first, 5)
    first.during = take(clock, 14)
    assert len(ran(run_again, [event.pk for event in events])) == len(first) == 5


def test_slow_successful_handler_is_called_again(first: Calls, clock: Clock) -> None:
    events = due_replies(first, 6)
    first.error, first.during = None, take(clock, 60)
    assert ran(run_due) == [event.pk for event in events]


def test_fast_failing_handler_is_called_again(first: Calls, clock: Clock) -> None:
    due_replies(first, 6)
    ran(run_due)
    assert len(first) == 6


def test_success_resets_the_lost_time(first: Calls, clock: Clock) -> None:
    """A handler that fails now and then is called to the end."""
    events = due_replies(first, 9)
    errors = iter([ValueError("no"), ValueError("no"), None] * 3)

    def fail_twice(**kwargs: Any) -> None:
        first.error = next(errors)
        clock.sleep(14)

    first.during = fail_twice
    assert ran(run_due) == [event.pk for event in events]
