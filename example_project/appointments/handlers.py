"""What happens when Cellcast reports something.

After a crash, a handler may be called again for an event it has already dealt with. These handlers
are idempotent, and do not depend on the order of events. Opt-outs need no handler: the code that
sends asks ``is_opted_out``.
"""

from datetime import datetime
from typing import Any

from django.dispatch import receiver

from cellcast_django.models import Direction, Message, WebhookEvent
from cellcast_django.signals import message_received, status_changed
from example_project.appointments.answers import read_answer
from example_project.appointments.models import Answer, Appointment
from example_project.appointments.reminders import mark_reminder


@receiver(message_received)
def answer_appointment(message: Message, event: WebhookEvent, **kwargs: Any) -> None:
    """Confirm or cancel the appointment that the sender was last reminded of.

    A clear answer is handled with that; any other stays on the admin's page *To answer*.
    """
    appointment = appointment_asked_about(message.contact, event.received_at)
    if appointment is None:
        return
    answer = read_answer(message.body)
    appointment.take_answer(answer, event.received_at)
    if answer != Answer.UNCLEAR:
        message.mark_handled()


@receiver(status_changed)
def mark_reminder_of_message(message: Message, **kwargs: Any) -> None:
    """Mark the reminder as delivered or failed, if the message is one.

    A reply has a status too, and may have the id of the message it answers.
    """
    if message.direction == Direction.OUTBOUND:
        mark_reminder(message)


def appointment_asked_about(phone_number: str, replied_at: datetime) -> Appointment | None:
    """Return the upcoming appointment that this number had last been reminded of by then.

    As of the reply, not as of now: an event run again an hour later still means the same
    appointment.
    """
    return (
        Appointment.objects.filter(
            phone_number=phone_number, reminded_at__lte=replied_at, starts_at__gt=replied_at
        )
        .order_by("-reminded_at")
        .first()
    )
