from datetime import timedelta

from django.core.management.base import BaseCommand
from django.utils import timezone
from shop.escalation import escalate
from shop.models import Absence
from shop.tasks import ask


class Command(BaseCommand):
    def handle(self, **options):
        today = Absence.objects.filter(day=timezone.localdate(), reason="")
        for absence in today.filter(asked_at=None):
            ask.enqueue(absence.pk)
        escalate(today.filter(asked_at__lt=timezone.now() - timedelta(minutes=30)))
