"""From payloads to rows: one transaction stores messages, their history and the events.

The transaction's first statement writes, which locks the messages' rows and then those of the
opt-outs; every decision is made under these locks. So racing copies of one webhook end as one
message, one status change, one opt-out and one run of handlers, on every database. Start with
``store``.
"""

from collections.abc import Callable, Sequence

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from cellcast_django.database.transactions import ensure_autocommit, with_retries
from cellcast_django.inbox import portable
from cellcast_django.inbox.drafts import Arrival, Draft, draft
from cellcast_django.inbox.portable import BeforeCommit
from cellcast_django.models import (
    MAX_CONTENT_TYPE_LENGTH,
    WebhookEvent,
    database_alias,
    username_of,
)
from cellcast_django.payloads import Endpoint, Invalid, OptOut, Payload, clean, read
from cellcast_django.statuses import PRECEDENCE

FastWay = Callable[[BaseDatabaseWrapper, Draft, Arrival, BeforeCommit | None], bool]
"""Writes the common case in a transaction of its own, and completes the draft's rows.

False if it turns out not to be the common case; nothing is written then."""

FAST_WAYS: dict[str, FastWay] = {}
"""By the database's vendor. The portable way needs none of them: ``fast`` registers itself."""


def store(
    payloads: Sequence[Payload],
    *,
    endpoint: Endpoint,
    content_type: str = "",
    username: str = "",
    is_test: bool = False,
    before_commit: BeforeCommit | None = None,
) -> list[WebhookEvent]:
    """Store the payloads of one webhook, and return one event for each, in the same order.

    When this returns, the transaction has committed. What was reported before is a ``duplicate``,
    and so is the opt-out of a contact who is opted out already. An event that has something to
    run has ``next_run_at`` set, and its first attempt counts as begun when handlers
    run inline.

    ``before_commit`` is called inside the transaction with the ids of those events, so that
    whatever it writes to the same database commits with the webhook. If it raises, nothing is
    stored.

    Raises ``django.db.Error`` when the database refuses; nothing is stored then. A deadlock, a lock
    timeout and a lost connection are retried first.
    """
    now = timezone.now()
    arrival = Arrival(
        endpoint=endpoint.value,
        content_type=clean(content_type)[:MAX_CONTENT_TYPE_LENGTH],
        username=username_of(username),
        is_test=is_test,
        received_at=now,
        now=now,
    )

    def write(using: str) -> list[WebhookEvent]:
        connection = connections[using]
        ensure_autocommit(connection)
        if endpoint != Endpoint.API and len(payloads) == 1 and _is_common(payloads[0]):
            event = _write_fast(connection, payloads[0], arrival, before_commit)
            if event is not None:
                return [event]
        return portable.write(using, payloads, arrival, before_commit=before_commit)

    return with_retries(write, using=database_alias())


def _is_common(payload: Payload) -> bool:
    """Whether it is an opt-out, or has a known status."""
    if isinstance(payload, Invalid):
        return False
    return isinstance(payload, OptOut) or payload.status in PRECEDENCE


def _write_fast(
    connection: BaseDatabaseWrapper,
    payload: Payload,
    arrival: Arrival,
    before_commit: BeforeCommit | None,
) -> WebhookEvent | None:
    """Return the event; ``None`` if the database has no fast way, or this is not for it."""
    write = FAST_WAYS.get(connection.vendor)
    # SQLite has RETURNING from 3.35, MySQL has none.
    if write is None or not connection.features.can_return_columns_from_insert:
        return None
    drafted = draft(payload, arrival)
    return drafted.event if write(connection, drafted, arrival, before_commit) else None


def reprocess(event: WebhookEvent) -> list[WebhookEvent]:
    """Read an invalid event again, and return the events it has become.

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
    )

    def write(using: str) -> list[WebhookEvent]:
        ensure_autocommit(connections[using])
        return portable.write(using, payloads, arrival, replaced=event)

    try:
        return with_retries(write, using=database_alias())
    except portable.NoLongerInvalidError:
        return []
