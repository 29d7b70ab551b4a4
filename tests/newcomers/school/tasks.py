from cellcast_django.sending import NotSentError, OptedOutError, send
from django.tasks import task
from django.utils import timezone
from shop.escalation import escalate, escalate_undelivered
from shop.models import Absence


@task
def ask(pk):
    absences = Absence.objects.filter(pk=pk)
    if not absences.filter(asked_at=None).update(asked_at=timezone.now()):
        return
    pupil = absences.get().pupil
    text = f"{pupil} is not at school. Why? Reply SICK or DENTIST. Reply STOP to opt out"
    try:
        message = send(pupil.contact, text, sender=pupil.own_number, reference=f"absence-{pk}")
    except OptedOutError:
        escalate(absences)
    except NotSentError:
        absences.update(asked_at=None)
        raise
    else:
        escalate_undelivered(message)
