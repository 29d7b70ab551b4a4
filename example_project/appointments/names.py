"""The names that the admin shows beside phone numbers, and finds them by."""

from collections.abc import Iterable

from example_project.appointments.models import Appointment, folded


def names_of(contacts: list[str]) -> dict[str, str]:
    """Return the name in each number's latest appointment, for numbers that have had one."""
    appointments = Appointment.objects.filter(phone_number__in=contacts).order_by("starts_at")
    return dict(appointments.values_list("phone_number", "customer_name"))


def numbers_of(words: str) -> Iterable[str]:
    """Return the numbers of the customers whose name has all of these words, in any order.

    The admin uses 200, and says so if there are more.
    """
    appointments = Appointment.objects.all()
    for word in folded(words).split():
        appointments = appointments.filter(folded_name__contains=word)
    return appointments.values_list("phone_number", flat=True).distinct()[:201]
