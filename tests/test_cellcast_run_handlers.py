"""``cellcast_run_handlers``: what is due, on request what has failed, and all the time."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from cellcast_django.models import CommandRun, HandlerCall, WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.clock import Clock
from tests.database_faults import refusing
from tests.handlers import Calls, connected, make_due
from tests.logs import logged
from tests.test_deferred import unable

pytestmark = pytest.mark.django_db


@pytest.fixture
def handler() -> Iterator[Calls]:
    """The only handler of ``message_received``."""
    handler = Calls()
    handler.error = ConnectionError("the calendar is down")
    with connected(message_received, calendar=handler):
        yield handler


def failing_event(**changes: Any) -> WebhookEvent:
    WebhookClient().reply(**changes)
    return WebhookEvent.objects.latest("pk")


def give_up(event: WebhookEvent) -> None:
    HandlerCall.objects.filter(event=event).update(
        state="failed", next_attempt_at=None, failing_since=timezone.now()
    )


Counts = tuple[int, ...]
"""How many calls are done, are retried later, and have failed."""


def run(*arguments: str) -> tuple[list[Counts], str]:
    """Return the counts of each line of the output, and the errors."""
    out, err = StringIO(), StringIO()
    call_command("cellcast_run_handlers", *arguments, stdout=out, stderr=err)
    lines = [tuple(map(int, re.findall(r"\d+", line))) for line in out.getvalue().splitlines()]
    return [counts for counts in lines if counts], err.getvalue().strip()


def test_event_option_ignores_the_pause_and_records_no_run(handler: Calls) -> None:
    event, same, other = (failing_event(message=text) for text in ("one", "two", "three"))
    handler.error = None
    assert run("--event", str(event.pk), str(same.pk)) == ([(2, 0, 0)], "")
    assert run("--event", str(event.pk)) == ([(0, 0, 0)], ""), "what is done is not done again"
    assert other.state == "pending"
    assert not CommandRun.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_event_option_says_what_became_of_deferred_events(handler: Calls) -> None:
    handler.error = None
    with unable():
        options = ["--event", str(failing_event().pk), str(failing_event(message="two").pk)]
        assert run(*options)[0] == [(0, 2), (0, 0, 0)]
    assert run(*options[:2])[0] == [(1, 0), (1, 0, 0)]
    assert run(*options)[0] == [(1, 0), (1, 0, 0)]
    assert run(*options)[0] == [(0, 0, 0)]


def test_failed_option_makes_every_failed_call_and_records_no_run(
    handler: Calls, settings: Any
) -> None:
    waiting = failing_event(message="one")
    for text in ("two", "three"):
        give_up(failing_event(message=text))
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    assert run("--failed")[0] == [(0, 0, 2)]
    handler.error = None
    assert run("--failed") == ([(2, 0, 0)], "")
    assert WebhookEvent.objects.pending().get() == waiting
    assert not CommandRun.objects.exists()


@pytest.mark.parametrize("unknown", ["999999", "9" * 23, "-" + "9" * 23])
def test_unknown_event_is_an_error_and_runs_nothing(handler: Calls, unknown: str) -> None:
    event = failing_event()
    with pytest.raises(CommandError, match=rf": {unknown}\."):
        run("--event", str(event.pk), f"--event={unknown}")
    assert len(handler) == 1


def test_neither_texts_nor_control_characters_are_printed(
    handler: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Calls()
    odd.error = ValueError("call +61400123456 \x1b]0;owned\x07 about the biopsy: no")
    with connected(message_received, **{"odd\x1b[2J\nname": odd}):
        event = failing_event()
        handler.error = None
        out, err = run("--event", str(event.pk))
    assert out == [(1, 1, 0)]
    assert err == f"event {event.pk}: odd [2J name: ValueError"
    assert capsys.readouterr() == ("", "")


def test_run_is_recorded_with_its_counts(handler: Calls) -> None:
    event = failing_event()
    make_all_due()
    before = timezone.now()
    assert run() == ([(0, 1, 0)], f"event {event.pk}: calendar: ConnectionError")
    record = CommandRun.objects.get()
    assert record.command == str(record) == "run_handlers"
    assert record.ran_at >= before
    assert record.summary == {"done": 0, "retrying": 1, "failed": 0}
    assert run() == ([(0, 0, 0)], ""), "nothing is due"
    assert CommandRun.objects.get().summary == {"done": 0, "retrying": 0, "failed": 0}
    make_all_due()
    handler.error = None
    assert run() == ([(1, 0, 0)], "")


# --watch


@pytest.fixture
def looks(clock: Clock) -> list[Callable[[], object]]:
    """What happens between one look and the next; after the last, SIGTERM."""
    steps: list[Callable[[], object]] = []

    def act_every_three_seconds() -> None:
        if sum(clock.slept) % 3 == 0:
            step = steps.pop(0) if steps else terminate
            step()

    clock.while_asleep = act_every_three_seconds
    return steps


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def make_all_due() -> None:
    for event in WebhookEvent.objects.order_by("pk"):
        make_due(event)


class Pipe(StringIO):
    """What a supervisor reads from: it sees nothing that has not been flushed."""

    seen = ""

    def flush(self) -> None:
        self.seen = self.getvalue()


def test_watch_flushes_each_line_at_once(handler: Calls, looks: list[Callable[[], object]]) -> None:
    failing_event()
    handler.error = None
    pipe = Pipe()
    lines = []

    def look() -> None:
        lines.append(len(pipe.seen.splitlines()))

    looks += [look, make_all_due, look]
    before = signal.getsignal(signal.SIGTERM)
    call_command("cellcast_run_handlers", "--watch", stdout=pipe)
    assert lines == [1, 2]
    assert WebhookEvent.objects.done().exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_lets_only_the_running_handler_finish(
    handler: Calls, looks: list[Callable[[], object]]
) -> None:
    first, second = failing_event(message="one"), failing_event(message="two")
    make_all_due()
    finished = []

    def be_terminated(event: WebhookEvent, **kwargs: Any) -> None:
        terminate()
        finished.append(event.pk)

    handler.error, handler.during = None, be_terminated
    run("--watch")
    assert finished == [first.pk]
    assert [event.state for event in (first, second)] == ["done", "pending"]


def test_command_survives_a_database_restart(
    handler: Calls,
    looks: list[Callable[[], object]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing_event()
    make_all_due()
    handler.error = None
    with ExitStack() as outage:
        outage.enter_context(refusing(error=OperationalError("no route to +61400000000")))
        looks += [lambda: None, outage.close]
        assert run("--watch")[0] == [(1, 0, 0)]
    lost = [each for each in logged(caplog) if each[0] == "WARNING"]
    assert lost == [("WARNING", ("OperationalError",))] * 2
    assert "400000000" not in caplog.text


def test_watch_records_each_look(handler: Calls, looks: list[Callable[[], object]]) -> None:
    times = []
    looks += [lambda: times.append(CommandRun.objects.get().ran_at)] * 2
    run("--watch")
    assert times[0] < times[1]


@pytest.mark.parametrize("option", ["--failed", "--event=1"])
def test_watch_refuses_event_and_failed_options(option: str) -> None:
    with pytest.raises(CommandError, match="--watch"):
        run(option, "--watch")


@pytest.mark.django_db(transaction=True)
def test_watch_mails_about_a_reply_within_a_minute(
    looks: list[Callable[[], object]], mailoutbox: list[Any], settings: Any, clock: Clock
) -> None:
    settings.CELLCAST_MAIL_REPLIES_TO = ["desk@shop.example"]
    looks += [WebhookClient().reply, *[lambda: None] * 25]
    run("--watch")
    assert len(mailoutbox) == 1
    assert sum(clock.slept) > 60
