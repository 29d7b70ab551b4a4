"""The facts of an event: a stop word has two, each with calls of its own."""

from typing import Any

import pytest
from django.utils import timezone

from cellcast_django.handlers import run_again, run_due
from cellcast_django.handlers.steps import DELETED
from cellcast_django.handlers.work import facts_of
from cellcast_django.models import HandlerCall, Message, OptOut, WebhookEvent
from cellcast_django.signals import message_received, opt_out_received
from cellcast_django.testing import WebhookClient
from tests.handlers import SIGNALS, Calls, Connect, ran

pytestmark = pytest.mark.django_db

CUSTOMER = "+61400000000"


class Both(Calls):
    """One handler connected to everything, which raises for the signals in ``raises_for``."""

    def __init__(self) -> None:
        super().__init__("both")
        self.raises_for: set[Any] = set()

    def __call__(self, **arguments: Any) -> None:
        super().__call__(**arguments)
        if arguments["signal"] in self.raises_for:
            raise ValueError("no")

    def heard(self) -> list[Any]:
        """Return the signals of the calls since the last time."""
        heard = [call["signal"] for call in self.arguments]
        self.arguments.clear()
        return heard


@pytest.fixture
def both(connect: Connect) -> Both:
    handler = Both()
    for signal in SIGNALS:
        connect(signal, handler)
    return handler


def stop() -> WebhookEvent:
    WebhookClient().reply(sender=CUSTOMER, message="STOP")
    return WebhookEvent.objects.latest("pk")


def states(event: WebhookEvent) -> dict[str, str]:
    return dict(event.calls.order_by("pk").values_list("signal", "state"))


BOTH = {"message_received": "done", "opt_out_received": "done"}


def due_now() -> list[int]:
    HandlerCall.objects.unfinished().update(next_attempt_at=timezone.now())
    return ran(run_due)


def test_stop_sends_two_signals_in_order_with_a_call_each(both: Both) -> None:
    event = stop()
    reply, opt_out = both.arguments
    assert (reply["signal"], reply["sender"]) == (message_received, Message)
    assert reply["message"] == Message.objects.get()
    assert (opt_out["signal"], opt_out["sender"]) == (opt_out_received, WebhookEvent)
    assert (opt_out["contact"], opt_out["opt_out"]) == (CUSTOMER, OptOut.objects.get())
    assert reply["event"] == opt_out["event"] == event
    assert states(event) == BOTH
    assert event.state == "done"


@pytest.mark.parametrize("failing", [message_received, opt_out_received])
def test_retry_sends_only_the_signal_whose_handler_failed(both: Both, failing: Any) -> None:
    both.raises_for = {failing}
    event = stop()
    assert both.heard() == [message_received, opt_out_received]
    assert states(event) == BOTH | {failing.name: "retrying"}
    both.raises_for = set()
    assert due_now() == [event.pk]
    assert both.heard() == [failing]
    assert states(event) == BOTH
    assert run_again(event.calls.all()) == 2
    assert both.heard() == [message_received, opt_out_received]


def test_retry_does_not_send_a_deleted_opt_out(both: Both) -> None:
    both.raises_for = {opt_out_received}
    WebhookClient().opt_out(contact=CUSTOMER)
    WebhookClient().opt_out(contact=CUSTOMER)
    event = WebhookEvent.objects.earliest("pk")
    OptOut.objects.all().delete()
    assert due_now() == [event.pk]
    assert event.state == "failed"
    assert event.calls.get().error == DELETED
    assert facts_of(WebhookEvent.objects.get(outcome="duplicate")) == []
