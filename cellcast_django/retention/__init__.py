"""Delete personal data that is no longer needed, or redact it and keep the rows.

A ``Selection`` says what to prune, and ``prune`` does it in batches, each a short transaction: no
table is locked for long, memory stays flat, and an interrupted run continues where it stopped.
"""

from collections.abc import Iterator

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from cellcast_django.database.retries import with_retries
from cellcast_django.models import Direction, Message, WebhookEvent, database_alias
from cellcast_django.retention.removal import (
    delete,
    delete_events,
    delete_messages,
    in_batches,
    redact_events,
    redact_messages,
)
from cellcast_django.retention.selection import Kept, Removed, Selection

__all__ = ["Kept", "Removed", "Selection", "delete_tests", "forget_opt_outs", "prune"]


def prune(selection: Selection) -> Iterator[Removed]:
    """Delete or redact what is selected; yield what each batch removed, once it is committed.

    Deleting a message deletes its history and events too, and whatever ``on_delete`` takes of your
    own models. Redacting empties a message's phone numbers, texts and media, the reasons in its
    history, and an event's body, contact, error and the texts of its handlers' errors; counts,
    statuses, times and Cellcast's ids stay. An outbound message keeps its ``key``, a digest of its
    id alone, so that a late report still finds the row (what the report fills in is redacted once
    it is old enough). The ``key`` of a reply is replaced: number and text could be guessed from it.
    If the same reply arrives once more, it therefore counts as new.

    Raises ``django.db.Error`` when the database refuses, and ``ProtectedError`` or
    ``RestrictedError`` when one of your models forbids deleting a message. The batches before that
    stay committed.
    """
    for part in selection.events():
        yield from in_batches(part, "pk", redact_events if selection.redact else delete_events)
    remove = redact_messages if selection.redact else delete_messages
    # In the order in which webhooks lock them: in any other, an array of late reports deadlocks.
    yield from in_batches(selection.messages(), "key", remove)


def forget_opt_outs(selection: Selection) -> int:
    """Delete the contact's opt-out, if the selection says so; return how many there were.

    Call it after ``prune``. Raises ``django.db.Error`` when the database refuses.
    """
    if not selection.opt_outs:
        return 0
    return with_retries(
        lambda using: delete(selection.ledger().using(using)), using=database_alias()
    )


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
