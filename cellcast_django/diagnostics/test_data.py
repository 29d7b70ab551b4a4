"""What Test Sends leave behind: their events, and the messages nothing else has reported."""

from django.db import transaction

from cellcast_django.models import Message, WebhookEvent, database_alias
from cellcast_django.models.removal import Removed, delete


def delete_tests() -> Removed:
    """Delete the events of all Test Sends, and the messages that exist only because of them.

    Opt-outs are kept, as always.
    """
    using = database_alias()
    with transaction.atomic(using=using):
        tests = WebhookEvent.objects.using(using).filter(is_test=True)
        messages = list(Message.objects.using(using).from_tests().values_list("pk", flat=True))
        return Removed(
            events=delete(tests),
            messages=delete(Message.objects.using(using).filter(pk__in=messages)),
        )
