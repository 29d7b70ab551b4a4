"""What the database would not store for now: its events are kept by themselves, and read later."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import connections
from django.utils import timezone

from cellcast_django.database import rows
from cellcast_django.database.transactions import ensure_autocommit, own_transaction, with_retries
from cellcast_django.inbox.drafts import Arrival, draft
from cellcast_django.models import WebhookEvent, database_alias
from cellcast_django.payloads import Invalid, Payload, clean

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
"""Before a deferred event is read again. In between, as long as it has been deferred so far: so the
pauses double."""

MAX_ERROR_LENGTH = 1_000


def insert_alone(
    payloads: Sequence[Payload], arrival: Arrival, error: Exception
) -> list[WebhookEvent]:
    """Insert the events of a webhook without what they say, for which there was this error.

    Those that could not be understood are ``invalid``, as ever. Raises ``django.db.Error`` if the
    database does not take even that.
    """
    drafts = [_columns(payload, arrival, error) for payload in payloads]

    def write(using: str) -> list[WebhookEvent]:
        ensure_autocommit(connections[using])
        with connections[using].cursor() as cursor, own_transaction(using):
            return [
                rows.stored(
                    cursor.db,
                    WebhookEvent,
                    {**each, "id": rows.insert(cursor, WebhookEvent, each)},
                )
                for each in drafts
            ]

    return with_retries(write, using=database_alias())


def _columns(payload: Payload, arrival: Arrival, error: Exception) -> dict[str, Any]:
    outcomes, kinds = WebhookEvent.Outcome, WebhookEvent.Kind
    try:
        known = dict(draft(payload, arrival).event)
    except Exception:  # what failed may have been our own reading
        known = arrival.columns() | {"kind": kinds.UNKNOWN.value, "body": payload.raw}
    if isinstance(payload, Invalid):
        return known | {"outcome": outcomes.INVALID.value}
    return known | {
        "outcome": outcomes.DEFERRED.value,
        "error": text_of(error),
        "next_read_at": timezone.now(),
    }


def postpone(event: WebhookEvent, error: Exception) -> None:
    """Let a deferred event, which could not be read this time either, be read again later."""
    now = timezone.now()
    pause = min(max(now - event.received_at, FIRST_PAUSE), LONGEST_PAUSE)
    deferred = WebhookEvent.objects.fresh().deferred().filter(pk=event.pk)
    with_retries(
        lambda using: deferred.using(using).update(error=text_of(error), next_read_at=now + pause),
        using=deferred.db,
    )


def text_of(error: Exception) -> str:
    """Return the type and the text of an error, as it is stored."""
    return clean(f"{type(error).__qualname__}: {error}".strip())[:MAX_ERROR_LENGTH]
