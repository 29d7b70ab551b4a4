import re

from cellcast_django.signals import in_order, message_received, status_changed
from django.dispatch import receiver
from shop.escalation import escalate_undelivered
from shop.models import absences_about
from shop.questions import asked_about

REASONS = {"sick": "sick", "ill": "sick", "dentist": "appointment"}

status_changed.connect(escalate_undelivered)


@receiver(message_received)
@in_order
def take_reason(message, **kwargs):
    words = re.findall(r"\w+", message.body.lower())
    reasons = {REASONS[each] for each in words if each in REASONS}
    unanswered = absences_about(asked_about(message)).filter(reason="")
    is_clear = len(reasons) == 1 and set(words) <= {*REASONS, "both", "is", "are", "in", "bed"}
    if is_clear and unanswered.count() == (2 if "both" in words else 1):
        unanswered.update(reason=reasons.pop())
        message.mark_handled()
