"""``@in_order``: a handler gets the events of one contact in the order they were stored in."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cellcast_django.factories import WebhookEventFactory
from cellcast_django.handlers import run_again, run_due, skip
from cellcast_django.handlers.attempts import MAX_NEXT
from cellcast_django.models import HandlerCall, WebhookEvent
from cellcast_django.signals import (
    GiveUp,
    exactly_once,
    in_order,
    message_received,
)
from tests.clock import Clock
from tests.database_faults import just_before
from tests.handlers import Calls, call_of, connected, make_due, ran, reply, state_of
from tests.killed import lines_of

pytestmark = pytest.mark.django_db

CUSTOMER = "+61491570006"


@pytest.fixture(params=[in_order, lambda handler: in_order(exactly_once(handler))])
def booking(request: pytest.FixtureRequest) -> Iterator[Calls]:
    """A handler of ``message_received`` named "booking" and marked ``in_order``."""
    handler = request.param(Calls("in_order"))
    with connected(message_received, booking=handler):
        yield handler


def text(body: str, **changes: Any) -> WebhookEvent:
    return reply(**{"message": body, "sender": CUSTOMER} | changes)


def state(event: WebhookEvent) -> str:
    return call_of(event, "booking").state


# Waiting


def test_later_event_waits_for_a_failed_one(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("the calendar is down")
    yes, cancel = text("YES"), text("CANCEL")
    call = call_of(cancel, "booking")
    assert (len(booking), call.contact, call.state, call.attempts) == (1, CUSTOMER, "waiting", 0)
    assert call.is_due(timezone.now()) and not HandlerCall.objects.due().exists()
    assert HandlerCall.objects.waiting_for_none().get().event == yes
    assert ran(run_due) == []

    booking.errors.clear()
    make_due(yes)
    assert ran(run_due) == [yes.pk, cancel.pk]
    assert booking.finished == ["YES", "CANCEL"]
    assert [state_of(each) for each in (yes, cancel)] == ["done", "done"]
    assert call_of(cancel, "booking").attempts == 1


def test_unordered_handlers_are_called_at_once(booking: Calls, first: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    text("YES")
    cancel = text("CANCEL")
    assert len(first) == 2
    assert call_of(cancel).state == "done"
    assert state_of(cancel) == "pending"


@pytest.mark.parametrize("sender", ["+61491570157", ""])
def test_events_of_other_contacts_do_not_wait(booking: Calls, sender: str) -> None:
    booking.errors["YES"] = ConnectionError("no")
    text("YES")
    text("YES", sender="")
    assert state(text("CANCEL", sender=sender)) == "done"


# The earlier one ends


@pytest.mark.parametrize("error", [GiveUp("never"), ConnectionError("no")])
def test_next_is_called_when_the_earlier_one_fails_for_good(
    booking: Calls, error: Exception, settings: Any
) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    booking.errors["YES"] = error
    make_due(yes)
    assert ran(run_due) == [yes.pk, cancel.pk]
    assert [state_of(each) for each in (yes, cancel)] == ["failed", "done"]


def test_next_is_called_when_the_earlier_one_is_skipped(booking: Calls, first: Calls) -> None:
    """Also while another handler of the same event is still retried."""
    booking.errors["YES"] = first.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    assert skip(HandlerCall.objects.filter(event=yes, handler="booking")) == 1
    assert booking.finished == ["CANCEL"]
    assert state(cancel) == "done"
    assert call_of(yes).state == "retrying"


def test_next_still_waits_for_a_deferred_event(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes = text("YES")
    read_at = timezone.now()
    WebhookEventFactory.create(outcome="deferred", contact=CUSTOMER, next_read_at=read_at)
    cancel = text("CANCEL")
    booking.errors.clear()
    make_due(yes)
    assert ran(run_due) == [yes.pk]
    assert state(cancel) == "waiting"


@pytest.mark.parametrize("again", [None, "2"])
@pytest.mark.parametrize("beside", [lambda: None, run_due], ids=["alone", "beside a run"])
def test_person_runs_several_of_a_contact_each_once(
    booking: Calls, beside: Any, again: str | None
) -> None:
    """Whoever ends one makes the next, and beside them a run makes what is due; one may fail."""
    booking.errors["1"] = ConnectionError("no")
    for body in "123":
        text(body)
    booking.errors.clear()  # the handler is mended since
    booking.arguments.clear()
    if again is not None:
        booking.errors[again] = ConnectionError("again")
    assert run_again(HandlerCall.objects.all(), progress=lambda call: beside()) == 3
    run_due()
    assert booking.heard() == ["1", "2", "3"]
    assert run_again(HandlerCall.objects.all()) == 3, "of a later decision, whatever has ended"
    assert len(booking) == 6


def test_person_runs_several_each_once_where_the_clock_steps_back(booking: Calls) -> None:
    booking.errors["1"] = ConnectionError("no")
    for body in "123":
        text(body)
    booking.errors.clear()
    booking.arguments.clear()
    an_hour_ago = timezone.now() - timedelta(hours=1)
    HandlerCall.objects.update(next_attempt_at=an_hour_ago - timedelta(hours=1))
    with pytest.MonkeyPatch.context() as patch:
        booking.during = lambda **kwargs: patch.setattr(timezone, "now", lambda: an_hour_ago)
        assert run_again(HandlerCall.objects.all()) == 3
    assert booking.heard() == ["1", "2", "3"]


def test_person_runs_several_that_wait_for_a_deferred_event(booking: Calls) -> None:
    """Whoever ends the first leaves the second, which still has to be made."""
    read_at = timezone.now()
    WebhookEventFactory.create(outcome="deferred", contact=CUSTOMER, next_read_at=read_at)
    text("1"), text("2")
    assert not booking
    assert run_again(HandlerCall.objects.all()) == 2
    assert booking.heard() == ["1", "2"]


def test_nothing_that_waits_is_begun_after_five_seconds(booking: Calls, clock: Clock) -> None:
    booking.errors["0"] = ConnectionError("no")
    events = [text(str(number)) for number in range(7)]
    booking.errors.clear()
    booking.during = lambda **kwargs: clock.sleep(3)
    run_again(HandlerCall.objects.filter(event=events[0]))
    assert booking.finished == ["0", "1", "2"]
    ran(run_due, is_over=lambda: len(booking.finished) == 4)
    assert booking.finished == ["0", "1", "2", "3"], "nor by a run that is over"


def test_one_run_makes_all_that_wait_and_others_in_between(booking: Calls, clock: Clock) -> None:
    booking.errors["0"] = booking.errors["OTHER"] = ConnectionError("no")
    waiting = [text(str(number)) for number in range(25)]
    other = text("OTHER", sender="+61491570157")
    booking.errors.clear()
    make_due(waiting[0])
    make_due(other)
    made = ran(run_due)
    assert [each for each in made if each != other.pk] == [event.pk for event in waiting]
    assert made.index(other.pk) == 1 + MAX_NEXT, "after a few, not after all"


# Crashes and races


def test_end_between_the_look_and_standing_back_is_found_by_the_next_run(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes = text("YES")
    end = HandlerCall.objects.filter(event=yes).update
    with just_before(
        "SET version = version . 1, next_attempt_at", lambda: end(next_attempt_at=None)
    ):
        cancel = text("CANCEL")
    assert state(cancel) == "waiting"
    assert ran(run_due) == [cancel.pk]


@pytest.mark.django_db(transaction=True)
@pytest.mark.exhaustive
def test_booking_ends_as_cancelled_whenever_the_process_is_killed() -> None:
    ends = lines_of("tests.killed_processes")
    for end in ("inline CANCEL", "default CANCEL"):
        assert ends.count(end) > 5, "killed before each of so many statements"
    assert set(ends) == {"inline CANCEL", "default CANCEL"}
