"""Sends reminders, and records them so that delivery reports find them."""

import secrets
import time
from collections.abc import Callable

from django.utils import timezone

from cellcast_django.models import Message
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.statuses import Status
from example_project.appointments.models import Appointment

SENDER = "BrightTeeth"


class OptedOutError(Exception):
    """The customer wants no messages, and the Spam Act 2003 forbids sending any."""


def send_sms(receiver: str, text: str) -> str:
    """Stand in for Cellcast's send API: sends nothing, and returns a made-up id.

    Yours makes the HTTP request, raises if Cellcast refuses, and returns the ``MessageId`` of the
    response.
    """
    return f"{int(time.time()):08x}{secrets.token_hex(8)}"


def remind(appointment: Appointment, send: Callable[[str, str], str] = send_sms) -> Message:
    """Send the reminder of an appointment, and record what was sent. Raises ``OptedOutError``."""
    if is_opted_out(appointment.phone_number):
        raise OptedOutError
    text = reminder_text(appointment)

    cellcast_id = send(appointment.phone_number, text)

    appointment.reminder_id = cellcast_id
    appointment.reminder = Appointment.Reminder.SENT
    appointment.reminded_at = timezone.now()
    appointment.save(update_fields=["reminder_id", "reminder", "reminded_at"])
    message = Message.objects.record_sent(
        cellcast_id, receiver=appointment.phone_number, sender=SENDER, body=text
    )
    # The delivery report may have arrived first. Then no handler could find the appointment by its
    # reminder's id, but the message returned here already has the status.
    mark_reminder(message)
    return message


def reminder_text(appointment: Appointment) -> str:
    """Return the text of the SMS."""
    starts_at = timezone.localtime(appointment.starts_at)
    return (
        f"Hi {appointment.customer_name}, see you on {starts_at:%A %d %B at %H:%M}? "
        "Please reply YES or NO. Reply STOP to opt-out"
    )


def mark_reminder(message: Message) -> None:
    """Give the appointment with this reminder the status of the message.

    Idempotent. A message may be delivered after a report that it failed, but not the other way
    round.
    """
    appointments = Appointment.objects.filter(reminder_id=message.cellcast_id)
    if message.status == Status.DELIVERED:
        appointments.update(
            reminder=Appointment.Reminder.DELIVERED,
            reminder_delivered_at=message.status_changed_at,
        )
    elif message.is_final:
        appointments.exclude(reminder=Appointment.Reminder.DELIVERED).update(
            reminder=Appointment.Reminder.FAILED
        )
