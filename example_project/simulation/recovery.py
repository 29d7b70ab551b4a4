"""The site was down: what never arrived is fetched from a fake of Cellcast's API."""

from datetime import timedelta
from io import StringIO

from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from cellcast_django.models import Message, OptOut
from example_project.appointments.models import Appointment
from example_project.simulation import console
from example_project.simulation.people import OUR_NUMBER, RUBY
from example_project.simulation.plan import reply
from example_project.simulation.traffic import Traffic, reminder_id
from tests.fake_cellcast import KEY, FakeCellcast, serving

ANSWER = "YES, see you"


def show_recovery(traffic: Traffic) -> None:
    """Lose a report and a reply, fetch both, and then send the reply's webhook after all."""
    with serving() as cellcast:
        settings = {"CELLCAST_API_URL": cellcast.url, "CELLCAST_API_KEY": KEY}
        with override_settings(**settings):
            _recover(cellcast, traffic)


def _recover(cellcast: FakeCellcast, traffic: Traffic) -> None:
    _list_what_arrived(cellcast)
    cellcast_id = reminder_id(RUBY.number)
    sent_at = timezone.now() - timedelta(hours=RUBY.hours_ago)
    answered_at = sent_at + timedelta(minutes=9)
    cellcast.add_report(cellcast_id, sent_at, receiver=RUBY.number, sender=OUR_NUMBER)
    cellcast.add_reply(answered_at, RUBY.number.removeprefix("+61"), ANSWER)
    console.done(f"The site was down when {RUBY.name} answered: no webhook arrived")

    console.done("manage.py cellcast_recover --since 3d")
    output = StringIO()
    call_command("cellcast_recover", "--since", "3d", stdout=output)
    for line in output.getvalue().splitlines():
        console.line(line)
    state = Appointment.objects.get(phone_number=RUBY.number).get_state_display()
    console.done(f"The handlers were called as for any reply: her appointment is {state}")

    [event_id] = traffic.receive([reply(answered_at, RUBY.number, ANSWER, _id=cellcast_id)])
    console.done(
        f"Her webhook comes after all: event {event_id} is a duplicate, no handler is called"
    )


def _list_what_arrived(cellcast: FakeCellcast) -> None:
    """Make the fake list what webhooks delivered: that must not be stored again."""
    for message in Message.objects.order_by("created_at"):
        if message.direction == "inbound":
            cellcast.add_reply(message.created_at, message.sender, message.body)
        elif message.status:
            cellcast.add_report(
                message.cellcast_id,
                message.created_at,
                message=message.body,
                receiver=message.receiver,
                status=message.status,
            )
    for opt_out in OptOut.objects.active():
        cellcast.add_opt_out(opt_out.contact)
