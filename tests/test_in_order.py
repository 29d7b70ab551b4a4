"""``@in_order``: a handler gets the events of one contact in the order they were stored in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django.factories import WebhookEventFactory
from cellcast_django.handlers import attempts, run_again, run_due, skip
from cellcast_django.handlers.in_order import pending_of
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import (
    GiveUp,
    RetryLater,
    exactly_once,
    in_order,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.testing import WebhookClient
from tests.clock import Clock
from tests.database_faults import just_before
from tests.handlers import (
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
from tests.many import add_copies

pytestmark = pytest.mark.django_db

CUSTOMER = "+61491570006"


@pytest.fixture(params=[in_order, lambda handler: in_order(exactly_once(handler))])
def booking(request: pytest.FixtureRequest) -> Iterator[Calls]:
    """A handler of ``message_received`` named "booking" and marked ``in_order``."""
    handler = request.param(Calls("in_order"))
    with connected(message_received, booking=handler):
        yield handler


@contextmanager
def disconnected(booking: Calls) -> Iterator[None]:
    """A process of code that does not have the handler."""
    message_received.disconnect(dispatch_uid="booking")
    yield
    message_received.connect(booking, dispatch_uid="booking")


@pytest.fixture
def plain() -> Callable[..., None]:
    """What became of the handler when its marks were taken away."""

    def handler(**arguments: Any) -> None:
        pass

    return handler


def text(body: str, **changes: Any) -> WebhookEvent:
    return reply(**{"message": body, "sender": CUSTOMER} | changes)


# Waiting


def test_later_event_waits_for_a_failed_one(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("the calendar is down")
    yes, cancel = text("YES"), text("CANCEL")
    assert len(booking) == 1
    assert (cancel.state, cancel.waiting_for, cancel.handler_results) == ("pending", yes.pk, {})
    assert cancel.next_run_at == yes.next_run_at

    booking.errors.clear()
    make_due(yes)
    assert ran(run_due) == [yes.pk, cancel.pk]
    assert booking.finished == ["YES", "CANCEL"]
    assert [of(each).state for each in (yes, cancel)] == ["done", "done"]
    assert cancel.handler_results["booking"]["attempts"] == 1
    assert cancel.waiting_for is None


def test_waiting_event_is_not_run(booking: Calls) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=2))
    yes, cancel = text("YES"), text("CANCEL")
    for _ in range(15):
        end_lease(cancel)
        assert ran(run_due) == []
    assert len(booking) == 1
    assert (of(cancel).attempts, cancel.waiting_for) == (1, yes.pk)
    assert cancel.next_run_at == yes.next_run_at


def test_waiting_event_is_rescheduled_with_the_earlier_one(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    booking.errors["YES"] = RetryLater(timedelta(hours=2))
    make_due(yes)
    run_due()
    assert of(cancel).next_run_at == of(yes).next_run_at
    assert pause_before(cancel) > timedelta(hours=1)


def test_unordered_handlers_are_called_at_once(booking: Calls, first: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    text("YES")
    cancel = text("CANCEL")
    assert len(first) == 2
    assert list(cancel.handler_results) == ["first"]
    assert cancel.waiting_for is not None


def test_retry_of_another_handler_does_not_wait(booking: Calls, first: Calls) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=2))
    yes = text("YES")
    first.error = ConnectionError("no")
    cancel = text("CANCEL")
    assert pause_before(cancel) <= timedelta(minutes=1)

    first.error = None
    make_due(cancel)
    run_due()
    assert of(cancel).handler_errors() == {}
    assert (cancel.state, cancel.waiting_for) == ("pending", yes.pk)
    assert cancel.next_run_at == yes.next_run_at


def test_handler_is_retried_in_the_run_that_retries_the_earlier_event(
    booking: Calls, first: Calls
) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=2))
    first.error = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    make_due(yes)
    make_due(cancel)
    run_due()
    assert [of(each).handler_results["first"]["attempts"] for each in (yes, cancel)] == [2, 2]


def test_handler_is_retried_while_another_one_waits(booking: Calls, first: Calls) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=2))
    first.error = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    make_due(cancel)
    make_due(yes)
    run_due()
    assert of(yes).handler_results["first"]["attempts"] == 2
    make_due(yes)
    run_due([yes.pk])
    assert of(cancel).handler_results["first"]["attempts"] == 2
    assert pause_before(cancel) <= timedelta(minutes=2), (
        "its own pause, not that of the other event"
    )


def test_event_waits_for_a_last_call_in_progress(booking: Calls, settings: Any) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    booking.errors.clear()
    make_due(yes)
    make_due(cancel)
    booking.during = lambda message, **kwargs: message.body == "YES" and run_due([cancel.pk])
    run_due([yes.pk])
    assert booking.finished == ["YES", "CANCEL"]
    assert of(cancel).state == "done"


def test_event_does_not_wait_for_a_killed_last_call(booking: Calls, settings: Any) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    make_due(yes)
    with dying(booking):
        run_due([yes.pk])
    booking.errors.clear()
    assert of(yes).state == "pending"
    settings.CELLCAST_HANDLER_LEASE = 0  # is over
    end_lease(yes)
    end_lease(cancel)
    assert ran(run_due) == [yes.pk, cancel.pk]
    assert booking.finished == ["CANCEL"]
    assert of(yes).state == "failed"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sender": "+61491570157"}, id="another contact"),
        pytest.param({"sender": ""}, id="no contact"),
    ],
)
def test_events_of_other_contacts_do_not_wait(booking: Calls, changes: dict[str, str]) -> None:
    booking.errors["YES"] = ConnectionError("no")
    text("YES")
    text("YES", sender="")
    assert text("CANCEL", **changes).state == "done"


def test_event_waits_only_for_facts_of_its_handler(booking: Calls) -> None:
    statuses = Calls(error=ConnectionError("no"))
    with connected(status_changed, statuses=statuses):
        WebhookClient().status(receiver=CUSTOMER)
        assert text("CANCEL").state == "done"


def test_handler_of_two_signals_keeps_one_order(booking: Calls) -> None:
    failing = in_order(Calls(error=ConnectionError("no")))
    with connected(status_changed, booking=failing):
        WebhookClient().status(receiver=CUSTOMER)
        assert text("CANCEL").waiting_for == WebhookEvent.objects.earliest("pk").pk


def test_event_waits_for_an_earlier_events_second_fact() -> None:
    handler = in_order(Calls())
    failing = in_order(Calls(error=ConnectionError("no")))
    with connected(message_received, booking=handler), connected(opt_out_received, booking=failing):
        stop = text("STOP")
        assert list(stop.handler_errors()) == ["booking (opt_out_received)"]
        assert (len(handler), len(failing)) == (1, 1), "its own facts do not wait"
        assert text("CANCEL").waiting_for == stop.pk


# The earlier one ends


def test_event_runs_when_a_handler_after_the_awaited_one_ends(booking: Calls, first: Calls) -> None:
    booking.errors["YES"] = first.error = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    make_due(cancel)
    booking.errors.clear()
    first.error = None
    make_due(yes)
    assert ran(run_due, [yes.pk]) == [yes.pk, cancel.pk]
    assert booking.finished == ["YES", "CANCEL"]


@pytest.mark.parametrize("error", [GiveUp("never"), ConnectionError("no")])
def test_event_runs_when_the_earlier_one_fails_for_good(
    booking: Calls, error: Exception, settings: Any
) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    booking.errors["YES"] = error
    make_due(yes)
    assert ran(run_due) == [yes.pk, cancel.pk]
    assert [of(each).state for each in (yes, cancel)] == ["failed", "done"]


def test_event_runs_when_the_earlier_one_is_skipped(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    assert skip(yes.pk, "booking")
    assert booking.finished == ["CANCEL"]
    assert of(cancel).state == "done"


def test_event_runs_when_the_earlier_message_is_gone(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    Message.objects.get(body="YES").delete()
    make_due(yes)
    run_due()
    assert [of(each).state for each in (yes, cancel)] == ["failed", "done"]


def test_event_runs_when_a_user_retries_the_earlier_one(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    booking.errors.clear()
    assert ran(run_again, [yes.pk]) == [yes.pk, cancel.pk]
    assert booking.finished == ["YES", "CANCEL"]


def test_retried_event_does_not_wait(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    assert ran(run_again, [cancel.pk]) == [cancel.pk]
    assert booking.finished == ["CANCEL"]
    assert [of(each).state for each in (yes, cancel)] == ["pending", "done"]


def test_process_without_the_handler_releases_waiting_events(
    booking: Calls, first: Calls, settings: Any
) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    message_received.disconnect(dispatch_uid="booking")
    make_due(yes)
    run_due()
    assert of(yes).state == "failed"
    assert of(cancel).state == "done", "nobody here waits for an order"


def test_order_is_kept_when_everything_is_due_at_once(booking: Calls) -> None:
    booking.errors = {each: ConnectionError("no") for each in "abc"}
    events = [text(each) for each in "abc"]
    assert len(booking) == 1
    booking.errors.clear()
    for event in reversed(events):
        make_due(event)
    run_due()
    assert booking.finished == ["a", "b", "c"]


def test_events_of_one_body_are_in_order(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    bodies = [
        {"_id": each, "type": "receive", "message": each, "sender": CUSTOMER, "receiver": "1"}
        for each in ("YES", "CANCEL")
    ]
    WebhookClient().webhook(bodies, "receive")
    yes, cancel = WebhookEvent.objects.order_by("pk")
    assert len(booking) == 1
    assert cancel.waiting_for == yes.pk


def test_at_most_ten_waiting_events_run_after_one(booking: Calls) -> None:
    booking.errors["0"] = ConnectionError("no")
    events = [text(str(number)) for number in range(13)]
    booking.errors.clear()
    make_due(events[0])
    assert len(ran(run_due, [events[0].pk])) == 1 + attempts.MAX_NEXT
    [eleventh, twelfth] = WebhookEvent.objects.pending().order_by("pk")
    assert (eleventh.waiting_for, twelfth.waiting_for) == (None, eleventh.pk)
    assert ran(run_due) == [eleventh.pk, twelfth.pk]
    assert booking.finished == [str(number) for number in range(13)]


def test_no_waiting_event_starts_after_five_seconds(booking: Calls, clock: Clock) -> None:
    booking.errors["0"] = ConnectionError("no")
    events = [text(str(number)) for number in range(5)]
    booking.errors.clear()
    booking.during = lambda **kwargs: clock.sleep(3)
    make_due(events[0])
    assert len(ran(run_due, [events[0].pk])) == 3


@pytest.mark.parametrize("called", [[], ["booking"]], ids=["never called", "has failed"])
def test_end_in_a_process_without_the_handler_releases(
    booking: Calls, first: Calls, settings: Any, called: list[str]
) -> None:
    """In a process of the old code while a new one is deployed, say."""
    booking.errors["YES"] = RetryLater(timedelta(hours=6))
    yes, cancel = text("YES"), text("CANCEL")
    as_if_killed(yes, *called)
    booking.errors.clear()
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 2
    make_due(yes)
    with disconnected(booking):
        run_due([yes.pk])
    assert of(yes).state == ("failed" if called else "done")
    assert of(cancel).state == "done"


def test_end_after_the_mark_was_taken_away_releases(
    booking: Calls, first: Calls, plain: Callable[..., None]
) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=6))
    yes, cancel = text("YES"), text("CANCEL")
    with disconnected(booking), connected(message_received, booking=plain):
        run_again([yes.pk])
        assert [of(each).state for each in (yes, cancel)] == ["done", "done"]


def test_handler_without_its_mark_is_not_held_by_another_ones_retries(
    booking: Calls, first: Calls, plain: Callable[..., None]
) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=6))
    yes, cancel = text("YES"), text("CANCEL")
    with disconnected(booking), connected(message_received, booking=plain):
        WebhookEvent.objects.filter(pk=yes.pk).update(handler_results={})
        first.error = ConnectionError("no")
        make_due(yes)
        run_due([yes.pk])
        assert [of(each).state for each in (yes, cancel)] == ["pending", "done"]


def test_deleted_event_holds_nobody_from_the_next_run(booking: Calls) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=6))
    yes, cancel, hello = text("YES"), text("CANCEL"), text("HELLO")
    other = text("OTHER", sender="+61491570157")
    WebhookEvent.objects.filter(pk=yes.pk).delete()
    booking.errors.clear()
    assert ran(run_due) == [cancel.pk, hello.pk]
    assert booking.finished == ["OTHER", "CANCEL", "HELLO"]
    assert of(other).state == "done"


# Many that wait


def crowd(count: int, *, first: timedelta = timedelta()) -> list[int]:
    """Let so many replies wait, each for the one before it; return all keys, YES's first.

    YES is tried again after ``first``.
    """
    yes, cancel = text("YES"), text("CANCEL")
    until = timezone.now() + first
    assert cancel.message is not None
    messages = add_copies(cancel.message, count - 1)
    events = add_copies(cancel, count - 1, lambda number: {"message_id": messages[number]})
    add_copies(
        cancel.status_change,
        count - 1,
        lambda number: {"message_id": messages[number], "event_id": events[number]},
    )
    waiting = WebhookEvent.objects.filter(pk__gte=cancel.pk)
    waiting.update(waiting_for=F("pk") - 1, next_run_at=until)
    make_due(yes)
    WebhookEvent.objects.filter(pk=yes.pk).update(next_run_at=until)
    WebhookEvent.objects.exclude(pk=max(events)).update(interventions=1)
    return [yes.pk, cancel.pk, *events]


@contextmanager
def measured() -> Iterator[dict[str, int]]:
    """Count the statements, and the events that are read."""
    counts: dict[str, int] = {"statements": 0, "events": 0}

    def count(**kwargs: Any) -> None:
        counts["events"] += 1

    post_init.connect(count, sender=WebhookEvent)
    try:
        with CaptureQueriesContext(connection) as queries:
            yield counts
    finally:
        post_init.disconnect(count, sender=WebhookEvent)
    counts["statements"] = len(queries)


def cost_of(act: Callable[[], object], *, among: int) -> dict[str, int]:
    WebhookEvent.objects.all().delete()
    Message.objects.all().delete()
    crowd(among)
    with measured() as counts:
        act()
    assert WebhookEvent.objects.done().count() == 0
    return counts


FEW, MANY = 5, 5_000


@pytest.mark.exhaustive
def test_one_more_webhook_costs_the_same_among_many(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    one_more = partial(WebhookClient().reply, message="ONE MORE", sender=CUSTOMER)
    cost = cost_of(one_more, among=MANY)
    assert cost == cost_of(one_more, among=FEW)
    assert cost["events"] < 5


@pytest.mark.exhaustive
def test_retry_moves_all_that_wait_by_one_statement(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    cost = cost_of(run_due, among=MANY)
    yes = WebhookEvent.objects.earliest("pk")
    assert pause_before(yes) > timedelta(minutes=1)
    assert not WebhookEvent.objects.exclude(next_run_at=yes.next_run_at).exists()
    assert cost == cost_of(run_due, among=FEW)
    assert len(booking) == 4


def test_all_that_wait_follow_when_the_first_comes_sooner(booking: Calls) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=3))
    events = [text(each) for each in ("YES", "CANCEL", "HELLO")]
    booking.errors["YES"] = RetryLater(timedelta(minutes=2))
    run_again([events[0].pk])
    assert len({of(each).next_run_at for each in events}) == 1
    assert pause_before(events[2]) <= timedelta(minutes=2)


@pytest.mark.parametrize("first", [timedelta(hours=3), timedelta(hours=-3)], ids=str)
def test_all_that_wait_follow_when_the_one_before_is_released(
    booking: Calls, first: timedelta
) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=3))
    pks = crowd(14, first=first)
    booking.errors.clear()
    assert ran(run_again, [pks[0]]) == pks[:11]
    now = timezone.now()
    assert WebhookEvent.objects.pending().filter(next_run_at__lte=now).count() == 4
    assert WebhookEvent.objects.due(now).get().pk == pks[11], "the others still wait for it"


def test_released_event_brings_no_other_handlers_call_forward(booking: Calls, first: Calls) -> None:
    booking.errors = {"YES": RetryLater(timedelta(hours=3))}
    yes, cancel = text("YES"), text("CANCEL")
    first.error = RetryLater(timedelta(hours=2))
    hello = text("HELLO")
    booking.errors = {"CANCEL": RetryLater(timedelta(hours=1))}
    assert ran(run_again, [yes.pk]) == [yes.pk, cancel.pk]
    assert pause_before(of(hello)) > timedelta(hours=1.9)


def test_all_that_wait_follow_the_lease_of_a_call_in_progress(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, *waiting = crowd(6)
    during: list[Any] = []

    def look(**kwargs: Any) -> None:
        assert ran(run_due) == []
        during.append(set(WebhookEvent.objects.values_list("next_run_at", flat=True)))

    booking.during = look
    run_due([yes])
    assert len(during[0]) == 1
    assert len(waiting) == 6


def test_many_pending_events_that_need_no_waiting_are_read_together(
    booking: Calls, first: Calls
) -> None:
    first.error = RetryLater(timedelta(hours=3))
    for number in range(25):
        text(str(number))
    one_more = partial(WebhookClient().reply, message="ONE MORE", sender=CUSTOMER)
    looked = [sql for sql in queries_of(one_more) if "DESC" in sql and "webhookevent" in sql]
    assert len(looked) == 4, "1, 10, 14, and none"
    assert len(booking) == 26


def test_one_run_runs_all_that_wait_and_others_in_between(booking: Calls) -> None:
    booking.errors["YES"] = booking.errors["OTHER"] = ConnectionError("no")
    pks = crowd(45)
    others = [text("OTHER", sender=f"+6149157000{number}") for number in range(3)]
    booking.errors.clear()
    for event in others:
        make_due(event)
    attempted = ran(run_due)
    assert sorted(attempted) == [*pks, *(event.pk for event in others)]
    assert [each for each in attempted if each in pks] == pks
    assert max(attempted.index(event.pk) for event in others) < 20, "after a batch, not after all"
    assert not WebhookEvent.objects.pending().exists()


def test_one_run_runs_each_event_once(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    pks = crowd(30)
    booking.errors = {"YES": RetryLater(timedelta()), "CANCEL": RetryLater(timedelta())}
    assert ran(run_due) == pks[:1]
    booking.errors.pop("YES")
    assert ran(run_due) == pks[:2], "then CANCEL holds the rest"


def test_one_run_calls_a_handler_beside_one_that_waits_once(booking: Calls, first: Calls) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=3))
    text("YES")
    first.error = RetryLater(timedelta())
    cancel = text("CANCEL")
    assert of(cancel).waiting_for is not None
    assert ran(run_due) == [cancel.pk]
    assert len(first) == 3


def test_one_run_runs_an_event_beside_those_that_waited_once(booking: Calls) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=3))
    statuses = Calls(error=RetryLater(timedelta()))
    with connected(status_changed, statuses=statuses):
        yes = text("YES")
        WebhookClient().status(receiver=CUSTOMER)
        status, cancel = WebhookEvent.objects.latest("pk"), text("CANCEL")
        booking.errors.clear()
        make_due(status)
        make_due(yes)
        assert ran(run_due) == [status.pk, yes.pk, cancel.pk]
    assert len(statuses) == 2


def test_event_that_somebody_begins_to_wait_for_is_run_all_the_same(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes = text("YES")
    booking.errors.clear()
    make_due(yes)
    waited_for = WebhookEvent.objects.filter(pk=yes.pk)
    with just_before("UPDATE", lambda: waited_for.update(interventions=F("interventions") + 1)):
        assert ran(run_due) == [yes.pk]
    assert booking.finished == ["YES"]


def test_one_run_runs_what_becomes_due_meanwhile(booking: Calls) -> None:
    booking.errors["YES"] = RetryLater(timedelta(hours=3))
    yes, cancel = text("YES"), text("CANCEL", sender="+61491570157")
    booking.errors.clear()
    as_if_killed(cancel)
    booking.during = lambda **kwargs: make_due(yes)
    assert ran(run_due) == [cancel.pk, yes.pk]


# Crashes and races


def test_killed_process_keeps_the_order(booking: Calls) -> None:
    with dying(booking):
        text("YES")
    yes = WebhookEvent.objects.get()
    cancel = text("CANCEL")
    assert cancel.waiting_for == yes.pk
    end_lease(yes)
    assert ran(run_due) == [yes.pk, cancel.pk]
    assert booking.finished == ["YES", "YES", "CANCEL"]


def test_killed_first_run_costs_a_waiting_handler_no_attempt(booking: Calls, first: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    yes, cancel = text("YES"), text("CANCEL")
    as_if_killed(cancel)
    booking.errors.clear()
    make_due(yes)
    run_due()
    assert of(cancel).handler_results["booking"]["attempts"] == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.exhaustive
def test_booking_ends_as_cancelled_whenever_the_process_is_killed() -> None:
    ends = lines_of("tests.killed_in_order")
    for end in ("inline CANCEL", "task CANCEL"):
        assert ends.count(end) > 10, "killed before each of so many statements"
    assert set(ends) == {"inline CANCEL", "task CANCEL"}


@pytest.mark.django_db(transaction=True)
def test_event_does_not_wait_for_one_that_finishes_meanwhile(booking: Calls) -> None:
    """Between the look at the earlier event and the lock on its row."""
    booking.errors["YES"] = ConnectionError("no")
    yes = text("YES")
    booking.errors.clear()

    def end_it_elsewhere() -> None:
        WebhookEvent.objects.filter(pk=yes.pk).update(next_run_at=None)

    with just_before("UPDATE .* SET .?interventions.? = .*interventions", end_it_elsewhere):
        cancel = text("CANCEL")
    assert booking.finished == ["CANCEL"]
    assert cancel.state == "done"


@pytest.mark.django_db(transaction=True)
def test_event_taken_over_while_waiting_is_not_rescheduled(booking: Calls) -> None:
    booking.errors["YES"] = ConnectionError("no")
    text("YES")

    def take_over() -> None:
        WebhookEvent.objects.filter(message__body="CANCEL").update(attempts=5)

    with just_before("UPDATE .* SET .?interventions.? = .*interventions", take_over):
        cancel = text("CANCEL")
    assert (cancel.attempts, cancel.waiting_for) == (5, None)


# What it costs


def queries_of(act: Callable[[], object]) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        act()
    return [query["sql"] for query in queries]


def test_order_costs_one_query() -> None:
    plain, ordered = Calls(), in_order(Calls())
    with connected(message_received, handler=plain):
        text("warm")
        without = queries_of(partial(WebhookClient().reply, message="one", sender=CUSTOMER))
    with connected(message_received, handler=ordered):
        once = queries_of(partial(WebhookClient().reply, message="two", sender=CUSTOMER))
    looked = [sql for sql in once if sql.startswith("SELECT") and "webhookevent" in sql]
    assert len(looked) == 1
    assert not [sql for sql in without if sql.startswith("SELECT") and "webhookevent" in sql]


def test_query_for_earlier_events_uses_the_contact_index() -> None:
    event = WebhookEventFactory.create(reply=True, contact=CUSTOMER)
    add_copies(event, 2_000, lambda number: {"contact": CUSTOMER if number % 2 else "+61"})
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE cellcast_django_webhookevent")
        query = pending_of(CUSTOMER).filter(pk__lt=event.pk + 10_000).order_by("-pk")
        plan = query.explain()
    assert "cellcast_event_contact" in plan
    if connection.vendor == "sqlite":
        assert "next_run_at>" in plan, "of all events of the contact, only the pending ones"
