"""``handlers_failed``: sent once each time that an event becomes failed."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from cellcast_django.handlers import run_again, run_due
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import GiveUp, handlers_failed
from tests.handlers import Calls, connected, dying, end_lease, make_due, ran, reply
from tests.logs import logged

pytestmark = pytest.mark.django_db


@pytest.fixture
def told() -> Iterator[Calls]:
    """A handler of ``handlers_failed``."""
    calls = Calls()
    with connected(handlers_failed, told=calls):
        yield calls


@pytest.fixture(autouse=True)
def two_attempts(settings: Any) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2


def test_signal_is_sent_when_attempts_are_used_up(first: Calls, second: Calls, told: Calls) -> None:
    first.error = ValueError("the calendar is down")
    event = reply()
    assert not told

    make_due(event)
    ran(run_due)
    [arguments] = told.arguments
    assert arguments == {
        "signal": handlers_failed,
        "sender": WebhookEvent,
        "event": event,
        "errors": {"first": "ValueError: the calendar is down"},
    }
    assert arguments["event"].state == "failed"
    ran(run_due)
    assert len(told) == 1


def test_signal_is_sent_when_a_handler_gives_up(first: Calls, told: Calls) -> None:
    first.error = GiveUp("No such customer.")
    reply()
    assert told.arguments[0]["errors"] == {"first": "GiveUp: No such customer."}


def test_signal_is_sent_when_every_attempt_was_killed(first: Calls, told: Calls) -> None:
    with dying(first):
        reply()
    event = WebhookEvent.objects.get()
    end_lease(event)
    with dying(first):
        run_due()
    assert not told
    end_lease(event)
    run_due()
    assert list(told.arguments[0]["errors"]) == ["first"]


def test_signal_is_sent_when_the_message_is_gone(first: Calls, told: Calls) -> None:
    first.error = ValueError("no")
    event = reply()
    Message.objects.all().delete()
    make_due(event)
    ran(run_due)
    assert len(told) == 1


def test_signal_is_sent_again_when_an_event_fails_again(first: Calls, told: Calls) -> None:
    first.error = GiveUp("No such customer.")
    event = reply()
    ran(run_again, [event.pk])
    assert len(told) == 2
    first.error = None
    ran(run_again, [event.pk])
    assert len(told) == 2


@pytest.mark.parametrize("error", [ValueError("+61400000001"), SystemExit(1)])
def test_raising_receiver_is_logged_and_stops_no_other(
    first: Calls, told: Calls, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: BaseException, **kwargs: Any) -> None:
        raise error

    first.error = GiveUp("No such customer.")
    told.error = error
    also = Calls()
    with connected(handlers_failed, partial=partial(fail, error), also=also):
        event = reply()
    assert (len(told), len(also)) == (1, 1)
    event.refresh_from_db()
    assert event.handler_errors() == {"first": "GiveUp: No such customer."}
    _handler, *receivers = logged(caplog)
    assert [(level, name) for level, (name, _place) in receivers] == [
        ("ERROR", "told"),
        ("ERROR", "partial"),
    ]
    assert all(type(error).__name__ in str(place) for _, (_name, place) in receivers)
    assert "+61400000001" not in caplog.text


def test_keyboard_interrupt_propagates(first: Calls, told: Calls) -> None:
    first.error = GiveUp("No such customer.")
    told.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        reply()
    assert WebhookEvent.objects.failed().count() == 1
