"""Handlers: each is called once per fact, its call's end is saved, and it is called again."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.db.models import F
from django.utils import timezone

from cellcast_django import handlers, inbox
from cellcast_django.handlers import run_again, run_due, skip, steps
from cellcast_django.handlers.attempts import MAX_SECONDS
from cellcast_django.models import HandlerCall, Message, WebhookEvent
from cellcast_django.payloads import Endpoint, read
from cellcast_django.signals import (
    GiveUp,
    exactly_once,
    handlers_failed,
    message_received,
    status_changed,
)
from cellcast_django.testing import WebhookClient, reply_payload
from tests.clock import Clock
from tests.database_faults import just_before, refused_for_another, refusing
from tests.handlers import (
    MARKS,
    UPDATE_OF_CALL,
    Calls,
    call_of,
    connected,
    dying,
    errors_of,
    make_due,
    pause_of,
    ran,
    reply,
    state_of,
)
from tests.logs import logged

pytestmark = pytest.mark.django_db

State = HandlerCall.State


def change_elsewhere(event: WebhookEvent, **values: Any) -> None:
    """Change the event's calls as another process does."""
    HandlerCall.objects.filter(event=event.pk).update(version=F("version") + 1, **values)


# What handlers get


def test_second_attempt_gets_the_same_arguments() -> None:
    calls = Calls(error=ValueError("not yet"))
    with connected(status_changed, calls=calls):
        WebhookClient().status()
        make_due(WebhookEvent.objects.get())
        run_due()
    once, again = calls.arguments
    assert once == again
    assert again["status_change"].message is again["message"]


# The rows


def test_call_is_done_when_its_handler_returns(first: Calls, clock: Clock) -> None:
    first.during = lambda **kwargs: clock.sleep(0.0421)
    event = reply()
    call = call_of(event)
    assert (event.state, call.state, call.attempts) == ("done", "done", 1)
    assert (call.signal, call.handler, call.contact) == ("message_received", "first", "")
    assert (call.next_attempt_at, call.failing_since, call.error) == (None, None, "")
    assert call.seconds == 0.042
    assert call.started_at is not None
    assert call.ended_at is not None
    assert call.started_at <= call.ended_at


def test_name_too_long_for_its_column_ends_in_a_digest() -> None:
    names = [f"{'x' * 300}{end}" for end in "ab"]
    with connected(message_received, **{name: Calls() for name in names}):
        event = reply()
    first, second = event.calls.values_list("handler", flat=True)
    assert first != second
    assert len(first) <= 255
    assert first.partition("~")[0] == second.partition("~")[0] == "x" * 235


# Failures


class PoolTimeout(BaseException):
    """Like gevent's Timeout, which is not an Exception either."""


