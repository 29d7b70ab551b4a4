"""The steps of a call's life. Each is one UPDATE, which leaves alone what others have changed.

``version`` is the one guard: it rises with each change, so nobody writes to a call that is not as
they know it. No step is tried again when it changes no row.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import connections
from django.db.models import F
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.database import rows
from cellcast_django.database.transactions import with_retries
from cellcast_django.handlers.work import Failure
from cellcast_django.models import HandlerCall, WebhookEvent, database_alias, username_of
from cellcast_django.models.base import FIRST_PAUSE, LONGEST_PAUSE
from cellcast_django.models.webhook_event import HELD_BACK_FOR
from cellcast_django.signals import GiveUp

State = HandlerCall.State

NOT_RETURNED = "NotReturned: it was called and has not returned; perhaps its process has ended."
NOT_CONNECTED = "NotConnected: the process that was to call it knows no handler of this name."
DELETED = "Deleted: the message or opt-out was deleted before the handler was called."
SAVE_SECONDS = 3
"""Keep trying to save a step this long: an end that is not saved means that the handler is called
again. At SERIALIZABLE, PostgreSQL rejects one step in fifty because of its neighbour."""


def pause_after(attempts: int) -> timedelta:
    """Return the pause after this many attempts: a minute, two, four … and at most six hours."""
    doublings = min(attempts - 1, 16)  # more would overflow, and the longest is reached by 9
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


def usual_time() -> timedelta:
    """Return how long the pauses between all attempts take: 20 hours for twelve."""
    return sum(map(pause_after, range(1, conf.handler_max_attempts)), timedelta())


def begin(call: HandlerCall, *, in_order: bool) -> bool:
    """Count an attempt, and keep others from making one until the lease ends.

    If ``in_order``, only once no earlier call of the handler and contact is unfinished, nor an
    earlier event of the contact deferred. A call found running has failed: it has not returned.
    """
    now = timezone.now()
    values: dict[str, Any] = {
        "state": State.RUNNING,
        "attempts": call.attempts + 1,
        "next_attempt_at": now + timedelta(seconds=conf.handler_lease),
        "started_at": now,
        "seconds": None,
    }
    if call.state == State.RUNNING:
        values |= _failure(call, NOT_RETURNED, now)
    has_begun = _write(call, values, in_order=in_order and call.contact != "")
    if has_begun:
        call.version += 1
    return has_begun


def end(
    call: HandlerCall, failure: Failure | None, *, seconds: float, received_at: datetime
) -> bool:
    """Save how an attempt ended: the call is done or has failed, or another attempt is planned."""
    now = timezone.now()
    values: dict[str, Any] = {
        "state": State.DONE,
        "next_attempt_at": None,
        "ended_at": now,
        "seconds": round(seconds, 3),
        "error": "",
        "location": "",
        "failing_since": None,
    }
    if failure is not None:
        values |= _failure(call, failure.text, now, failure.location)
        if issubclass(failure.kind, GiveUp):
            values |= _ended(State.GAVE_UP, now)
        else:
            values |= _again_or_failed(call.attempts, failure.retry_after, received_at, now)
    return _write(call, values)


def miss(call: HandlerCall, received_at: datetime) -> bool:
    """Count an attempt that failed because this process does not know the handler."""
    now, attempts = timezone.now(), call.attempts + 1
    values = _failure(call, NOT_CONNECTED, now)
    values |= {"attempts": attempts, "started_at": now, "seconds": None}
    return _write(call, values | _again_or_failed(attempts, None, received_at, now))


def fail(call: HandlerCall, error: str) -> bool:
    """End a call that cannot be made any more."""
    now = timezone.now()
    return _write(call, _failure(call, error, now) | _ended(State.FAILED, now))


def release(call: HandlerCall) -> bool:
    """Let others begin a call that is ours for a lease: whoever ends what it waits for makes it."""
    return _write(call, {"next_attempt_at": timezone.now()})


def reopen(call: HandlerCall) -> bool:
    """Let a call begin anew, and be due at once. Its error stays until it ends."""
    values = {
        "state": State.WAITING,
        "attempts": 0,
        "next_attempt_at": timezone.now(),
        "ended_at": None,
        "skipped_by": "",
    }
    is_reopened = _write(call, values)
    if is_reopened:
        call.version += 1
    return is_reopened


def end_as_skipped(pks: Collection[int], username: str) -> int:
    """End calls that are not done, as a person has decided, even while an attempt is being made."""

    def write(using: str) -> int:
        calls = HandlerCall.objects.using(using).filter(pk__in=pks)
        return calls.exclude(state__in=HandlerCall.ENDED_WELL).update(
            **_ended(State.SKIPPED, timezone.now()),
            version=F("version") + 1,
            failing_since=None,
            skipped_by=username_of(username),
        )

    return with_retries(write, using=database_alias())


def is_saved_as_done(call: HandlerCall) -> bool:
    """Whether the end of a call ``exactly_once`` was committed before something was raised.

    ``end`` sets the instance's state even if it is rolled back; the version rises in the row alone.
    """
    saved = HandlerCall.objects.fresh().filter(pk=call.pk, version=call.version + 1)
    return call.state == State.DONE and saved.done().exists()


def _failure(call: HandlerCall, error: str, now: datetime, location: str = "") -> dict[str, Any]:
    return {"error": error, "location": location, "failing_since": call.failing_since or now}


def _again_or_failed(
    attempts: int, asked_for: timedelta | None, received_at: datetime, now: datetime
) -> dict[str, Any]:
    """Return when a call that has failed this often is made again, or that it has failed for good.

    What ``RetryLater`` has ``asked_for`` is granted beyond the last attempt, too, as long as the
    usual pauses would have taken.
    """
    is_granted = asked_for is not None and now < received_at + usual_time()
    if attempts >= conf.handler_max_attempts and not is_granted:
        return _ended(State.FAILED, now)
    pause = pause_after(attempts) if asked_for is None else asked_for
    return {"state": State.RETRYING, "next_attempt_at": now + pause, "ended_at": None}


def _ended(state: str, now: datetime) -> dict[str, Any]:
    return {"state": state, "next_attempt_at": None, "ended_at": now}


def _write(call: HandlerCall, values: dict[str, Any], *, in_order: bool = False) -> bool:
    """Save these fields if nobody has changed the call since; a third of ``update()``'s cost.

    The instance's version stays: an end that is rolled back is written again, as a failure.
    """

    def save(using: str) -> bool:
        connection = connections[using]
        params = rows.adapt(connection, HandlerCall, values)
        params |= {"id": call.pk, "version": call.version}
        if in_order:
            params |= {"contact": call.contact, "handler": call.handler, "event": call.event_id}
            since = timezone.now() - HELD_BACK_FOR
            params["since"] = connection.ops.adapt_datetimefield_value(since)
        with connection.cursor() as cursor:
            cursor.execute(_statement(tuple(values), in_order=in_order), params)
            return bool(cursor.rowcount == 1)

    if not with_retries(save, using=database_alias(), for_seconds=SAVE_SECONDS):
        return False
    for name, value in values.items():
        setattr(call, name, value)
    return True


@cache
def _statement(names: Iterable[str], *, in_order: bool) -> str:
    # Whose turn it is: the same rule as ``HandlerCallQuerySet.waiting_for_none``.
    assignments = "".join(f", {name} = %({name})s" for name in names)
    table = HandlerCall._meta.db_table
    earlier = (
        f" AND NOT EXISTS (SELECT 1 FROM {table} earlier WHERE earlier.contact = %(contact)s"  # noqa: S608
        " AND earlier.handler = %(handler)s AND earlier.event_id < %(event)s"
        " AND earlier.next_attempt_at IS NOT NULL)"
        f" AND NOT EXISTS (SELECT 1 FROM {WebhookEvent._meta.db_table} deferred"
        " WHERE deferred.contact = %(contact)s AND deferred.id < %(event)s"
        " AND deferred.next_read_at IS NOT NULL AND deferred.received_at > %(since)s)"
    )
    return (
        f"UPDATE {table} SET version = version + 1{assignments}"  # noqa: S608
        f" WHERE id = %(id)s AND version = %(version)s{earlier if in_order else ''}"
    )
