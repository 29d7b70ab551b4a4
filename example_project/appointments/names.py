"""The names and appointments that the admin shows beside phone numbers, and finds them by."""

from collections.abc import Iterable

from cellcast_django.directory import Directory
from example_project.appointments.models import Appointment, folded


class Customers(Directory):
    """Whoever has an appointment."""

    def names(self, contacts: list[str]) -> dict[str, tuple[str, str]]:
        """Return the names of each number, which a family may share, and the latest appointment."""
        names: dict[str, list[str]] = {}
        latest: dict[str, str] = {}
        for each in Appointment.objects.filter(phone_number__in=contacts).order_by("starts_at"):
            names.setdefault(each.phone_number, []).append(each.customer_name)
            latest[each.phone_number] = each.get_admin_url()
        return {
            number: (" / ".join(dict.fromkeys(found)), latest[number])
            for number, found in names.items()
        }

    def search(self, words: str) -> Iterable[str]:
        """Return the numbers of those whose name has all of these words, in any order."""
        appointments = Appointment.objects.all()
        for word in folded(words).split():
            appointments = appointments.filter(folded_name__contains=word)
        return appointments.values_list("phone_number", flat=True).distinct()[:201]

    def references(self, references: list[str]) -> dict[str, tuple[str, str]]:
        """Return the appointments that these references of reminders are about."""
        keys = [each.rpartition("-")[2] for each in references]
        appointments = Appointment.objects.filter(pk__in=filter(str.isdecimal, keys))
        return {each.reference: (str(each), each.get_admin_url()) for each in appointments}
