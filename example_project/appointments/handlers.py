"""What happens when Cellcast reports something.

After a crash, a handler may be called again for an event it has already dealt with, so these are
idempotent. Opt-outs need no handler: ``send`` refuses to text a customer who has opted out.
"""

from typing import Any

from django.dispatch import receiver

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import in_order, message_received, status_changed
from example_project.appointments.answers import read_answer
from example_project.appointments.models import Answer, Appointment
from example_project.appointments.reminders import mark_reminder


@receiver(message_received)
@in_order
def answer_appointment(message: Message, event: WebhookEvent, **kwargs: Any) -> None:
    """Confirm or cancel the appointment whose reminder the customer has answered.

    In order, so that a NO that has to be retried does not undo the YES that came after it. A clear
    answer is handled with that; any other stays on the admin's page *To answer*, and so does one
    that comes too late.
    """
    question = message.in_reply_to
    if question is None or question.contact != message.contact:
        return
    asked_about = Appointment.about(question)
    appointment = asked_about.filter(starts_at__gt=event.received_at).first()
    if appointment is None:
        return
    answer = read_answer(message.body)
    appointment.take_answer(answer)
    if answer != Answer.UNCLEAR:
        message.mark_handled()


@receiver(status_changed)
def mark_reminder_of_message(message: Message, **kwargs: Any) -> None:
    """Mark the reminder as delivered or failed, if the message is one."""
    mark_reminder(message)
