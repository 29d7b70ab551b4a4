"""Sends reminders, and marks them when Cellcast reports what became of them."""

from django.utils import timezone

from cellcast_django.models import Message
from cellcast_django.sending import send
from cellcast_django.statuses import Status
from example_project.appointments.models import Appointment


def remind(appointment: Appointment) -> Message:
    """Send the reminder of an appointment. Raises what ``send`` raises.

    From any number, not from a name, since nobody can answer a name.
    """
    starts_at = timezone.localtime(appointment.starts_at)
    text = (
        f"Hi {appointment.customer_name}, see you on {starts_at:%A %d %B at %H:%M}? "
        "Please reply YES or NO. Reply STOP to opt-out"
    )
    message = send(appointment.phone_number, text, reference=appointment.reference)
    # A report that came before this line had no reference, so that no handler could find the
    # appointment; but then the message has its status already.
    mark_reminder(message)
    return message


def mark_reminder(message: Message) -> None:
    """Mark the appointment with how far its reminder has got, if the message is one.

    Idempotent, and each case is one UPDATE: two reports may arrive at the same moment. A message
    may be delivered after a report that it failed, but not the other way round. A reply has no
    reference, so it is no reminder, even with the same id.
    """
    appointments, reminder = Appointment.about(message), Appointment.Reminder
    if message.status == Status.DELIVERED:
        appointments.update(reminder=reminder.DELIVERED)
    elif message.is_undelivered:
        appointments.exclude(reminder=reminder.DELIVERED).update(reminder=reminder.FAILED)
    else:
        appointments.filter(reminder=reminder.NOT_SENT).update(reminder=reminder.SENT)
