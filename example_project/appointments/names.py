"""What the admin knows of phone numbers: names and appointments, and texts to answer with."""

from collections.abc import Iterable

from django.utils import timezone

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

    def answers(self, contact: str) -> list[str]:
        """Return what is usually answered; the next appointment, if there is one, comes first."""
        texts = [
            "Please call us on 02 5550 1234, and we will find another time.",
            "Thank you! We are here from 8 to 6, Monday to Friday.",
        ]
        planned = Appointment.objects.exclude(state=Appointment.State.CANCELLED)
        upcoming = planned.filter(phone_number=contact, starts_at__gte=timezone.now())
        if (following := upcoming.order_by("starts_at").first()) is not None:
            starts_at = timezone.localtime(following.starts_at)
            texts.insert(0, f"Your appointment is on {starts_at:%A %d %B at %H:%M}. See you then!")
        return texts
