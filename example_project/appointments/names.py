"""The names that the admin shows beside phone numbers, and finds them by."""

from collections.abc import Iterable

from example_project.appointments.models import Appointment


def names_of(contacts: list[str]) -> dict[str, str]:
    """Return the name in each number's latest appointment, for numbers that have had one."""
    appointments = Appointment.objects.filter(phone_number__in=contacts).order_by("starts_at")
    return dict(appointments.values_list("phone_number", "customer_name"))


def numbers_of(words: str) -> Iterable[str]:
    """Return the numbers of the customers whose name contains these words."""
    appointments = Appointment.objects.filter(customer_name__icontains=words)
    return appointments.values_list("phone_number", flat=True).distinct()
