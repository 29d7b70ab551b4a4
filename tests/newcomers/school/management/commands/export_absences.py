import csv

from cellcast_django.models import Message
from django.core.management.base import BaseCommand
from django.utils import timezone
from shop.models import CAMPUSES, Absence


class Command(BaseCommand):
    def handle(self, **options):
        rows = csv.writer(self.stdout)
        absences = Absence.objects.filter(day=timezone.localdate()).select_related("pupil")
        for each in absences.order_by("pk"):
            text = Message.objects.with_reference(f"absence-{each.pk}").first()
            status = text.status if text else "not sent"
            rows.writerow([CAMPUSES[each.pupil.own_number], each.pupil, each.reason, status])