@pytest.mark.parametrize(
    "error",
    [
        *(kind("no") for kind in (ValueError, DatabaseError, RecursionError, SystemExit)),
        *(kind("no") for kind in (PoolTimeout, asyncio.CancelledError)),
        BaseExceptionGroup("no", [KeyboardInterrupt()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failing_handler_stops_no_other_and_records_its_error(
    first: Calls, second: Calls, error: BaseException
) -> None:
    async def fail(**kwargs: Any) -> None:
        raise error

    first.error = error
    with connected(message_received, awaited=fail):
        event = reply()
    call = call_of(event)
    assert errors_of(event) == dict.fromkeys(["first", "awaited"], call.error)
    assert len(second) == 1
    assert (event.state, call.state) == ("pending", "retrying")
    assert call.error == f"{type(error).__name__}: {error}"
    assert call.location.startswith("__call__ (")
    assert call.failing_since is not None
    assert call_of(event, "second").state == "done"


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
    assert "first" in errors_of(event)
    assert not Message.objects.filter(key="half-done").exists()


def test_error_without_readable_text_keeps_its_type(first: Calls) -> None:
    class UnreadableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    first.error = UnreadableError()
    type_name, _, text = call_of(reply()).error.partition(": ")
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


def test_response_is_200_and_nothing_else_begins_when_running_handlers_breaks(
    first: Calls, client: WebhookClient, caplog: pytest.LogCaptureFixture
) -> None:
    replies = [reply_payload(_id=each) for each in ("1", "2")]
    with refusing(UPDATE_OF_CALL):
        assert client.webhook(replies, Endpoint.RECEIVE).status_code == 200
    assert len(first) == 1
    event, _other = WebhookEvent.objects.pending().order_by("pk")
    [(level, (pk, place))] = logged(caplog)
    assert (level, pk) == ("ERROR", event.pk)
    assert str(place).startswith("OperationalError in refuse (")


@pytest.mark.django_db(transaction=True)
def test_end_that_is_refused_for_another_is_saved_in_the_end(first: Calls, clock: Clock) -> None:
    """As PostgreSQL does at SERIALIZABLE, for steps of other calls in the same page of an index."""
    with refusing(UPDATE_OF_CALL, error=refused_for_another(), times=4) as refusals:
        event = reply()
    assert refusals.count == 4
    assert (len(first), call_of(event).state) == (1, "done")


def test_pauses_double_from_a_minute_to_six_hours() -> None:
    minutes = [steps.pause_after(attempts).total_seconds() / 60 for attempts in range(1, 13)]
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]
    assert steps.pause_after(30_000) == timedelta(hours=6)


def test_call_fails_after_the_last_attempt_until_it_is_made_anew(
    first: Calls, second: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 3
    first.error = ValueError("no")
    event = reply()
    since = call_of(event).failing_since
    for minutes in (1, 2):
        assert ran(run_due) == [], "not before its pause is over"
        assert timedelta(minutes=minutes - 0.2) < pause_of(event) <= timedelta(minutes=minutes)
        make_due(event)
        assert ran(run_due) == [event.pk]
    call = call_of(event)
    assert (call.state, call.attempts, call.next_attempt_at) == ("failed", 3, None)
    assert (call.failing_since, len(first), len(second)) == (since, 3, 1)
    assert call.ended_at is not None
    assert WebhookEvent.objects.failed().get() == event
    assert ran(run_due) == []
    assert run_again(HandlerCall.objects.failed()) == 1
    call = call_of(event)
    assert (call.state, call.attempts, call.failing_since) == ("retrying", 1, since)
    first.error = None
    assert ran(run_again, HandlerCall.objects.failing()) == [event.pk]
    call = call_of(event)
    assert (call.state, call.error, call.location, call.failing_since) == ("done", "", "", None)
    assert (state_of(event), len(second)) == ("done", 1)


def test_event_without_its_message_fails_with_the_reason(
    first: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    first.error = ValueError("no")
    event = reply()
    make_due(event)
    Message.objects.all().delete()
    run_due()
    call = call_of(event)
    assert (call.state, call.error, call.attempts) == ("failed", steps.DELETED, 1)
    assert len(first) == 1
    assert logged(caplog)[-1] == ("ERROR", ("first", event.pk, "Deleted"))


# Killed processes


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_handler_that_kills_its_process_is_called_as_often_as_the_limit_says(
    mark: Callable[[Calls], Calls], limit: int, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = limit
    killing, other = mark(Calls()), Calls()
    with connected(message_received, killing=killing, other=other):
        with dying(killing):
            reply()
        event = WebhookEvent.objects.get()
        assert ran(run_due) == [], "the lease has not ended"
        for _ in range(limit + 2):
            make_due(event)
            with dying(killing):
                run_due()
            assert call_of(event, "killing").error == steps.NOT_RETURNED
    call = call_of(event, "killing")
    assert (state_of(event), call.state, call.attempts) == ("failed", "failed", limit)
    assert call.seconds is None
    assert logged(caplog).count(("ERROR", ("killing", event.pk, "NotReturned"))) == limit
    assert (len(killing), len(other)) == (limit, 1)


def stored_reply() -> tuple[WebhookEvent, list[HandlerCall]]:
    """Store a reply whose process dies between the commit and the first call."""
    payloads = read(json.dumps(reply_payload()).encode(), "", Endpoint.RECEIVE)
    stored = inbox.store(payloads, endpoint=Endpoint.RECEIVE)
    return stored[0], list(stored.calls)


def test_calls_that_others_have_taken_meanwhile_are_not_made(
    first: Calls, second: Calls, settings: Any
) -> None:
    """The process was stopped between the commit and the calls, and others have made them."""
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1  # which is not used up before the call
    event, calls = stored_reply()
    make_due(event)
    assert ran(run_due) == [event.pk, event.pk]
    handlers.run(calls)
    assert len(second) == 1
    assert call_of(event).state == "done"


# What is due


def test_longest_waiting_call_is_made_first(first: Calls, settings: Any) -> None:
    first.error = ValueError("no")
    events = [reply(message=text) for text in "abc"]
    now = timezone.now()
    for age, event in enumerate(events):
        call = HandlerCall.objects.filter(event=event)
        call.update(next_attempt_at=now - timedelta(minutes=age))
    assert ran(run_due) == [event.pk for event in reversed(events)]
    settings.CELLCAST_RUN_HANDLERS = "default"
    event, _calls = stored_reply()  # of nobody as yet
    HandlerCall.objects.update(next_attempt_at=now + timedelta(hours=1))
    make_due(events[0])
    assert ran(run_due, [event.pk]) == [event.pk], "it alone, and whatever the clock says"


def test_run_begins_nothing_after_a_minute(first: Calls, clock: Clock) -> None:
    first.error = ValueError("no")
    events = [reply(message=text) for text in "abc"]
    for event in events:
        make_due(event)
    first.during = lambda **kwargs: clock.sleep(MAX_SECONDS / 2 + 1)
    assert ran(run_due) == [event.pk for event in events[:2]]
    assert ran(run_due) == [events[2].pk]


@pytest.mark.parametrize("connected_here", [["first", "second"], []])
def test_call_that_another_process_begins_is_left_to_it(
    first: Calls, second: Calls, connected_here: list[str]
) -> None:
    first.error = second.error = ValueError("no")
    event = reply()
    if not connected_here:
        message_received.disconnect(dispatch_uid="first")
        message_received.disconnect(dispatch_uid="second")
    make_due(event)
    with just_before(UPDATE_OF_CALL, partial(change_elsewhere, event)):
        assert ran(run_due) == []
    assert (len(first), len(second)) == (1, 1)


def test_deleted_events_and_calls_not_due_are_left_out(first: Calls) -> None:
    first.error = ValueError("no")
    event = reply()
    assert ran(run_due, [event.pk, event.pk + 1]) == []
    make_due(event)
    select = "SELECT .*handlercall.*LEFT OUTER JOIN"
    with just_before(select, WebhookEvent.objects.all().delete):
        assert ran(run_due) == []


@pytest.mark.parametrize("mark", [lambda handler: handler, exactly_once], ids=["plain", "once"])
@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "taken over"])
def test_end_of_a_call_that_is_not_ours_any_more_is_not_saved(
    mark: Callable[[Calls], Calls], deleted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(event: WebhookEvent, **kwargs: Any) -> None:
        if deleted:
            event.calls.all().delete()
        else:
            change_elsewhere(event)

    slow, other = mark(Calls()), Calls()
    slow.during = lose
    with connected(message_received, slow=slow, other=other):
        event = reply()
    assert ("WARNING", ("slow", event.pk)) in logged(caplog)
    assert "slow" not in event.calls.done().values_list("handler", flat=True)


# Handlers that are not connected


def test_handler_that_is_disconnected_before_its_first_call_uses_up_an_attempt() -> None:
    with connected(message_received, first=Calls()):
        payloads = read(json.dumps(reply_payload()).encode(), "", Endpoint.RECEIVE)
        stored = inbox.store(payloads, endpoint=Endpoint.RECEIVE)
    handlers.run(stored.calls)
    call = call_of(stored[0])
    assert (call.state, call.error) == ("retrying", steps.NOT_CONNECTED)


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_process_without_the_handler_ends_nothing_for_it(mark: Callable[[Calls], Calls]) -> None:
    """In a rolling deploy: a web process of the new code stores, a worker of the old one runs."""
    new, old = mark(Calls()), Calls()
    with connected(message_received, old=old):
        with connected(message_received, new=new):
            event, _calls = stored_reply()
        make_due(event)
        run_due()
        assert (state_of(event), len(old), len(new)) == ("pending", 1, 0)
        make_due(event)
        with connected(message_received, new=new):
            run_due()
    assert (state_of(event), len(old), len(new)) == ("done", 1, 1)


# run_again


@pytest.mark.parametrize("skipped", [True, False])
def test_done_and_skipped_calls_are_made_again(first: Calls, skipped: bool) -> None:
    first.error = GiveUp("no") if skipped else None
    event = reply()
    skip(HandlerCall.objects.all(), username="ann")
    first.error = None
    assert run_again(HandlerCall.objects.all()) == 1
    call = call_of(event)
    assert (call.state, call.attempts, call.skipped_by, len(first)) == ("done", 1, "", 2)


def test_call_that_is_running_is_taken_over(first: Calls, caplog: pytest.LogCaptureFixture) -> None:
    once = [lambda: run_again(HandlerCall.objects.all())]
    first.during = lambda **kwargs: once.pop()() if once else None
    event = reply()
    assert len(first) == 2
    assert call_of(event).state == "done"
    assert ("WARNING", ("first", event.pk)) in logged(caplog), "the first has lost it"


def test_call_that_has_changed_meanwhile_is_not_run_again(first: Calls) -> None:
    event = reply()
    with just_before(UPDATE_OF_CALL, partial(change_elsewhere, event)):
        assert run_again(HandlerCall.objects.all()) == 0
    assert len(first) == 1


def test_redacted_event_is_not_run_again(first: Calls) -> None:
    reply()
    WebhookEvent.objects.update(body="", contact="")
    assert run_again(HandlerCall.objects.all()) == 0
    assert len(first) == 1


def ends_elsewhere(event: WebhookEvent, **how: str) -> Callable[..., None]:
    """Let another process begin the event's call; return a step in which it then ends."""
    steps.reopen(call_of(event))
    begun = call_of(event)
    assert steps.begin(begun, in_order=False)

    def end(**_kwargs: Any) -> None:
        if how:
            change_elsewhere(event, ended_at=timezone.now(), next_attempt_at=None, **how)
        else:
            assert steps.end(begun, None, seconds=0, received_at=event.received_at)

    return end


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_call_that_ends_well_meanwhile_is_not_made_again(mark: Any) -> None:
    with connected(message_received, first=mark(Calls(error=GiveUp("a bug")))):
        yes, no = reply(message="YES"), reply(message="NO", sender="+61491570157")
    mended = mark(Calls())
    end = ends_elsewhere(no)
    mended.during = lambda message, **kwargs: end() if message.body == "YES" else None
    with connected(message_received, first=mended):
        assert run_again(HandlerCall.objects.all()) == 2
    assert mended.heard() == ["YES"]
    assert [state_of(each) for each in (yes, no)] == ["done", "done"]


def test_call_that_is_skipped_meanwhile_stays_so_and_is_not_counted(first: Calls) -> None:
    reply(message="YES")
    no = reply(message="NO")
    first.during = ends_elsewhere(no, state="skipped", skipped_by="bob")
    first.arguments.clear()
    assert run_again(HandlerCall.objects.all()) == 1
    assert first.heard() == ["YES"]
    assert call_of(no).skipped_by == "bob"


# skip


def test_skipping_the_last_unfinished_call_finishes_the_event(first: Calls, second: Calls) -> None:
    first.during = lambda event, **kwargs: skip(event.calls.filter(handler="first"))
    assert call_of(reply(message="during the call")).state == "skipped"
    first.during, first.error = lambda **kwargs: None, ValueError("no")
    event = reply()
    assert skip(HandlerCall.objects.all(), username="ann") == 1
    call = call_of(event)
    assert (call.state, call.skipped_by, call.error) == ("skipped", "ann", "ValueError: no")
    assert (call.next_attempt_at, call.failing_since) == (None, None)
    assert (state_of(event), call_of(event, "second").state) == ("done", "done")
    assert skip(HandlerCall.objects.all()) == 0
    make_due(event)
    run_due()
    assert (len(first), len(second)) == (2, 2)


# handlers_failed


@pytest.fixture
def told() -> Iterator[Calls]:
    """A handler of ``handlers_failed``."""
    calls = Calls()
    with connected(handlers_failed, told=calls):
        yield calls


def test_failure_is_told_when_no_call_is_unfinished(
    first: Calls, second: Calls, told: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    first.error = ValueError("the calendar is down")
    event = reply()
    assert not told
    make_due(event)
    run_due()
    [arguments] = told.arguments
    assert arguments == {
        "signal": handlers_failed,
        "sender": WebhookEvent,
        "event": event,
        "errors": {"first": "ValueError: the calendar is down"},
    }
    assert arguments["event"].state == "failed"
    run_due()
    assert len(told) == 1
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    run_again(HandlerCall.objects.failing())
    assert len(told) == 2, "it has failed again"
    first.error = None
    run_again(HandlerCall.objects.failing())
    assert len(told) == 2


def test_skip_of_the_last_unfinished_call_tells_that_others_failed(
    first: Calls, second: Calls, told: Calls
) -> None:
    first.error = second.error = GiveUp("never")
    reply(message="had failed before")
    told.arguments.clear()
    first.error = ValueError("no")
    event = reply()
    skip(HandlerCall.objects.filter(handler="first", event=event))
    assert state_of(event) == "failed"
    [arguments] = told.arguments
    assert (arguments["event"], arguments["errors"]) == (event, {"second": "GiveUp: never"})
    skip(HandlerCall.objects.filter(handler="second"))
    assert (state_of(event), len(told)) == ("done", 1)


@pytest.mark.parametrize("error", [ValueError("+61400000001"), SystemExit(1)])
def test_raising_receiver_is_logged_and_stops_no_other(
    first: Calls, told: Calls, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    first.error = GiveUp("No such customer.")
    told.error = error
    also = Calls()
    with connected(handlers_failed, also=also):
        event = reply()
    assert (len(told), len(also)) == (1, 1)
    assert errors_of(event) == {"first": "GiveUp: No such customer."}
    _handler, (level, (name, place)) = logged(caplog)
    assert (level, name) == ("ERROR", "told")
    assert type(error).__name__ in str(place)
    assert "+61400000001" not in caplog.text


def test_keyboard_interrupt_of_a_receiver_propagates(first: Calls, told: Calls) -> None:
    first.error = GiveUp("No such customer.")
    told.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        reply()
    assert WebhookEvent.objects.failed().count() == 1
