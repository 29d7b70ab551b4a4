"""Past events for one handler, by ``cellcast_run_handlers --again``."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from cellcast_django.handlers import past, run_due, skip
from cellcast_django.models import CommandRun, HandlerCall, Message, WebhookEvent
from cellcast_django.opt_outs import opt_in
from cellcast_django.signals import (
    GiveUp,
    RetryLater,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.testing import WebhookClient
from tests.handlers import MARKS, Calls, call_of, connected, dying, make_due, reply, state_of
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


def run(*arguments: str) -> str:
    out = StringIO()
    options = arguments or ("--since", "1h")
    call_command("cellcast_run_handlers", "--again", "new", *options, stdout=out, stderr=out)
    return out.getvalue()


def numbers(line: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", line)]


def test_done_event_is_given_to_the_handler_alone(new: Calls, first: Calls) -> None:
    connect(new)
    assert numbers(run().splitlines()[0]) == [0, 0], "there is none"
    message_received.disconnect(dispatch_uid="new")
    first.errors["LATER"] = RetryLater(timedelta(hours=3))
    event, later = reply(message="YES"), reply(message="LATER")
    version, due_at = call_of(event).version, call_of(later).next_attempt_at
    connect(new)
    assert [numbers(line) for line in run().splitlines()] == [[2, 0], [2, 0, 0]]
    assert (new.heard(), len(first)) == (["YES", "LATER"], 2)
    assert (call_of(event).version, call_of(later).next_attempt_at) == (version, due_at)
    assert (state_of(event), call_of(event, "new").attempts) == ("done", 1)
    assert state_of(later) == "pending"
    assert not CommandRun.objects.exists()
    assert numbers(run().splitlines()[0]) == [0, 2], "what is done is done"
    assert numbers(run("--since", "1h", "--done").splitlines()[0]) == [2, 0]
    assert new.heard() == ["YES", "LATER"] * 2


@pytest.mark.parametrize("state", ["retrying", "failed", "gave_up", "skipped"])
def test_call_that_has_not_ended_well_begins_anew(new: Calls, state: str, settings: Any) -> None:
    if state == "failed":
        settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    connect(new)
    new.errors["YES"] = GiveUp("no") if state == "gave_up" else ConnectionError("no")
    event = reply(message="YES")
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 12
    if state == "skipped":
        skip(event.calls.filter(handler="new"), username="ann")
    assert call_of(event, "new").state == state
    new.errors.clear()
    run()
    call = call_of(event, "new")
    assert (call.state, call.attempts, call.skipped_by) == ("done", 1, "")


def test_call_that_is_being_made_is_left_to_its_process(new: Calls) -> None:
    connect(new)
    new.during = lambda **kwargs: run("--since", "1h", "--done")
    reply(message="YES")
    assert new.heard() == ["YES"]


def test_process_that_dies_has_its_call_counted(new: Calls, first: Calls) -> None:
    event = reply(message="YES")
    connect(new)
    with dying(new):
        run()
    make_due(event)
    run_due()
    assert (call_of(event, "new").attempts, len(first)) == (2, 1)


def test_both_facts_of_a_stop_are_given(first: Calls) -> None:
    event = reply(message="STOP")
    both = Calls()
    with connected(message_received, new=both), connected(opt_out_received, new=both):
        run()
    assert [call["signal"] for call in both.arguments] == [message_received, opt_out_received]
    assert (event.calls.filter(handler="new").done().count(), state_of(event)) == (2, "done")
    assert not event.calls.exclude(contact="").exists(), "in no order"


def test_ended_opt_out_is_given_too(first: Calls) -> None:
    WebhookClient().opt_out(contact="404000000")
    opt_in("404000000")
    new = Calls()
    with connected(opt_out_received, new=new):
        run()
    assert len(new) == 1


@pytest.mark.parametrize("mark", [MARKS["in order"], MARKS["both"]], ids=["plain", "exactly once"])
def test_later_events_wait_for_one_that_fails(mark: Any, first: Calls) -> None:
    ordered: Calls = mark(Calls("new"))
    events = [reply(message=text) for text in "abc"]
    other = reply(message="other", sender="+61491570157")
    with connected(message_received, new=ordered):
        ordered.errors["a"] = ConnectionError("no")
        run()
        assert ordered.heard() == ["a", "other"]
        assert [call_of(each, "new").state for each in events] == ["retrying", "waiting", "waiting"]
        ordered.errors.clear()
        run()
        assert ordered.heard()[2:] == ["a", "b", "c"], "none twice"
    assert {state_of(each) for each in (*events, other)} == {"done"}


def test_only_real_events_with_a_fact_are_given(new: Calls, first: Calls) -> None:
    client = WebhookClient()
    reply(message="redacted")
    WebhookEvent.objects.update(body="")
    reply(message="given")
    reply(message="given")  # a duplicate
    client.webhook(b"{", "receive")
    client.status()
    client.opt_out(contact="404000000")
    reply(message="a test")
    WebhookEvent.objects.filter(message__body="a test").update(is_test=True)
    reply(message="deleted")
    Message.objects.filter(body="deleted").delete()
    too_old = reply(message="too old")
    long_ago = timezone.now() - timedelta(days=31)
    WebhookEvent.objects.filter(pk=too_old.pk).update(received_at=long_ago)
    connect(new)
    assert numbers(run("--since", "30d").splitlines()[0]) == [1, 7]
    assert new.heard() == ["given"]


def test_events_are_read_in_pages(new: Calls, first: Calls, monkeypatch: Any) -> None:
    monkeypatch.setattr(past, "PAGE_SIZE", 2)
    events = [reply(message=str(number), sender=f"+6149157{number:04}") for number in range(5)]
    connect(new)
    run()
    assert new.heard() == list("01234")
    assert {state_of(event) for event in events} == {"done"}


def test_event_deleted_meanwhile_is_passed_over(first: Calls) -> None:
    pks = [reply(message=text).pk for text in "ab"]
    new = Calls("new")
    new.during = lambda **kwargs: WebhookEvent.objects.filter(pk=pks[1]).delete()
    with connected(message_received, new=new):
        assert run().splitlines()[-1].startswith("1 ")
    assert HandlerCall.objects.count() == 2


def test_what_arrives_meanwhile_is_not_given(first: Calls) -> None:
    """Its own calls have been made; with ``--done`` the handler would be called twice."""
    reply(message="YES")
    texts = Calls("new")
    texts.during = lambda message, **kwargs: message.body == "YES" and reply(message="NO")
    with connected(message_received, new=texts):
        out = run("--since", "1h", "--done")
    assert texts.heard() == ["YES", "NO"]
    assert numbers(out.splitlines()[-1]) == [1, 0, 0]


@pytest.mark.parametrize(
    ("since", "given"),
    [
        ("2026-11-10T09:00", "bcd"),
        ("2026-11-10 09:00:30", "cd"),
        ("2026-11-09T22:01+00:00", "cd"),
    ],
)
def test_times_are_in_the_current_zone_and_inclusive(first: Calls, since: str, given: str) -> None:
    zone = timezone.get_default_timezone()
    for minute, text in zip((-1, 0, 1, 2), "abcd", strict=True):
        event = reply(message=text)
        at = datetime(2026, 11, 10, 9, tzinfo=zone) + timedelta(minutes=minute)
        WebhookEvent.objects.filter(pk=event.pk).update(received_at=at)
    texts = Calls("new")
    with connected(message_received, new=texts):
        run("--since", since)
    assert texts.heard() == list(given)


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


@pytest.mark.parametrize("handlers", [[], ["replies", "reports", "stops"]])
def test_unknown_name_is_an_error_that_lists_all(handlers: list[str]) -> None:
    signals = (message_received, status_changed, opt_out_received)
    with ExitStack() as stack:
        for signal, name in zip(signals, handlers, strict=False):
            stack.enter_context(connected(signal, **{name: Calls()}))
        with pytest.raises(CommandError, match=", ".join(handlers) or "none"):
            run()


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


@pytest.mark.django_db(transaction=True)
@pytest.mark.exhaustive
def test_command_killed_at_any_statement_and_given_again_goes_on() -> None:
    ends = lines_of("tests.killed_processes", "again")
    assert ends.count("once") + ends.count("twice") >= 10
    assert set(ends) <= {"once", "twice"}
    assert ends[-1] == "once"
