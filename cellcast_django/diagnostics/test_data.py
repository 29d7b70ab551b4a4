"""What Test Sends leave behind: their events, and the messages nothing else has reported."""

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from cellcast_django.models import Direction, Message, WebhookEvent, database_alias
from cellcast_django.models.removal import Removed, delete


def delete_tests() -> Removed:
    """Delete the events of all Test Sends, and the messages that exist only because of them.

    Opt-outs are kept, as always.
    """
    using = database_alias()
    with transaction.atomic(using=using):
        tests = WebhookEvent.objects.using(using).filter(is_test=True)
        messages = list(test_messages().values_list("pk", flat=True))
        return Removed(
            events=delete(tests),
            messages=delete(Message.objects.using(using).filter(pk__in=messages)),
        )


def test_messages() -> QuerySet[Message]:
    """Return the messages that exist only because of Test Sends, not recorded by your code."""
    using = database_alias()
    events = WebhookEvent.objects.using(using)
    tested = events.filter(is_test=True).exclude(message=None)
    keys = list(tested.values_list("message_id", flat=True).distinct())
    real = events.filter(message=OuterRef("pk"), is_test=False)
    is_made_here = Q(direction=Direction.INBOUND) | Q(body="")
    return Message.objects.using(using).filter(is_made_here, ~Exists(real), pk__in=keys)
