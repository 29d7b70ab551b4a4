from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone
from shop.models import CAMPUSES, absences_about
from shop.teams import TEAMS


def escalate(absences):
    """Mail the campus, once, to phone about those without a reason; again if the mail fails."""
    for absence in absences.filter(reason="", escalated_at=None).select_related("pupil"):
        with transaction.atomic():
            same = absences.model.objects.filter(pk=absence.pk, reason="", escalated_at=None)
            if same.update(escalated_at=timezone.now()):
                _, address = TEAMS[CAMPUSES[absence.pupil.own_number]]
                send_mail(f"Please phone about absence {absence.pk}", "", None, [address])


def escalate_undelivered(message, **kwargs):
    if message.is_undelivered:
        escalate(absences_about([message.reference]))
