"""From payloads to rows: one transaction stores messages, their history and the events.

The transaction's first statement writes, which locks the messages' rows and then those of the
opt-outs; every decision is made under these locks. So racing copies of one webhook end as one
message, one status change, one opt-out and one call of each handler, on every database. Start with
``store``.
"""

from collections.abc import Sequence

from django.db import connections
from django.utils import timezone

from cellcast_django.database.transactions import ensure_autocommit, with_retries
from cellcast_django.error_reports import hides_variables
from cellcast_django.inbox.calls import Stored
from cellcast_django.inbox.drafts import Arrival, draft
from cellcast_django.inbox.writing import AlreadyReadError, BeforeCommit, write
from cellcast_django.models import (
    MAX_CONTENT_TYPE_LENGTH,
    MAX_USERNAME_LENGTH,
    WebhookEvent,
    database_alias,
)
from cellcast_django.payloads import Endpoint, Payload, clean, read

__all__ = ["Stored", "reprocess", "store"]


@hides_variables
def store(
    payloads: Sequence[Payload],
    *,
    endpoint: Endpoint,
    content_type: str = "",
    username: str = "",
    is_test: bool = False,
    before_commit: BeforeCommit | None = None,
) -> Stored:
    """Store the payloads of one webhook; return an event for each, in its order, and their calls.

    When this returns, the transaction has committed. What was reported before is a ``duplicate``,
    and so is the opt-out of a contact who is opted out already.

    ``before_commit`` is called inside the transaction with the ids of the events that have calls,
    so that whatever it writes to the same database commits with the webhook. If it raises, nothing
    is stored.

    Raises ``django.db.Error`` when the database refuses; nothing is stored then. A deadlock, a lock
    timeout and a lost connection are retried first.
    """
    now = timezone.now()
    arrival = Arrival(
        endpoint=endpoint.value,
        content_type=clean(content_type)[:MAX_CONTENT_TYPE_LENGTH],
        # Some user models have numbers for usernames.
        username=clean(str(username or ""))[:MAX_USERNAME_LENGTH],
        is_test=is_test,
        received_at=now,
        now=now,
        has_just_arrived=endpoint != Endpoint.API,
    )
    drafts = [draft(payload, arrival) for payload in payloads]

    def store(using: str) -> Stored:
        ensure_autocommit(connections[using])
        return write(using, drafts, before_commit=before_commit)

    return with_retries(store, using=database_alias())


@hides_variables
def reprocess(event: WebhookEvent) -> Stored:
    """Read an invalid event again; return the events it has become, and their calls.

    The event keeps its id. If it still cannot be understood, it stays invalid with the new reason.
    For an event that is not invalid (any more), nothing is written or returned. Raises
    ``django.db.Error`` as ``store`` does.
    """
    payloads = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))
    arrival = Arrival(
        endpoint=event.endpoint,
        content_type=event.content_type,
        username=event.username,
        is_test=event.is_test,
        received_at=event.received_at,
        now=timezone.now(),
        has_just_arrived=False,
    )
    drafts = [draft(payload, arrival) for payload in payloads]

    def replace(using: str) -> Stored:
        ensure_autocommit(connections[using])
        return write(using, drafts, replaced=event)

    try:
        return with_retries(replace, using=database_alias())
    except AlreadyReadError:
        return Stored()
