"""From payloads to rows: one transaction stores messages, their history and the events.

The transaction's first statement writes, which locks the messages' rows and then those of the
opt-outs; every decision is made under these locks. So racing copies of one webhook end as one
message, one status change, one opt-out and one call of each handler, on every database. Start with
``store``.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import Error, connections
from django.utils import timezone

from cellcast_django.database.transactions import ensure_autocommit, is_lost, with_retries
from cellcast_django.error_reports import hides_variables
from cellcast_django.inbox.calls import Stored
from cellcast_django.inbox.deferring import insert_alone, postpone
from cellcast_django.inbox.drafts import Arrival, draft
from cellcast_django.inbox.writing import AlreadyReadError, BeforeCommit, write
from cellcast_django.models import (
    MAX_CONTENT_TYPE_LENGTH,
    MAX_USERNAME_LENGTH,
    WebhookEvent,
    database_alias,
)
from cellcast_django.payloads import Endpoint, Payload, clean, read


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
    arrival = _arrival(endpoint, content_type, username, is_test=is_test)
    drafts = [draft(payload, arrival) for payload in payloads]

    def store(using: str) -> Stored:
        connection = connections[using]
        if connection.in_atomic_block:  # otherwise with_retries has done so
            ensure_autocommit(connection)
        return write(using, drafts, before_commit=before_commit)

    return with_retries(store, using=database_alias())


@hides_variables
def defer(
    payloads: Sequence[Payload],
    error: Exception,
    *,
    endpoint: Endpoint,
    content_type: str = "",
    username: str = "",
    is_test: bool = False,
) -> list[WebhookEvent]:
    """Keep the events of a webhook that ``store`` could not store, because of this error.

    Raises it if that is of no use: no database is there, SQLite's one lock is taken, or a test's
    transaction cannot continue. Raises ``django.db.Error`` if not even this can be stored.
    """
    connection = connections[database_alias()]
    if connection.in_atomic_block or (isinstance(error, Error) and is_lost(connection, error)):
        raise error
    arrival = _arrival(endpoint, content_type, username, is_test=is_test)
    return insert_alone(payloads, arrival, error)


def _arrival(endpoint: Endpoint, content_type: str, username: str, *, is_test: bool) -> Arrival:
    now = timezone.now()
    return Arrival(
        endpoint=endpoint.value,
        content_type=clean(content_type)[:MAX_CONTENT_TYPE_LENGTH],
        # Some user models have numbers for usernames.
        username=clean(str(username or ""))[:MAX_USERNAME_LENGTH],
        is_test=is_test,
        received_at=now,
        now=now,
        has_just_arrived=endpoint != Endpoint.API,
    )


@hides_variables
def reprocess(event: WebhookEvent) -> Stored:
    """Read an invalid event again; return the events it has become, and their calls.

    The event keeps its id. If it still cannot be understood, it stays invalid with the new reason.
    For an event that is not invalid (any more), nothing is written or returned. Raises
    ``django.db.Error`` as ``store`` does.
    """
    return _read_again(event, now=timezone.now(), has_just_arrived=False)


@hides_variables
def read_deferred(event: WebhookEvent) -> Stored:
    """Read a deferred event as if it had just arrived, at the time of its arrival.

    Its calls are due at once. If it cannot be stored now either, it is postponed, and the error
    raised. For an event that is not deferred (any more), nothing is written or returned.
    """
    try:
        return _read_again(event, now=event.received_at, has_just_arrived=True)
    except Exception as error:
        if not connections[database_alias()].in_atomic_block:
            postpone(event, error)
        raise


def _read_again(event: WebhookEvent, *, now: datetime, has_just_arrived: bool) -> Stored:
    arrival = Arrival(
        endpoint=event.endpoint,
        content_type=event.content_type,
        username=event.username,
        is_test=event.is_test,
        received_at=event.received_at,
        now=now,
        has_just_arrived=has_just_arrived,
    )
    payloads = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))
    drafts = [draft(payload, arrival) for payload in payloads]

    def replace(using: str) -> Stored:
        ensure_autocommit(connections[using])
        return write(using, drafts, replaced=event)

    try:
        return with_retries(replace, using=database_alias())
    except AlreadyReadError:
        return Stored()
