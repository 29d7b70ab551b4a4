"""A handler that fails at first, and is called again, in the order of each customer's replies."""

import logging
from dataclasses import dataclass
from io import StringIO

from django.core.management import call_command
from django.utils import timezone

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import in_order, message_received
from example_project.simulation import console
from example_project.simulation.people import ELLA, LEO, Customer
from example_project.simulation.plan import reply
from example_project.simulation.traffic import Traffic, reminder_id


class OfficeCalendar:
    """Stands in for a service that is sometimes down. Only the demo connects it."""

    def __init__(self) -> None:
        self.is_up = True
        self.entries: list[str] = []

    @in_order
    def enter_reply(self, message: Message, **kwargs: object) -> None:
        """Enter a reply in the calendar, for the whole office to see."""
        if not self.is_up:
            raise ConnectionError("The office calendar is down")
        self.entries.append(message.body)


calendar = OfficeCalendar()


def connect_calendar() -> None:
    """Connect a handler for every reply, beside those of the project."""
    message_received.connect(calendar.enter_reply, dispatch_uid="office_calendar")


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Three replies: one was run again, one waited for it, one is left for the visitor to try."""

    run_again: WebhookEvent
    called_again: list[str]
    waited: WebhookEvent
    left: WebhookEvent


def show_outage(traffic: Traffic) -> Outage:
    """Receive three replies while the calendar is down, and run the first one again."""
    log = logging.getLogger("cellcast_django")
    log.setLevel(logging.CRITICAL)  # the errors are printed here
    calendar.is_up = False
    first = _receive_reply(traffic, ELLA, "Yes, see you there")
    waited = _receive_reply(traffic, ELLA, "No, I am ill, please cancel")
    left = _receive_reply(traffic, LEO, "No, sorry")
    console.done("The office calendar is down. Three replies arrive, and all get 200")
    for call in first.calls.order_by("pk"):
        console.line(f"{call.handler}: {call.error or call.state}")
    console.done(f"{ELLA.name} said yes, and then no: event {waited.pk} waits for event {first.pk}")
    ended = list(first.calls.done().values_list("pk", flat=True))

    log.setLevel(logging.NOTSET)
    calendar.is_up = True
    output = StringIO()
    call_command("cellcast_run_handlers", "--event", str(first.pk), stdout=output)
    called = list(first.calls.exclude(pk__in=ended).values_list("handler", flat=True))
    console.done(f"It is up again: manage.py cellcast_run_handlers --event {first.pk}")
    console.line(output.getvalue().strip())
    console.line(f"Called again: only {', '.join(called)}")
    console.line(f"In the calendar, in order: {' – '.join(calendar.entries[-2:])}")
    console.done(f"Event {left.pk} is still pending: run its handlers again in the admin")
    return Outage(run_again=first, called_again=called, waited=waited, left=left)


def _receive_reply(traffic: Traffic, customer: Customer, text: str) -> WebhookEvent:
    cellcast_id = reminder_id(customer.number)
    [event_id] = traffic.receive([reply(timezone.now(), customer.number, text, _id=cellcast_id)])
    return WebhookEvent.objects.get(pk=event_id)
