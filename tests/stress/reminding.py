"""What the example project sends in a test: ``shell --command`` runs it there."""

from collections import Counter
from datetime import UTC, datetime

from example_project.appointments.models import Appointment
from example_project.appointments.reminders import remind

STARTS_AT = datetime(2100, 1, 1, tzinfo=UTC)  # the text decides what becomes of it


def remind_customers(*numbers: str) -> None:
    """Remind each of an appointment, and print what came of it, and how often."""
    outcomes: Counter[str] = Counter()
    for number in numbers:
        try:
            remind(Appointment.objects.create(phone_number=number, starts_at=STARTS_AT))
            outcomes["sent"] += 1
        except Exception as error:
            outcomes[type(error).__name__] += 1
    print(dict(outcomes))
