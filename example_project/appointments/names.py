"""The names that the admin's pages show beside the customers' numbers."""

from example_project.appointments.models import Appointment


def names_of(contacts: list[str]) -> dict[str, str]:
    """Return the names of those of these numbers that have had an appointment, the latest one."""
    appointments = Appointment.objects.filter(phone_number__in=contacts).order_by("starts_at")
    return dict(appointments.values_list("phone_number", "customer_name"))
