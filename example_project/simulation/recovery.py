"""The site was down: what never arrived is fetched from Cellcast's API, the simulated account's."""

from datetime import timedelta
from io import StringIO

from django.core.management import call_command

from cellcast_django.models import Message
from example_project.appointments.models import Appointment
from example_project.simulation import console
from example_project.simulation.account import Account
from example_project.simulation.people import RUBY
from example_project.simulation.plan import reply
from example_project.simulation.traffic import Traffic, reminder_id

ANSWER = "YES, see you"


def show_recovery(account: Account, traffic: Traffic) -> None:
    """Lose a report and a reply, fetch both, and then send the reply's webhook after all."""
    _list_what_arrived(account)
    reminder = Message.objects.get(cellcast_id=reminder_id(RUBY.number))
    account.list_sent(reminder, "delivered")
    answered_at = account.planned_at = reminder.created_at + timedelta(minutes=9)
    account.reply(RUBY.number, ANSWER, webhook=False)
    account.planned_at = None
    console.done(f"The site was down when {RUBY.name} answered: no webhook arrived")

    console.done("manage.py cellcast_recover --since 3d")
    output = StringIO()
    call_command("cellcast_recover", "--since", "3d", stdout=output)
    for line in output.getvalue().splitlines():
        console.line(line)
    state = Appointment.objects.get(phone_number=RUBY.number).get_state_display()
    console.done(f"The handlers were called as for any reply: her appointment is {state}")

    late = reply(answered_at, RUBY.number, ANSWER, _id=reminder.cellcast_id)
    [event_id] = traffic.receive([late])
    console.done(
        f"Her webhook comes after all: event {event_id} is a duplicate, no handler is called"
    )


def _list_what_arrived(account: Account) -> None:
    """Let the account list what the plan's webhooks delivered: that must not be stored again."""
    for message in Message.objects.order_by("created_at"):
        if message.direction == "inbound":
            account.planned_at = message.created_at
            account.reply(message.sender, message.body, webhook=False)
        elif message.status:
            account.list_sent(message, message.status)
