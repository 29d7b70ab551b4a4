"""The calls that stored events ask for: a row for each handler that is connected for a fact."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cellcast_django.conf import conf
from cellcast_django.connected import calls_asked_for
from cellcast_django.models import HandlerCall, WebhookEvent
from cellcast_django.signals import FactSignal

Facts = tuple[WebhookEvent, Sequence[FactSignal]]
"""A stored event, and the signals of its facts in the order in which they are told."""


class Stored(list[WebhookEvent]):
    """The events of one webhook, in its order, and the calls that they ask for, in theirs."""

    def __init__(
        self, events: Iterable[WebhookEvent] = (), calls: Sequence[HandlerCall] = ()
    ) -> None:
        super().__init__(events)
        self.calls = calls


GIVEN = (
    "event_id",
    "signal",
    "handler",
    "contact",
    "state",
    "version",
    "attempts",
    "next_attempt_at",
    "started_at",
)
EMPTY = ("error", "location", "skipped_by")
MAX_ROWS = 1_000  # of one statement: a database takes only so many values


def insert_calls(
    connection: BaseDatabaseWrapper, stored: Iterable[Facts], now: datetime
) -> list[HandlerCall]:
    """Insert the calls of events that have just been inserted, in the order they are made in.

    Inline, they belong to this process until a lease ends, and the first one is running, which
    saves a write. On a queue nobody has had them yet.
    """
    calls = _calls_of(stored, now)
    for start in range(0, len(calls), MAX_ROWS):
        _insert(connection, calls[start : start + MAX_ROWS])
    return calls


def _calls_of(stored: Iterable[Facts], now: datetime) -> list[HandlerCall]:
    is_inline = conf.run_handlers == "inline"
    names = {signal: calls_asked_for(signal) for _, signals in stored for signal in signals}
    calls = [
        HandlerCall(
            event=event,
            signal=signal.name,
            handler=handler,
            contact=event.contact if is_in_order else "",
            state=HandlerCall.State.WAITING,
            version=int(is_inline),
            next_attempt_at=now + timedelta(seconds=conf.handler_lease) if is_inline else now,
        )
        for event, signals in stored
        for signal in signals
        for handler, is_in_order in names[signal]
    ]
    if calls and is_inline and not calls[0].contact and conf.handler_max_attempts > 1:
        first = calls[0]
        first.state, first.attempts, first.started_at = HandlerCall.State.RUNNING, 1, now
    return calls


def _insert(connection: BaseDatabaseWrapper, calls: Sequence[HandlerCall]) -> None:
    quote, adapt = connection.ops.quote_name, connection.ops.adapt_datetimefield_value
    columns = ", ".join(map(quote, (*GIVEN, *EMPTY)))
    row = "({})".format(", ".join(["%s"] * len(GIVEN) + ["''"] * len(EMPTY)))
    sql = (
        f"INSERT INTO {HandlerCall._meta.db_table} ({columns})"  # noqa: S608
        f" VALUES {', '.join([row] * len(calls))}"
    )
    values: list[Any] = []
    for call in calls:
        times = adapt(call.next_attempt_at), adapt(call.started_at)
        values += (call.event_id, call.signal, call.handler, call.contact, call.state.value)
        values += (call.version, call.attempts, *times)
    has_returning = connection.features.can_return_rows_from_bulk_insert
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} RETURNING id" if has_returning else sql, values)
        if has_returning:
            keys = [pk for (pk,) in cursor.fetchall()]
        else:  # SQLite before 3.35, where nobody else writes meanwhile
            keys = list(range(cursor.lastrowid - len(calls) + 1, cursor.lastrowid + 1))
    for call, pk in zip(calls, keys, strict=True):
        call.pk, call._state.adding, call._state.db = pk, False, connection.alias
