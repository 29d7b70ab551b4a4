"""Handlers: every handler is called once per fact, and its error is kept until it finishes."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django import inbox
from cellcast_django.handlers import run_again, run_due, schedule, skip
from cellcast_django.handlers.attempts import DELETED
from cellcast_django.handlers.calls import MAX_ERROR_LENGTH, OPT_OUT_SUFFIX, Fact
from cellcast_django.handlers.schedule import pause_after
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.payloads import Endpoint, read
from cellcast_django.signals import (
    RetryLater,
    exactly_once,
    in_order,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.testing import WebhookClient, reply_payload
from tests.clock import Clock
from tests.database_faults import just_before, refusing
from tests.handlers import (
    UPDATE_OF_EVENT,
    Calls,
    as_if_killed,
    connected,
    dying,
    end_lease,
    make_due,
    pause_before,
    ran,
    reply,
)
from tests.logs import logged

pytestmark = pytest.mark.django_db


def claim_elsewhere(event: WebhookEvent) -> None:
    """Begin the next attempt, as another process does."""
    WebhookEvent.objects.filter(pk=event.pk).update(attempts=2)


# inline


def test_reply_handler_gets_message_and_event(first: Calls) -> None:
    event = reply(message="YES, I'll come")
    [heard] = first.arguments
    assert set(heard) == {"signal", "sender", "message", "event"}
    assert (heard["sender"], heard["signal"]) == (Message, message_received)
    assert heard["message"].body == "YES, I'll come"
    assert heard["event"] == event


def test_status_handler_gets_message_status_change_and_event() -> None:
    calls = Calls()
    with connected(status_changed, calls=calls):
        WebhookClient().status(status="expired")
    [heard] = calls.arguments
    assert set(heard) == {"signal", "sender", "message", "status_change", "event"}
    assert heard["message"].status == heard["status_change"].status == "expired"
    assert heard["sender"] is Message


def test_opt_out_handler_gets_contact_and_event() -> None:
    calls = Calls()
    with connected(opt_out_received, calls=calls):
        WebhookClient().opt_out(contact="404000000")
    [heard] = calls.arguments
    assert set(heard) == {"signal", "sender", "contact", "opt_out", "event"}
    assert (heard["contact"], heard["sender"]) == ("+61404000000", WebhookEvent)


def test_new_reply_does_not_send_status_changed() -> None:
    calls = Calls()
    with connected(status_changed, calls=calls):
        reply()
    assert not calls


def test_event_is_done_when_its_handlers_finish(first: Calls) -> None:
    event = reply()
    assert event.done_at is not None
    assert (event.next_run_at, event.attempts) == (None, 1)
    assert event.handler_results["first"]["error"] == ""
    assert event.handler_results["first"]["at"] <= event.done_at.isoformat()


def test_duplicate_calls_no_handler(first: Calls) -> None:
    reply()
    reply()
    assert len(first) == 1


def test_async_handler_runs_to_its_end() -> None:
    heard = []

    async def handler(message: Message, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        found = await Message.objects.aget(pk=message.pk)
        heard.append(found.body)

    with connected(message_received, handler=handler):
        event = reply(message="yes")
    assert heard == ["yes"]
    assert event.done_at is not None


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), DatabaseError("no"), asyncio.CancelledError("no"), RecursionError("no")],
    ids=lambda error: type(error).__name__,
)
def test_failing_handler_stops_no_other_and_records_its_error(
    first: Calls, second: Calls, error: BaseException
) -> None:
    first.error = error
    event = reply()
    assert len(second) == 1
    assert event.handler_results["first"]["error"] == f"{type(error).__name__}: no"
    assert event.handler_results["second"]["error"] == ""
    assert event.handler_errors() == {"first": f"{type(error).__name__}: no"}
    assert event.done_at is None


def test_handlers_database_error_does_not_abort_the_surrounding_test(
    first: Calls, second: Calls
) -> None:
    def break_the_transaction(**kwargs: Any) -> None:
        Message.objects.create(key="half-done")
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM no_such_table")

    first.during = break_the_transaction
    event = reply()
    assert len(second) == 1
    assert "first" in event.handler_errors()
    assert not Message.objects.filter(key="half-done").exists()


def test_error_is_cleaned_and_truncated(first: Calls) -> None:
    first.error = ValueError("\0\ud83d" + "x" * 5_000)
    error = reply().handler_results["first"]["error"]
    assert error.startswith("ValueError: \ufffdxxx")
    assert len(error) == MAX_ERROR_LENGTH


def test_error_without_readable_text_keeps_its_type(first: Calls) -> None:
    class UnreadableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    first.error = UnreadableError()
    type_name, _, text = reply().handler_results["first"]["error"].partition(": ")
    assert type_name.endswith("UnreadableError")
    assert text


def test_log_names_handler_event_and_place_but_not_the_error_text(
    first: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    first.error = ValueError("call +61400000000 about the biopsy")
    event = reply()
    [(level, (name, pk, place))] = logged(caplog)
    assert (level, name, pk) == ("ERROR", "first", event.pk)
    assert str(place).startswith("ValueError in __call__ (")
    assert "biopsy" not in caplog.text
    assert "+61" not in caplog.text


def test_response_is_200_when_running_handlers_breaks(
    first: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    with refusing(UPDATE_OF_EVENT):
        event = reply()
    assert len(first) == 1
    assert event.done_at is None
    assert event.next_run_at is not None
    [(level, (pk, place))] = logged(caplog)
    assert (level, pk) == ("ERROR", event.pk)
    assert str(place).startswith("OperationalError in refuse (")


def test_result_has_the_errors_location(first: Calls) -> None:
    def book(**arguments: Any) -> None:
        raise KeyError("table")

    first.during = book
    [result] = reply().handler_results.values()
    assert result["error"] == "KeyError: 'table'"
    assert result["location"].startswith(f"book ({__file__}:")


def test_lease_is_renewed_for_each_handler(
    first: Calls, second: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = timezone.now() + timedelta(minutes=4)
    saved = []
    first.during = lambda **kwargs: monkeypatch.setattr(timezone, "now", lambda: later)
    second.during = lambda event, **kwargs: saved.append(WebhookEvent.objects.get(pk=event.pk))
    reply()
    monkeypatch.undo()
    assert saved[0].next_run_at == later + timedelta(minutes=5)


def test_result_is_saved_before_the_next_handler_runs(first: Calls, second: Calls) -> None:
    saved = []

    def look(event: WebhookEvent, **kwargs: Any) -> None:
        saved.append(WebhookEvent.objects.get(pk=event.pk))

    second.during = look
    event = reply()
    [while_second_ran] = saved
    assert set(while_second_ran.handler_results) == {"first"}
    assert while_second_ran.done_at is None
    assert while_second_ran.next_run_at is not None
    assert while_second_ran.next_run_at > timezone.now() + timedelta(seconds=290)
    assert set(event.handler_results) == {"first", "second"}


@pytest.mark.parametrize("error", [None, ValueError("no")])
@pytest.mark.parametrize("mark", [lambda handler: handler, exactly_once], ids=["plain", "once"])
def test_result_has_the_seconds_of_the_last_call(
    mark: Callable[[Calls], Calls], error: Exception | None, clock: Clock
) -> None:
    handler = mark(Calls(error=error))
    handler.during = lambda **kwargs: clock.sleep(0.0421)
    with connected(message_received, handler=handler):
        event = reply()
    assert event.handler_results["handler"]["seconds"] == 0.042


def test_call_that_has_not_returned_has_no_seconds(first: Calls) -> None:
    event = event_whose_three_runs_die(first)
    assert "seconds" not in WebhookEvent.objects.get(pk=event.pk).handler_results["first"]


def test_same_handler_of_two_facts_has_two_results() -> None:
    facts = [
        Fact(message_received, Message, {}),
        Fact(opt_out_received, WebhookEvent, {}, OPT_OUT_SUFFIX),
    ]
    with connected(message_received, both=Calls()), connected(opt_out_received, both=Calls()):
        names = [call.name for fact in facts for call in fact.calls()]
    assert names == ["both", "both (opt_out_received)"]


# attempts


def test_only_the_failed_handler_is_called_again(first: Calls, second: Calls) -> None:
    first.error = ValueError("not yet")
    event = reply()
    make_due(event)
    first.error = None

    assert ran(run_due) == [event.pk]
    assert (len(first), len(second)) == (2, 1)
    assert set(first.arguments[1]) == {"signal", "sender", "message", "event"}
    event.refresh_from_db()
    assert event.done_at is not None
    assert (event.attempts, event.handler_errors()) == (2, {})


def test_second_attempt_gets_the_same_arguments() -> None:
    calls = Calls()
    calls.error = ValueError("not yet")
    with connected(status_changed, calls=calls):
        WebhookClient().status()
        event = WebhookEvent.objects.get()
        make_due(event)
        ran(run_due)
    once, again = calls.arguments
    assert once == again
    assert again["status_change"].message is again["message"]


def test_pauses_double_from_a_minute_to_six_hours() -> None:
    minutes = [pause_after(attempts).total_seconds() / 60 for attempts in range(1, 13)]
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]
    assert pause_after(30_000) == timedelta(hours=6)


def test_failing_event_waits_for_its_pause(first: Calls) -> None:
    first.error = ValueError("no")
    event = reply()
    assert ran(run_due) == []
    pause = pause_before(event)
    assert timedelta(seconds=50) < pause <= timedelta(minutes=1)

    make_due(event)
    ran(run_due)
    event.refresh_from_db()
    pause = pause_before(event)
    assert timedelta(seconds=110) < pause <= timedelta(minutes=2)


def test_event_is_failed_after_the_last_attempt(first: Calls, settings: Any) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    first.error = ValueError("no")
    event = reply()
    make_due(event)
    ran(run_due)
    assert WebhookEvent.objects.failed().get() == event
    assert not WebhookEvent.objects.pending().exists()
    assert ran(run_due) == []


def event_whose_three_runs_die(first: Calls) -> WebhookEvent:
    with dying(first):
        reply()
    event = WebhookEvent.objects.get()
    for _ in range(2):
        end_lease(event)
        with dying(first):
            run_due()
    return event


def test_handler_that_kills_its_process_fails_after_its_attempts(
    first: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 3
    event = event_whose_three_runs_die(first)
    end_lease(event)
    assert ran(run_due) == [event.pk]
    assert len(first) == 3
    failed = WebhookEvent.objects.failed().get()
    assert failed.handler_errors() == {"first": schedule.NOT_RETURNED}
    assert failed.handler_results["first"]["attempts"] == 3


def test_handler_that_kills_its_process_uses_up_its_attempts_beside_others(
    first: Calls, second: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    event_whose_three_runs_die(first)
    assert (len(first), len(second)) == (2, 1)
    failed = WebhookEvent.objects.failed().get()
    assert failed.handler_errors() == {"first": schedule.NOT_RETURNED}


@pytest.mark.parametrize("mark", [lambda handler: handler, in_order, exactly_once])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_handler_that_kills_its_process_is_called_as_often_as_the_limit_says(
    mark: Callable[[Calls], Calls], limit: int, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = limit
    killing, other = mark(Calls()), Calls()
    with connected(message_received, killing=killing, other=other):
        with dying(killing):
            reply()
        event = WebhookEvent.objects.get()
        for _ in range(limit + 2):
            end_lease(event)
            with dying(killing):
                run_due()
    event.refresh_from_db()
    assert event.state == "failed"
    assert (len(killing), len(other)) == (limit, 1)
    assert event.handler_errors() == {"killing": schedule.NOT_RETURNED}
    assert event.handler_results["killing"]["attempts"] == limit


@pytest.mark.parametrize("limit", [1, 2])
def test_handler_that_had_to_wait_is_not_blamed_for_a_killed_process(
    first: Calls, second: Calls, limit: int, settings: Any
) -> None:
    booking = in_order(first)
    first.error = RetryLater(timedelta(hours=1))
    waited_for = reply(message="YES")
    first.error = None
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = limit
    with dying(second):
        reply(message="CANCEL")
    event = WebhookEvent.objects.latest("pk")
    for _ in range(limit):
        end_lease(event)
        with dying(second):
            run_due()
    assert booking is first
    assert skip(waited_for.pk, "first")
    event.refresh_from_db()
    assert event.handler_errors() == {"second": schedule.NOT_RETURNED}
    assert event.has_finished("first")
    assert event.handler_results["first"]["attempts"] == 1


def test_handler_that_was_never_called_is_never_ended(first: Calls, settings: Any) -> None:
    """The process dies between the commit and the first call."""
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    payloads = read(json.dumps(reply_payload()).encode(), "", Endpoint.RECEIVE)
    [event] = inbox.store(payloads, endpoint=Endpoint.RECEIVE)
    end_lease(event)
    assert ran(run_due) == [event.pk]
    assert len(first) == 1


def test_handler_that_kills_its_process_is_called_after_the_others(
    first: Calls, second: Calls
) -> None:
    third = Calls()
    with connected(message_received, third=third):
        with dying(first):
            reply()
        end_lease(WebhookEvent.objects.get())
        order: list[str] = []
        for name, handler in {"first": first, "second": second, "third": third}.items():
            handler.during = lambda name=name, **kwargs: order.append(name)
        run_due()
        assert order == ["second", "third", "first"]


def test_uncalled_handlers_go_first(first: Calls, second: Calls) -> None:
    first.error = ValueError("no")
    with dying(second):
        reply()
    event = WebhookEvent.objects.get()
    order: list[str] = []
    first.during = lambda **kwargs: order.append("first")
    second.during = lambda **kwargs: order.append("second")
    make_due(event)
    run_due()
    assert order == ["second", "first"]


def test_event_of_a_dead_process_runs_when_the_lease_ends(first: Calls) -> None:
    event = reply()
    lease_end = timezone.now() + timedelta(minutes=5)
    as_if_killed(event)
    WebhookEvent.objects.update(next_run_at=lease_end)
    assert ran(run_due) == []
    make_due(event)
    assert ran(run_due) == [event.pk]
    event.refresh_from_db()
    assert event.done_at is not None


def test_longest_waiting_event_runs_first(first: Calls) -> None:
    first.error = ValueError("no")
    events = [reply(message=text) for text in "abc"]
    now = timezone.now()
    for age, event in enumerate(events):
        WebhookEvent.objects.filter(pk=event.pk).update(next_run_at=now - timedelta(minutes=age))
    assert ran(run_due) == [event.pk for event in reversed(events)]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads the plans of SQLite")
def test_due_events_query_uses_its_index() -> None:
    """The command asks each minute, and nearly every event of the table is done."""
    with CaptureQueriesContext(connection) as queries:
        assert ran(run_due) == []
    _orphans, query = queries
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
        plan = [row[-1] for row in cursor.fetchall()]
    assert "cellcast_event_state (done_at=? AND next_run_at" in plan[0]


def test_event_claimed_by_another_process_is_skipped(first: Calls) -> None:
    first.error = ValueError("no")
    event = reply()
    make_due(event)
    with just_before(UPDATE_OF_EVENT, partial(claim_elsewhere, event)):
        assert ran(run_due) == []
    assert len(first) == 1


def test_deleted_events_and_events_not_due_are_skipped(first: Calls) -> None:
    first.error = ValueError("no")
    waiting = reply()
    assert ran(run_due, [waiting.pk, waiting.pk + 1]) == []


def test_run_calls_no_further_handler_after_a_takeover(
    first: Calls, second: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    def outlive_the_lease(**kwargs: Any) -> None:
        WebhookEvent.objects.update(attempts=2)

    first.during = outlive_the_lease
    event = reply()
    assert not second
    assert event.handler_results == {}
    assert logged(caplog) == [("WARNING", ("first", event.pk))]


def test_run_does_not_count_an_event_taken_over(first: Calls) -> None:
    first.error = ValueError("no")
    make_due(reply())
    first.error = None  # raising would undo the take-over in a test's transaction
    first.during = lambda **kwargs: WebhookEvent.objects.update(attempts=9)
    assert ran(run_due) == []


def test_event_waits_for_an_unconnected_failed_handler(
    first: Calls,
) -> None:
    first.error = ValueError("no")
    event = reply()
    make_due(event)
    message_received.disconnect(dispatch_uid="first")
    connected_since = Calls()
    with connected(message_received, since=connected_since):
        ran(run_due)
        event.refresh_from_db()
        assert len(connected_since) == 1
        assert event.state == "pending"
        assert set(event.handler_results) == {"first", "since"}

        first.error = None
        make_due(event)
        with connected(message_received, first=first):
            ran(run_due)
    event.refresh_from_db()
    assert (len(first), len(connected_since)) == (2, 1)
    assert event.state == "done"


def test_process_without_a_failed_handler_does_not_finish_its_event(
    first: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 3
    first.error = ValueError("no")
    event = reply()
    make_due(event)
    message_received.disconnect(dispatch_uid="first")

    assert ran(run_due, [event.pk]) == [event.pk]
    event.refresh_from_db()
    assert event.state == "pending"
    assert timedelta(seconds=100) < pause_before(event) <= timedelta(minutes=2)

    make_due(event)
    ran(run_due, [event.pk])
    event.refresh_from_db()
    assert event.state == "failed"


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        (timedelta(), timedelta(minutes=1)),
        (timedelta(minutes=5), timedelta(minutes=5)),
        (timedelta(hours=8), timedelta(hours=6)),
        (timedelta(days=1), None),
    ],
    ids=str,
)
def test_process_without_any_handler_looks_again_until_a_days_end(
    first: Calls, age: timedelta, pause: timedelta | None
) -> None:
    event = reply()
    as_if_killed(event)
    WebhookEvent.objects.update(received_at=timezone.now() - age)
    message_received.disconnect(dispatch_uid="first")

    assert ran(run_due, [event.pk]) == [event.pk]
    event.refresh_from_db()
    assert event.attempts == 1
    if pause is None:
        assert event.state == "failed"
    else:
        assert event.state == "pending"
        assert abs(pause_before(event) - pause) < timedelta(seconds=5)


@pytest.mark.parametrize("called", [[], ["first"]], ids=["before any call", "after a failed one"])
def test_retry_changes_nothing_without_connected_handlers(first: Calls, called: list[str]) -> None:
    first.error = ValueError("no")
    event = reply()
    as_if_killed(event, *called)
    message_received.disconnect(dispatch_uid="first")
    [before] = WebhookEvent.objects.values()

    assert ran(run_again, [event.pk]) == [event.pk]
    assert WebhookEvent.objects.values().get() == before


def test_retry_counts_no_attempt_of_an_unconnected_handler(first: Calls, second: Calls) -> None:
    first.error = second.error = ValueError("no")
    event = reply()
    make_due(event)
    message_received.disconnect(dispatch_uid="first")

    assert ran(run_again, [event.pk]) == [event.pk]
    event.refresh_from_db()
    attempts = {name: each["attempts"] for name, each in event.handler_results.items()}
    assert attempts == {"first": 1, "second": 2}


def test_event_does_not_wait_for_unconnected_handlers_that_finished(
    first: Calls, second: Calls
) -> None:
    event = reply()
    as_if_killed(event, "first")
    message_received.disconnect(dispatch_uid="first")
    ran(run_due)
    event.refresh_from_db()
    assert event.state == "done"


def test_event_without_its_message_fails_with_the_reason(first: Calls) -> None:
    first.error = ValueError("no")
    event = reply()
    make_due(event)
    Message.objects.all().delete()
    ran(run_due)
    event.refresh_from_db()
    assert event.error == DELETED
    assert WebhookEvent.objects.failed().get() == event


# run_again


def test_retry_runs_a_failed_event(first: Calls, settings: Any) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    first.error = ValueError("no")
    event = reply()
    first.error = None
    assert ran(run_again, [event.pk]) == [event.pk]
    event.refresh_from_db()
    assert event.done_at is not None
    assert event.attempts == 2


def test_retry_skips_done_and_unknown_events(first: Calls) -> None:
    event = reply()
    duplicate = reply()
    assert ran(run_again, [event.pk, duplicate.pk, duplicate.pk + 1]) == []
    assert len(first) == 1


# run_again to everyone


def test_rerun_calls_all_handlers_of_a_done_event(first: Calls, second: Calls) -> None:
    event = reply()

    assert ran(run_again, [event.pk], everyone=True) == [event.pk]

    assert (len(first), len(second)) == (2, 2)
    before = event.handler_results
    event.refresh_from_db()
    assert event.done_at is not None
    assert (event.next_run_at, event.attempts) == (None, 2)
    assert all(event.handler_results[name]["at"] > before[name]["at"] for name in before)


def test_rerun_calls_all_handlers_of_a_failed_event(
    first: Calls, second: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    first.error = ValueError("no")
    event = reply()

    assert ran(run_again, [event.pk], everyone=True) == [event.pk]

    assert (len(first), len(second)) == (2, 2)
    assert WebhookEvent.objects.failed().get() == event


def test_rerun_clears_the_results_first(first: Calls, second: Calls) -> None:
    event = reply()
    saved = []

    def look(event: WebhookEvent, **kwargs: Any) -> None:
        saved.append(WebhookEvent.objects.get(pk=event.pk))

    first.during = second.during = look
    ran(run_again, [event.pk], everyone=True)

    while_first_ran, while_second_ran = saved
    assert while_first_ran.handler_results == {}
    assert while_first_ran.done_at is None
    assert while_first_ran.next_run_at is not None
    assert set(while_second_ran.handler_results) == {"first"}


def test_rerun_killed_midway_leaves_the_rest_due(first: Calls, second: Calls) -> None:
    event = reply()
    ran(run_again, [event.pk], everyone=True)

    as_if_killed(event, "first")
    assert ran(run_due) == [event.pk]

    assert (len(first), len(second)) == (2, 3)
    event.refresh_from_db()
    assert event.done_at is not None


def test_rerun_skips_events_without_facts(first: Calls) -> None:
    reply()
    duplicate = reply()
    WebhookClient().webhook(b"{", "receive")
    invalid = WebhookEvent.objects.latest("pk")
    unheard = WebhookClient().opt_out().json()["events"][0]["id"]
    pks = [duplicate.pk, invalid.pk, unheard]

    assert ran(run_again, pks, everyone=True) == []

    assert len(first) == 1


def test_rerun_skips_redacted_events() -> None:
    calls = Calls()
    with connected(opt_out_received, calls=calls):
        WebhookClient().opt_out()
        event = WebhookEvent.objects.get()
        WebhookEvent.objects.update(body="", contact="")
        assert ran(run_again, [event.pk], everyone=True) == []
    assert len(calls) == 1


def test_rerun_without_its_message_keeps_the_results(first: Calls) -> None:
    event = reply()
    Message.objects.all().delete()

    assert ran(run_again, [event.pk], everyone=True) == []

    event.refresh_from_db()
    assert event.done_at is not None
    assert set(event.handler_results) == {"first"}


def test_rerun_skips_an_event_just_claimed(
    first: Calls,
) -> None:
    event = reply()
    with just_before(UPDATE_OF_EVENT, partial(claim_elsewhere, event)):
        assert ran(run_again, [event.pk], everyone=True) == []
    event.refresh_from_db()
    assert set(event.handler_results) == {"first"}


class HostProjectTests(TestCase):
    """Signals fire in a host project's plain TestCase, with nothing patched."""

    def test_handlers_run_and_see_the_stored_message(self) -> None:
        seen = []

        def handler(message: Message, **kwargs: Any) -> None:
            seen.append(Message.objects.get(pk=message.pk).body)

        with connected(message_received, handler=handler):
            WebhookClient().reply(message="YES")
        assert seen == ["YES"]
