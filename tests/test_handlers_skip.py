"""``handlers.skip``: a person decides that a handler need not be called for an event."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cellcast_django.handlers import run_again, run_due, skip
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import GiveUp, RetryLater, handlers_failed, message_received
from tests.database_faults import just_before
from tests.handlers import (
    UPDATE_OF_EVENT,
    Calls,
    as_if_killed,
    connected,
    make_due,
    pause_before,
    ran,
    reply,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def event(first: Calls, second: Calls) -> WebhookEvent:
    """An event for which the first of two handlers has failed."""
    first.error = ValueError("no")
    return reply()


def test_skipping_the_last_unfinished_handler_finishes_the_event(event: WebhookEvent) -> None:
    assert skip(event.pk, "first", username="ann") is True
    before = event.handler_results["first"]["at"]
    event.refresh_from_db()
    result = event.handler_results["first"]
    assert result == {"at": result["at"], "error": "", "skipped": True, "by": "ann"}
    assert result["at"] > before
    assert (event.state, event.next_run_at) == ("done", None)
    assert set(event.handler_results) == {"first", "second"}


def test_username_of_a_skip_need_not_be_text(event: WebhookEvent) -> None:
    skip(event.pk, "first", username=7)  # type: ignore[arg-type]
    event.refresh_from_db()
    assert event.handler_results["first"]["by"] == "7"


def test_skipped_handler_is_not_called_again(event: WebhookEvent, first: Calls) -> None:
    skip(event.pk, "first")
    WebhookEvent.objects.update(done_at=None)
    make_due(event)
    ran(run_due)
    assert len(first) == 1


def test_skipping_one_handler_leaves_the_event_to_the_others(first: Calls, second: Calls) -> None:
    first.error, second.error = ValueError("no"), RetryLater(timedelta(hours=8))
    event = reply()
    assert skip(event.pk, "first")
    event.refresh_from_db()
    assert event.state == "pending"
    assert timedelta(hours=7) < pause_before(event) < timedelta(hours=8)

    second.error = None
    make_due(event)
    ran(run_due)
    event.refresh_from_db()
    assert (event.state, len(first), len(second)) == ("done", 1, 2)


@pytest.mark.parametrize("attempts_allowed_now", [1, 12])
def test_failed_event_stays_failed_until_every_handler_finishes(
    first: Calls, second: Calls, settings: Any, attempts_allowed_now: int
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    first.error = second.error = ValueError("no")
    event = reply()
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = attempts_allowed_now
    assert skip(event.pk, "first")
    event.refresh_from_db()
    assert event.state == "failed"
    assert skip(event.pk, "second")
    event.refresh_from_db()
    assert event.state == "done"


def test_skipping_fails_the_event_if_another_handler_gave_up(
    first: Calls, second: Calls, settings: Any
) -> None:
    first.error, second.error = ValueError("no"), GiveUp("never")
    event = reply()
    told = Calls()
    with connected(handlers_failed, told=told):
        assert skip(event.pk, "first")
    event.refresh_from_db()
    assert event.state == "failed"
    assert told.arguments[0]["errors"] == {"second": "GiveUp: never"}
    assert skip(event.pk, "second")
    event.refresh_from_db()
    assert event.state == "done"


def test_skipping_one_of_two_that_failed_does_not_tell_it_again(
    first: Calls, second: Calls
) -> None:
    first.error = second.error = GiveUp("never")
    told = Calls()
    with connected(handlers_failed, told=told):
        event = reply()
        assert skip(event.pk, "first")
    event.refresh_from_db()
    assert event.state == "failed"
    assert len(told) == 1


@pytest.mark.parametrize("wrong", [None, "7", 7.0, True])
def test_skip_names_the_wrong_event(event: WebhookEvent, wrong: Any) -> None:
    with pytest.raises(TypeError, match="event_id"):
        skip(wrong, "first")
    with pytest.raises(TypeError, match="event_id"):
        skip(event, "first")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, 7, b"first"])
def test_skip_names_the_wrong_handler(event: WebhookEvent, wrong: Any) -> None:
    with pytest.raises(TypeError, match="handler_name"):
        skip(event.pk, wrong)


def test_unconnected_handler_can_be_skipped(event: WebhookEvent) -> None:
    message_received.disconnect(dispatch_uid="first")
    assert skip(event.pk, "first")
    event.refresh_from_db()
    assert event.state == "done"


def test_uncalled_handler_can_be_skipped(event: WebhookEvent) -> None:
    as_if_killed(event)
    assert skip(event.pk, "second")
    event.refresh_from_db()
    assert event.state == "pending"
    assert set(event.handler_results) == {"second"}


def test_skipping_before_the_first_run_uses_no_attempt_of_the_others(
    first: Calls, second: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    event = reply()
    as_if_killed(event)
    WebhookEvent.objects.update(attempts=0)  # it is still on the queue
    assert skip(event.pk, "first")
    ran(run_due)
    event.refresh_from_db()
    assert (event.state, len(first), len(second)) == ("done", 1, 2)


@pytest.mark.parametrize("name", ["", "nobody"])
def test_only_known_handlers_can_be_skipped(event: WebhookEvent, name: str) -> None:
    assert not skip(event.pk, name)
    as_if_killed(event)
    for each in ("first", "second"):
        message_received.disconnect(dispatch_uid=each)
    assert not skip(event.pk, name)
    event.refresh_from_db()
    assert event.state == "pending"


def test_event_without_its_message_can_be_skipped(event: WebhookEvent) -> None:
    Message.objects.all().delete()
    make_due(event)
    ran(run_due)
    assert skip(event.pk, "first")
    event.refresh_from_db()
    assert event.state == "done"


def test_skip_returns_false_if_there_is_nothing_to_skip(event: WebhookEvent) -> None:
    assert not skip(event.pk, "second"), "it has finished"
    assert not skip(event.pk, "nobody"), "it is not known"
    assert not skip(event.pk + 1, "first"), "there is no such event"
    assert skip(event.pk, "first")
    assert not skip(event.pk, "first"), "the event is done"
    duplicate = reply()
    assert not skip(duplicate.pk, "first"), "a duplicate has nothing to run"


def test_event_just_claimed_by_another_process_is_not_skipped(event: WebhookEvent) -> None:
    taken = WebhookEvent.objects.filter(pk=event.pk)
    with just_before(UPDATE_OF_EVENT, lambda: taken.update(attempts=2)):
        assert skip(event.pk, "first") is False
    event.refresh_from_db()
    assert list(event.handler_errors()) == ["first"]


@pytest.mark.django_db(transaction=True)
def test_skip_during_a_run_takes_effect(first: Calls, second: Calls) -> None:
    first.error = ValueError("no")
    event = reply()
    first.during = lambda event, **kwargs: skip(event.pk, "first")
    make_due(event)
    ran(run_due)
    event.refresh_from_db()
    assert event.handler_results["first"]["skipped"]
    assert event.state == "done"


@pytest.mark.django_db(transaction=True)
def test_two_skips_during_a_run_keep_the_other_handlers_result(first: Calls, second: Calls) -> None:
    third = Calls(error=ValueError("no"))
    second.error = ValueError("no")
    first.during = lambda event, **kwargs: [skip(event.pk, each) for each in ("second", "third")]
    with connected(message_received, third=third):
        event = reply()
    event.refresh_from_db()
    assert (event.state, event.has_finished("first")) == ("done", True)
    assert (len(second), len(third)) == (0, 0)


@pytest.mark.parametrize(
    "then",
    [lambda pk: skip(pk, "second"), lambda pk: run_again([pk])],
    ids=["skip", "run again"],
)
def test_skip_of_a_failed_event_is_not_overwritten_by_a_slower_click(
    first: Calls, second: Calls, then: Callable[[int], object]
) -> None:
    first.error = second.error = GiveUp("no")
    event = reply()
    assert event.state == "failed"
    with just_before(UPDATE_OF_EVENT, lambda: skip(event.pk, "first", username="anna")):
        then(event.pk)
    event.refresh_from_db()
    assert event.handler_results["first"]["skipped"]
    assert len(first) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("error", "state"), [(None, "done"), (ValueError("still"), "pending"), (GiveUp(), "failed")]
)
def test_skip_during_a_run_keeps_the_other_handlers_result(
    first: Calls, second: Calls, error: Exception | None, state: str
) -> None:
    failed = Calls()
    first.error = second.error = ValueError("no")
    event = reply()
    first.error = error
    first.during = lambda event, **kwargs: skip(event.pk, "second")
    with connected(handlers_failed, failed=failed):
        make_due(event)
        run_due()
    event.refresh_from_db()
    assert event.handler_results["second"]["skipped"]
    assert event.state == state
    assert (len(first), len(second), len(failed)) == (2, 1, state == "failed")
    first.during = lambda event, **kwargs: None
    make_due(event)
    run_due()
    assert len(first) == (3 if state == "pending" else 2)  # called again only if it raised
