"""Two people or processes at one handler's call, their statements in every order.

On PostgreSQL and MariaDB alone, as ``test_interleavings``.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from cellcast_django.handlers import run_again, run_due, skip
from cellcast_django.models import HandlerCall, HandlerCallQuerySet, WebhookEvent
from cellcast_django.signals import exactly_once, in_order, message_received
from cellcast_django.testing import WebhookClient
from cellcast_django.upkeep.retention import Selection, prune
from tests.handlers import Calls, connected
from tests.interleaving import Race, in_every_order, needs_server

pytestmark = [pytest.mark.django_db(transaction=True), needs_server]

CUSTOMER = "+61491570006"
AN_HOUR = timedelta(hours=1)

in_every_order_of_calls = partial(in_every_order, steps="cellcast_django_handlercall")


@pytest.fixture
def booking() -> Iterator[Calls]:
    """A handler of ``message_received`` named "booking"."""
    calls = Calls()
    with connected(message_received, booking=calls):
        yield calls


@pytest.fixture
def ordered() -> Iterator[Calls]:
    """The same, marked ``in_order``."""
    calls = in_order(Calls())
    with connected(message_received, booking=calls):
        yield calls


def calls_of_booking() -> HandlerCallQuerySet:
    return HandlerCall.objects.filter(handler="booking")


def waiting(handler: Calls, **changes: Any) -> Callable[[], None]:
    """Return what stores a customer's text of which the handler has not been told."""

    def prepare() -> None:
        WebhookClient().reply(message="YES", sender=CUSTOMER)
        due_at = timezone.now() - AN_HOUR
        to_do = {"state": "waiting", "attempts": 0, "next_attempt_at": due_at, "ended_at": None}
        calls_of_booking().update(**to_do | changes)
        handler.arguments.clear()

    return prepare


def skip_all() -> int:
    return skip(calls_of_booking())


def run_all_again() -> int:
    return run_again(calls_of_booking())


def test_beginning_twice(booking: Calls) -> None:
    def check(race: Race) -> None:
        call = calls_of_booking().get()
        assert (len(booking), call.state, call.attempts) == (1, "done", 1)
        assert race.first.total() + race.second.total() == 1

    in_every_order_of_calls(run_due, run_due, prepare=waiting(booking), check=check)


def test_ending_and_skipping(booking: Calls) -> None:
    """Whoever skips decides, even while it runs, unless it is done by then."""

    def check(race: Race) -> None:
        assert calls_of_booking().get().state == ("skipped" if race.second else "done")
        assert race.second == 1 or len(booking) == 1

    in_every_order_of_calls(run_due, skip_all, prepare=waiting(booking), check=check)


def test_ending_and_beginning_after_the_lease(booking: Calls, settings: Any) -> None:
    settings.CELLCAST_HANDLER_LEASE = 0

    def check(race: Race) -> None:
        call = calls_of_booking().get()
        assert (call.state, call.attempts) == ("done", len(booking))
        assert 1 <= len(booking) <= 2
        assert race.first.total() + race.second.total() == 1

    in_every_order_of_calls(run_due, run_due, prepare=waiting(booking), check=check)


def test_exactly_once_after_the_lease(settings: Any) -> None:
    settings.CELLCAST_HANDLER_LEASE = 0
    handler = exactly_once(Calls())
    handler.during = lambda **_kwargs: Group.objects.create(name=f"booking {len(handler)}")
    prepare_call = waiting(handler)

    def prepare() -> None:
        prepare_call()
        Group.objects.all().delete()

    def check(race: Race) -> None:
        assert Group.objects.count() == 1
        assert calls_of_booking().get().state == "done"

    with connected(message_received, booking=handler):
        in_every_order_of_calls(run_due, run_due, prepare=prepare, check=check)


def test_ending_and_what_comes_after_it_in_order(ordered: Calls) -> None:
    def check(race: Race) -> None:
        assert ordered.heard() in (["YES"], ["YES", "CANCEL"])
        assert calls_of_booking().unfinished().count() == 2 - len(ordered)
        run_due()
        assert ordered.heard() == ["YES", "CANCEL"]

    def cancel() -> None:
        WebhookClient().reply(_id="late", message="CANCEL", sender=CUSTOMER)

    in_every_order_of_calls(run_due, cancel, prepare=waiting(ordered), check=check)


def test_ending_and_running_again(booking: Calls) -> None:
    def check(race: Race) -> None:
        call = calls_of_booking().get()
        assert (call.state, call.attempts) == ("done", 1)
        assert 1 <= len(booking) <= 2

    in_every_order_of_calls(run_due, run_all_again, prepare=waiting(booking), check=check)


def test_skipping_and_running_again(booking: Calls) -> None:
    """Both are decisions, and the later one stands."""

    def check(race: Race) -> None:
        state = calls_of_booking().get().state
        assert (state, len(booking)) == ("done", 1) or (state, race.first) == ("skipped", 1)

    failed = waiting(
        booking, state="failed", next_attempt_at=None, failing_since=timezone.now() - AN_HOUR
    )
    in_every_order_of_calls(skip_all, run_all_again, prepare=failed, check=check)


def test_ending_and_pruning(booking: Calls) -> None:
    """What is unfinished is kept, so the handler is told once, whatever is pruned."""
    store = waiting(booking)

    def prepare() -> None:
        store()
        WebhookEvent.objects.update(received_at=timezone.now() - timedelta(days=2))

    def prune_old() -> None:
        prune(Selection(before=timezone.now() - timedelta(days=1)))

    def check(race: Race) -> None:
        assert len(booking) == 1
        assert not calls_of_booking().exclude(state="done").exists()

    in_every_order_of_calls(run_due, prune_old, prepare=prepare, check=check)
