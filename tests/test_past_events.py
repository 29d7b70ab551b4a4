"""Past events for one handler: in code, and by ``cellcast_run_handlers --again``."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django.handlers import past, run_again, run_due, skip
from cellcast_django.handlers.past import Count, PastEvents
from cellcast_django.models import CommandRun, Message, WebhookEvent
from cellcast_django.opt_outs import opt_in
from cellcast_django.signals import (
    GiveUp,
    RetryLater,
    handlers_failed,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.testing import WebhookClient
from tests.database_faults import just_before
from tests.handlers import (
    MARKS,
    UPDATE_OF_EVENT,
    Calls,
    as_if_killed,
    connected,
    dying,
    end_lease,
    make_due,
    of,
    pause_before,
    ran,
    reply,
)
from tests.killed import lines_of

pytestmark = pytest.mark.django_db


@pytest.fixture(params=list(MARKS.values()), ids=list(MARKS))
def new(request: pytest.FixtureRequest, first: Calls) -> Iterator[Calls]:
    """A handler named "new" that is to be connected; "first" has been there before it."""
    texts: Calls = request.param(Calls("new"))
    yield texts
    message_received.disconnect(dispatch_uid="new")


def connect(new: Calls) -> None:
    message_received.connect(new, dispatch_uid="new")


def give(*events: WebhookEvent) -> list[int]:
    return ran(run_again, [event.pk for event in events], only="new")


# What becomes of an event


def test_done_event_is_given_to_the_handler_alone(new: Calls, first: Calls) -> None:
    event = reply(message="YES")
    before = of(event).handler_results["first"]
    connect(new)
    assert give(event) == [event.pk]
    assert (new.heard(), len(first)) == (["YES"], 1)
    assert of(event).handler_results["first"] == before
    assert event.handler_results["new"]["attempts"] == 1
    assert (event.state, event.attempts) == ("done", 2)


def test_done_event_takes_one_update_and_a_pending_one_two(new: Calls, first: Calls) -> None:
    done = reply(message="YES")
    first.error = RetryLater(timedelta(hours=1))
    pending = reply(message="NO", sender="+61491570157")
    connect(new)
    for event, updates in ((done, 1), (pending, 2)):
        with CaptureQueriesContext(connection) as queries:
            give(event)
        assert sum(query["sql"].startswith("UPDATE") for query in queries) == updates
    assert new.heard() == ["YES", "NO"]


def test_pending_event_keeps_the_others_pauses(new: Calls, first: Calls) -> None:
    first.error = RetryLater(timedelta(hours=3))
    event = reply(message="YES")
    result = of(event).handler_results["first"]
    connect(new)
    give(event)
    assert of(event).handler_results["first"] == result
    assert timedelta(hours=2.9) < pause_before(event) <= timedelta(hours=3)
    assert (event.state, len(first), new.heard()) == ("pending", 1, ["YES"])


def test_failed_event_stays_failed_for_the_others(new: Calls, first: Calls, settings: Any) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    first.error = ValueError("no")
    event = reply(message="YES")
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 12
    connect(new)
    told = Calls()
    with connected(handlers_failed, told=told):
        give(event)
        assert (of(event).state, event.has_finished("new"), len(first)) == ("failed", True, 1)
        assert not told, "it had failed before"
        new.errors["YES"] = GiveUp("never")
        give(event)
    assert (of(event).state, len(told)) == ("failed", 1)


def test_handler_that_fails_is_called_again_as_usual(new: Calls, first: Calls) -> None:
    event = reply(message="YES")
    connect(new)
    new.errors["YES"] = ConnectionError("no")
    give(event)
    assert (of(event).state, list(event.handler_errors())) == ("pending", ["new"])
    assert timedelta(seconds=50) < pause_before(event) <= timedelta(minutes=1)
    new.errors.clear()
    make_due(event)
    run_due()
    assert (of(event).state, len(new), len(first)) == ("done", 2, 1)


def test_handler_begins_anew(new: Calls, settings: Any) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    connect(new)
    new.errors["YES"] = ConnectionError("no")
    event = reply(message="YES")
    make_due(event)
    run_due()
    assert of(event).state == "failed"
    give(event)
    assert (of(event).state, event.handler_results["new"]["attempts"]) == ("pending", 1)


@pytest.mark.parametrize(
    "settle", [lambda event: None, lambda event: skip(event.pk, "new")], ids=["", "skipped"]
)
def test_finished_and_skipped_handler_is_called_again_in_code(
    new: Calls, settle: Callable[[WebhookEvent], object]
) -> None:
    connect(new)
    event = reply(message="YES")
    settle(event)
    give(event)
    assert new.heard() == ["YES", "YES"]


def test_nobody_who_was_connected_since_is_called(new: Calls, second: Calls) -> None:
    message_received.disconnect(dispatch_uid="second")
    event = reply(message="YES")
    connect(new)
    with connected(message_received, second=second):
        give(event)
        assert (of(event).state, len(second)) == ("done", 0)


def test_uncalled_handler_of_a_pending_event_is_still_called(new: Calls, second: Calls) -> None:
    event = reply(message="YES")
    as_if_killed(event, "first")
    connect(new)
    give(event)
    assert (of(event).state, new.heard()) == ("pending", ["YES"])
    run_due()
    assert (of(event).state, len(second)) == ("done", 2)
    assert event.handler_results["second"]["attempts"] == 2, "it was cut off"


def test_event_that_may_be_running_is_left_to_its_run(new: Calls, first: Calls) -> None:
    connect(new)
    first.during = lambda event, **kwargs: give(event)
    event = reply(message="YES")
    assert (new.heard(), of(event).state) == (["YES"], "done")
    first.error = ConnectionError("no")
    first.during = lambda **kwargs: None
    event = reply(message="NO")
    first.during = lambda event, **kwargs: give(event)
    make_due(event)
    run_due()
    assert new.heard() == ["YES", "NO"]


def test_process_that_dies_in_a_replay_has_its_call_counted(new: Calls, first: Calls) -> None:
    first.error = RetryLater(timedelta(hours=1))
    event = reply(message="YES")
    connect(new)
    with dying(new):
        give(event)
    end_lease(event)
    run_due()
    assert of(event).handler_results["new"]["attempts"] == 2
    assert len(first) == 1


def test_slower_replay_of_a_done_event_saves_nothing(new: Calls, first: Calls) -> None:
    event = reply(message="YES")
    connect(new)
    with just_before(UPDATE_OF_EVENT, lambda: WebhookEvent.objects.update(attempts=7)):
        give(event)
    assert not of(event).has_finished("new")


def test_both_facts_of_a_stop_are_given(first: Calls) -> None:
    event = reply(message="STOP")
    both = Calls()
    with connected(message_received, both=both), connected(opt_out_received, both=both):
        assert ran(run_again, [event.pk], only="both") == [event.pk]
        assert [call["signal"] for call in both.arguments] == [message_received, opt_out_received]
        assert set(of(event).handler_results) == {"first", "both", "both (opt_out_received)"}
        assert event.state == "done"


@pytest.mark.parametrize("name", ["nobody", "first (opt_out_received)"])
def test_unconnected_handler_is_an_error(first: Calls, name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(name)):
        run_again([reply().pk], only=name)


# Order


@pytest.fixture(params=[MARKS["in order"], MARKS["both"]], ids=["plain", "exactly once"])
def ordered(request: pytest.FixtureRequest) -> Iterator[Calls]:
    texts: Calls = request.param(Calls("new"))
    yield texts
    message_received.disconnect(dispatch_uid="new")


def test_later_events_wait_for_one_that_fails(ordered: Calls) -> None:
    with connected(message_received, first=Calls()):
        events = [reply(message=text) for text in "abc"]
        other = reply(message="other", sender="+61491570157")
        connect(ordered)
        ordered.errors["a"] = ConnectionError("no")
        give(*events, other)
        assert ordered.heard() == ["a", "other"]
        assert [of(each).waiting_for for each in events] == [None, events[0].pk, events[1].pk]
        assert len({each.next_run_at for each in events}) == 1

        ordered.errors.clear()
        make_due(events[0])
        run_due()
        assert ordered.heard()[2:] == ["a", "b", "c"]
        assert {of(each).state for each in events} == {"done"}


def test_event_released_meanwhile_is_not_given_twice(ordered: Calls) -> None:
    connect(ordered)
    ordered.errors["a"] = RetryLater(timedelta(hours=1))
    events = [reply(message=text) for text in "abc"]
    ordered.errors.clear()
    give(*events)
    assert ordered.heard() == ["a", "a", "b", "c"]


# The command


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("cellcast_run_handlers", "--again", "new", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def numbers(line: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", line)]


def received(text: str, ago: timedelta) -> WebhookEvent:
    event = reply(message=text)
    WebhookEvent.objects.filter(pk=event.pk).update(received_at=timezone.now() - ago)
    return event


def test_command_gives_what_the_handler_has_not_finished(new: Calls, first: Calls) -> None:
    received("too old", timedelta(days=31))
    connect(new)
    events = [received(text, timedelta(days=1)) for text in ("done", "gave up", "waits")]
    message_received.disconnect(dispatch_uid="new")
    received("never called", timedelta(days=2))
    WebhookEvent.objects.filter(pk=events[1].pk).update(handler_results={}, done_at=None)
    new.arguments.clear()
    connect(new)

    out = run("--since", "30d")
    assert new.heard() == ["gave up", "never called"]
    head, left_out, tally = out.splitlines()
    assert numbers(head) == [2]
    assert numbers(left_out) == [2]
    assert numbers(tally) == [2, 0, 0]
    assert not CommandRun.objects.exists()

    assert numbers(run("--since", "30d").splitlines()[0]) == [0], "what is done is done"
    run("--since", "30d", "--done")
    assert len(new) == 2 + 4


def test_dry_run_only_counts(new: Calls, first: Calls) -> None:
    reply()
    connect(new)
    assert numbers(run("--since", "1h", "--dry-run")) == [1]
    assert not new


def test_command_counts_what_is_not_given(new: Calls, first: Calls) -> None:
    client = WebhookClient()
    reply(message="redacted")
    WebhookEvent.objects.update(body="")
    reply(message="given")
    reply(message="given")  # a duplicate
    client.webhook(b"{", "receive")
    client.status()
    client.opt_out(contact="404000000")
    reply(message="a test", **{})
    WebhookEvent.objects.filter(message__body="a test").update(is_test=True)
    reply(message="deleted")
    Message.objects.filter(body="deleted").delete()
    connect(new)
    reply(message="finished")
    past_events = PastEvents("new", timezone.now() - timedelta(hours=1), timezone.now())
    assert past_events.count() == Count(
        given=1, finished=1, tests=1, duplicates=1, invalid=1, redacted=1, without_fact=3
    )
    new.arguments.clear()
    assert len(run("--since", "1h").splitlines()) == 3
    assert new.heard() == ["given"]


def test_events_are_given_in_pages(
    new: Calls, first: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "PAGE_SIZE", 2)
    events = [reply(message=str(number), sender=f"+6149157{number:04}") for number in range(5)]
    connect(new)
    run("--since", "1h")
    assert new.heard() == list("01234")
    assert {of(event).state for event in events} == {"done"}


@pytest.mark.parametrize("until", [[], ["--until", "2126-01-01T00:00"]], ids=["", "later"])
def test_what_arrives_meanwhile_is_not_given(first: Calls, until: list[str]) -> None:
    """Its own run has called the handler; with ``--done`` it would be called twice."""
    reply(message="YES")
    texts = Calls("new")
    texts.during = lambda message, **kwargs: message.body == "YES" and reply(message="NO")
    with connected(message_received, new=texts):
        out = run("--since", "1h", "--done", *until)
    assert texts.heard() == ["YES", "NO"]
    assert numbers(out.splitlines()[-1]) == [1, 0, 0]


def test_pages_end_with_what_was_there(
    new: Calls, first: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "PAGE_SIZE", 1)
    event = reply(message="YES")
    connect(new)
    now = timezone.now()
    pks = PastEvents("new", now - timedelta(hours=1), now + timedelta(days=1), finished=True).pks()
    assert next(pks) == event.pk
    reply(message="NO")
    assert list(pks) == []


def test_tests_are_given_to_nobody(new: Calls, first: Calls) -> None:
    event = reply(message="YES")
    WebhookEvent.objects.update(is_test=True)
    connect(new)
    assert give(event) == []


def test_command_without_events_gives_none(new: Calls) -> None:
    connect(new)
    assert [numbers(line) for line in run("--since", "1h").splitlines()] == [[0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("since", "until", "given"),
    [
        ("2026-11-10T09:00", None, "bcd"),
        ("2026-11-10 09:00:30", None, "cd"),
        ("2026-11-10T09:00", "2026-11-10T09:01", "bc"),
        ("2026-11-09T22:00+00:00", "2026-11-10T09:00", "b"),
        ("2026-11-10T08:59", "2026-11-10T08:59", "a"),
    ],
)
def test_times_are_in_the_current_zone_and_inclusive(
    first: Calls, since: str, until: str | None, given: str, settings: Any
) -> None:
    zone = timezone.get_default_timezone()
    for minute, text in zip((-1, 0, 1, 2), "abcd", strict=True):
        event = reply(message=text)
        at = datetime(2026, 11, 10, 9, tzinfo=zone) + timedelta(minutes=minute)
        WebhookEvent.objects.filter(pk=event.pk).update(received_at=at)
    texts = Calls("new")
    with connected(message_received, new=texts):
        run("--since", since, *(["--until", until] if until else []))
    assert texts.heard() == list(given)


def test_hour_that_comes_twice_is_meant_twice(first: Calls) -> None:
    """In Sydney, 2:30 on 5 April 2026."""
    with timezone.override("Australia/Sydney"):
        for text, hour in (("a", 15), ("b", 16)):
            event = reply(message=text)
            at = datetime(2026, 4, 4, hour, 30, tzinfo=UTC)
            WebhookEvent.objects.filter(pk=event.pk).update(received_at=at)
        texts = Calls("new")
        with connected(message_received, new=texts):
            run("--since", "2026-04-05T02:30", "--until", "2026-04-05T02:30")
    assert texts.heard() == ["a", "b"]


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-10T09:00", "0d", ""])
def test_unreadable_time_is_an_error(first: Calls, moment: str) -> None:
    with pytest.raises(CommandError, match="--since"):
        call_command("cellcast_run_handlers", "--again", "first", f"--since={moment}")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--again", "first"], "--since"),
        (["--since", "1d"], "--again"),
        (["--done"], "--again"),
        (["--again", "first", "--since", "1d", "--until", "2d"], "--until"),
        (["--again", "first", "--since", "1d", "--failed"], "--failed"),
        (["--again", "first", "--since", "1d", "--watch"], "--watch"),
        (["--again", "first", "--since", "1d", "--event", "1"], "--event"),
        (["--again", "nobody", "--since", "1d"], "first, second"),
        (["--again", "", "--since", "1d"], "first, second"),
    ],
)
def test_options_that_make_no_sense_are_an_error(
    second: Calls, arguments: list[str], named: str
) -> None:
    with pytest.raises(CommandError, match=named):
        call_command("cellcast_run_handlers", *arguments)


def test_unknown_name_is_an_error_where_none_is_connected() -> None:
    with pytest.raises(CommandError, match="none"):
        run("--since", "1d")


def test_names_of_all_signals_are_listed() -> None:
    with (
        connected(message_received, replies=Calls()),
        connected(status_changed, reports=Calls()),
        connected(opt_out_received, stops=Calls()),
        pytest.raises(CommandError, match="replies, reports, stops"),
    ):
        run("--since", "1d")


def test_progress_is_shown_on_a_terminal(new: Calls, first: Calls) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    for number in range(3):
        reply(message=str(number))
    connect(new)
    out = Terminal()
    call_command("cellcast_run_handlers", "--again", "new", "--since", "1h", stdout=out)
    shown = [numbers(part) for part in out.getvalue().split("\r") if " of " in part]
    assert shown == [[1, 3], [2, 3], [3, 3]]


def test_ended_opt_out_is_given_too(first: Calls) -> None:
    WebhookClient().opt_out(contact="404000000")
    opt_in("404000000")
    new = Calls()
    with connected(opt_out_received, new=new):
        run("--since", "1h")
    assert len(new) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.exhaustive
def test_command_killed_at_any_statement_and_given_again_goes_on() -> None:
    ends = lines_of("tests.killed_again")
    assert ends.count("once") + ends.count("twice") >= 10
    assert set(ends) <= {"once", "twice"}
    assert ends[-1] == "once"
