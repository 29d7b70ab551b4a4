"""What is read again: what the database would not store for now, and what was not understood."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django.db import Error, connections
from django.utils import timezone

from cellcast_django.database import rows
from cellcast_django.database.transactions import hint_of, is_lost, own_transaction, with_retries
from cellcast_django.error_reports import hides_variables
from cellcast_django.inbox import writing
from cellcast_django.inbox.drafts import Arrival, draft
from cellcast_django.inbox.writing import AlreadyReadError, Stored
from cellcast_django.models import WebhookEvent, database_alias
from cellcast_django.models.base import FIRST_PAUSE, LONGEST_PAUSE, error_of
from cellcast_django.payloads import Endpoint, Invalid, Payload, read


@hides_variables
def defer(payloads: Sequence[Payload], error: Exception, **arrived: Any) -> list[WebhookEvent]:
    """Keep the events of a webhook that ``store`` could not store, because of this error.

    Those that could not be understood are ``invalid``, as ever. Raises the error if that is of no
    use: no database is there, SQLite's one lock is taken, or a test's transaction cannot continue.
    Raises ``django.db.Error`` if not even this can be stored.
    """
    connection = connections[database_alias()]
    if connection.in_atomic_block or (isinstance(error, Error) and is_lost(connection, error)):
        raise error
    arrival = Arrival.now(**arrived)
    events = [_event_alone(payload, arrival, error) for payload in payloads]

    def write(using: str) -> list[WebhookEvent]:
        with own_transaction(using) as cursor:
            return rows.insert(cursor, WebhookEvent, *events)

    return with_retries(write, using=database_alias())


def _event_alone(payload: Payload, arrival: Arrival, error: Exception) -> dict[str, Any]:
    """Return the columns of an event that is stored without its message."""
    try:
        columns = dict(draft(payload, arrival).event)
    except Exception:  # what failed may have been our own reading
        columns = arrival.columns() | {"kind": WebhookEvent.Kind.UNKNOWN.value, "body": payload.raw}
    if isinstance(payload, Invalid):
        return columns | {"outcome": WebhookEvent.Outcome.INVALID.value}
    deferred = WebhookEvent.Outcome.DEFERRED.value
    return columns | {"outcome": deferred, "next_read_at": timezone.now(), "error": _why(error)}


def _why(error: Exception) -> str:
    """Return the error without a database's DETAIL, which may quote the rows of others."""
    first_line = error_of(error).partition("\n")[0]
    return f"{hint_of(error)} {first_line}".lstrip()


def _postpone(event: WebhookEvent, error: Exception) -> None:
    """Pause for as long as the event has been deferred so far: so the pauses double."""
    now = timezone.now()
    pause = min(max(now - event.received_at, FIRST_PAUSE), LONGEST_PAUSE)
    deferred = WebhookEvent.objects.fresh().deferred().filter(pk=event.pk)
    with_retries(
        lambda using: deferred.using(using).update(error=_why(error), next_read_at=now + pause),
        using=deferred.db,
    )


@hides_variables
def reprocess(event: WebhookEvent) -> Stored:
    """Read an invalid event again; return the events it has become, and their calls."""
    if event.outcome != WebhookEvent.Outcome.INVALID:
        return Stored()
    # Its message is said now, as nobody could read it before. But it has not just arrived: an
    # opt-out that a person has ended since it came stays ended.
    arrival = replace(Arrival.of(event), time=timezone.now(), has_just_arrived=False)
    return _read_again(event, arrival)


@hides_variables
def read_deferred(event: WebhookEvent) -> Stored:
    """Read a deferred event as if it had just arrived, at the time of its arrival.

    If it cannot be stored now either, it is postponed, and the error raised. For an event that is
    not deferred (any more), nothing is written or returned.
    """
    if event.outcome != WebhookEvent.Outcome.DEFERRED:
        return Stored()
    try:
        return _read_again(event, Arrival.of(event))
    except Exception as error:
        if not connections[database_alias()].in_atomic_block:  # a test's cannot continue
            _postpone(event, error)
        raise


def _read_again(event: WebhookEvent, arrival: Arrival) -> Stored:
    payloads = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))
    drafts = [draft(payload, arrival) for payload in payloads]
    # A pause and a new session for each that a trigger refuses would leave no time for others.
    seconds = 0 if event.outcome == WebhookEvent.Outcome.DEFERRED else None
    write = partial(writing.write, drafts=drafts, replaced=event)
    try:
        return with_retries(write, using=database_alias(), for_seconds=seconds)
    except AlreadyReadError:
        return Stored()
