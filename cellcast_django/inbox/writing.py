"""The one way to store events, one or a thousand, on every database: lock, fold, write.

In one transaction, whose first statement writes: insert each message unless it is there, or lock
its row and read its history; then the same for the opt-outs. Every decision is made under these
locks, in Python, and then written: events, history rows, messages, opt-outs and calls.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.utils import CursorWrapper

from cellcast_django.conf import conf
from cellcast_django.connected import calls_asked_for
from cellcast_django.database import rows, transactions
from cellcast_django.error_reports import hides_variables
from cellcast_django.fold import Snapshot, Values, fold
from cellcast_django.inbox import same_message
from cellcast_django.inbox.drafts import Arrival, Draft, MessageDraft, begin_opt_out, draft
from cellcast_django.models import (
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
    database_alias,
)
from cellcast_django.payloads import Endpoint, Invalid, OptOut as OptOutPayload, Payload, Reply
from cellcast_django.signals import FactSignal, message_received, opt_out_received, status_changed

StoredEvent = tuple[WebhookEvent, Sequence[FactSignal]]
"""An event that was stored, and the signals of its facts in the order in which they are told."""


class Stored(list[WebhookEvent]):
    """The events of one webhook, in its order, and the calls that they ask for, in theirs."""

    def __init__(
        self, events: Iterable[WebhookEvent] = (), calls: Sequence[HandlerCall] = ()
    ) -> None:
        super().__init__(events)
        self.calls = calls


class Entry(NamedTuple):
    """An event that is to be written, its signals, and what it changes."""

    columns: dict[str, Any]
    signals: list[FactSignal]
    message: Message | None
    row: Values | None
    """The row that the message's history gains."""
    begun: OptOutChange | None


class AlreadyReadError(Exception):
    """Another process has read the event in the meantime."""


@dataclass(slots=True, repr=False)
class LockedMessage:
    """A message that is locked, and what is known of it by now."""

    message: Message
    snapshot: Snapshot
    inserted_for: MessageDraft | None = None
    """The draft that it has just been inserted for, with what that says; None if it was there."""
    first_row: Values | None = None
    """The row of the history that goes with that draft."""
    changes: dict[str, Any] = field(default_factory=dict)
    """The columns to save."""

    def fold(self, draft: MessageDraft) -> Values | None:
        """Take over what the draft says; return the row that the history gains, if any."""
        if draft is self.inserted_for:
            return self.first_row
        self.snapshot, row = fold(self.snapshot, draft.update)
        self.changes |= self.message.take(self.snapshot.columns)
        return row


@hides_variables
def store(payloads: Sequence[Payload], **arrived: Any) -> Stored:
    """Store the payloads of one webhook; return an event for each, in its order, and their calls.

    How they ``arrived`` is what ``Arrival.now`` takes. When this returns, the transaction has
    committed. What was reported before is a ``duplicate``, and so is the opt-out of a contact who
    is opted out already. Raises ``django.db.Error`` when the database refuses.
    """
    arrival = Arrival.now(**arrived)
    drafts = [draft(payload, arrival) for payload in payloads]
    store_all = partial(write, drafts=drafts)
    # What the API has listed is not deferred, and nobody waits for a response.
    seconds = 5 if arrival.endpoint == Endpoint.API else None
    return transactions.with_retries(store_all, using=database_alias(), for_seconds=seconds)


def write(using: str, drafts: Sequence[Draft], *, replaced: WebhookEvent | None = None) -> Stored:
    """Write everything in one transaction of its own; return the events in the drafts' order.

    The first event takes the place of ``replaced``, an invalid or deferred one. Raises
    ``AlreadyReadError`` if that one has been read in the meantime.
    """
    is_deferred = replaced is not None and replaced.outcome == WebhookEvent.Outcome.DEFERRED
    connection = connections[using]
    if connection.in_atomic_block:  # with_retries leaves it; ended here, unless it is a test's
        transactions.ensure_autocommit(connection)
    with transactions.own_transaction(using) as cursor:
        messages = _lock_messages(cursor, drafts)
        contacts = {each.opts_out for each in drafts} - {""}
        opt_outs: dict[str, OptOut] = {}
        if contacts:
            opt_outs = OptOut.objects.using(using).insert_and_lock(contacts, briefly=True)
        entries = [_fold_in(each, messages, opt_outs.get(each.opts_out)) for each in drafts]
        stored = _write_entries(cursor, entries, replaced)
        for locked in messages.values():  # once each; the objects, which handlers get, have changed
            if locked.changes:
                rows.update(cursor, Message, locked.message.pk, locked.changes)
        calls = _insert_calls(cursor, stored, drafts[0].arrival.time, is_read_later=is_deferred)
    return Stored((event for event, _ in stored), calls)


def _lock_messages(cursor: CursorWrapper, drafts: Sequence[Draft]) -> dict[str, LockedMessage]:
    """Insert the messages that are not there, and lock those that are; return them by key."""
    first = {each.key: each for each in reversed(drafts) if isinstance(each, MessageDraft)}
    if drafts[0].arrival.endpoint == Endpoint.API:  # has to come first
        same_message.lock_out_others(cursor.db.alias, first.values())
    locked = {key: _insert_or_lock(cursor, first[key]) for key in sorted(first)}
    new = {
        each.message.pk: each.inserted_for
        for each in locked.values()
        if each.inserted_for is not None and each.inserted_for.may_be_there
    }
    if new:
        for pk, message in same_message.unite(cursor, new).items():
            # As if its history had the draft's status: the draft is a duplicate.
            snapshot = message.snapshot({message.status, new[pk].update.status})
            locked[new[pk].key] = LockedMessage(message, snapshot)
    return locked


def _insert_or_lock(cursor: CursorWrapper, draft: MessageDraft) -> LockedMessage:
    snapshot, first_row = fold(None, draft.update)
    new = {**snapshot.columns, **draft.if_new}
    message, is_new = rows.insert_or_lock(cursor, Message, new, unique="key", briefly=True)
    if is_new:
        return LockedMessage(message, snapshot, draft, first_row)
    if not message.status:  # nothing has been reported of it
        return LockedMessage(message, message.snapshot())
    history = rows.column(cursor, StatusChange, "status", message_id=message.pk)
    return LockedMessage(message, message.snapshot(history))


def _fold_in(draft: Draft, messages: Mapping[str, LockedMessage], opt_out: OptOut | None) -> Entry:
    columns, message, row = dict(draft.event), None, None
    if isinstance(draft, MessageDraft):
        locked = messages[draft.key]
        message, row = locked.message, locked.fold(draft)
        columns["message_id"] = message.pk
    begun = None if opt_out is None else begin_opt_out(draft, opt_out)
    columns["outcome"], signals = decide(draft, row, begun)
    return Entry(columns, signals, message, row, begun)


def _write_entries(
    cursor: CursorWrapper, entries: Sequence[Entry], replaced: WebhookEvent | None
) -> list[StoredEvent]:
    """Write the events, the rows that histories gain, and the opt-outs that begin."""
    new = [entry.columns for entry in entries]
    events = [] if replaced is None else [_replace(cursor.db.alias, replaced, new.pop(0))]
    events += rows.insert(cursor, WebhookEvent, *new)
    gaining, history, begun = [], [], []
    for event, entry in zip(events, entries, strict=True):
        rows.relate(event, message=entry.message, opt_out_change=entry.begun)
        if entry.row is not None:
            gaining.append(event)
            history.append({**entry.row, "message_id": event.message_id, "event_id": event.pk})
        if entry.begun is not None:
            entry.begun.event = entry.begun.opt_out.event = event
            begun.append(entry.begun)
    for event, change in zip(gaining, rows.insert(cursor, StatusChange, *history), strict=True):
        rows.relate(change, message=event.message, event=event)
        rows.relate(event, status_change=change)
    if begun:
        with rows.limited_inserts(cursor.db):
            OptOut.objects.using(cursor.db.alias).save_changes(begun)
    return [(event, entry.signals) for event, entry in zip(events, entries, strict=True)]


def _replace(using: str, replaced: WebhookEvent, columns: dict[str, Any]) -> WebhookEvent:
    is_invalid = columns["outcome"] == WebhookEvent.Outcome.INVALID
    columns["dismissed_at"] = replaced.dismissed_at if is_invalid else None
    columns["next_read_at"] = None
    events = WebhookEvent.objects.using(using)
    if not events.filter(pk=replaced.pk, outcome=replaced.outcome).update(**columns):
        raise AlreadyReadError
    return events.get(pk=replaced.pk)


def _insert_calls(
    cursor: CursorWrapper, stored: Sequence[StoredEvent], now: datetime, *, is_read_later: bool
) -> list[HandlerCall]:
    """Insert a call for each handler that is connected for a fact, in the order they are made in.

    Inline, they belong to this process until a lease ends. On a queue, and where a deferred event
    was read, nobody has had them yet: as long as the version is 0, whoever finds them may begin.
    """
    asked_for = {signal: calls_asked_for(signal) for _, signals in stored for signal in signals}
    if not any(asked_for.values()):
        return []
    is_inline = conf.run_handlers == "inline" and not is_read_later
    due_at = now + timedelta(seconds=conf.handler_lease) if is_inline else now
    values: list[dict[str, Any]] = [
        {
            "event_id": event.pk,
            "signal": signal.name,
            "handler": handler,
            "contact": event.contact if is_in_order else "",
            "state": HandlerCall.State.WAITING.value,
            "version": 1 if is_inline else 0,
            "next_attempt_at": due_at,
        }
        for event, signals in stored
        for signal in signals
        for handler, is_in_order in asked_for[signal]
    ]
    first = values[0]
    if is_inline and not first["contact"] and conf.handler_max_attempts > 1:
        # It is begun already, which saves a write. In order it would have to ask for its turn, and
        # an only attempt must not be used up by a crash before it.
        first.update(state=HandlerCall.State.RUNNING.value, attempts=1, started_at=now)
    calls = rows.insert(cursor, HandlerCall, *values)
    events = {event.pk: event for event, _ in stored}
    for call in calls:
        rows.relate(call, event=events[call.event_id])
    return calls


def decide(
    draft: Draft, change: Values | None, begun: OptOutChange | None
) -> tuple[str, list[FactSignal]]:
    """Return the event's outcome, and the signals of its facts in the order they are told in."""
    signals: list[FactSignal] = []
    if change is not None:
        is_new_reply = isinstance(draft.payload, Reply) and not change["previous_status"]
        signals.append(message_received if is_new_reply else status_changed)
    if begun is not None:
        signals.append(opt_out_received)
    # Our own test opts nobody out, and yet is no duplicate.
    is_test_of_opt_out = draft.arrival.is_test and isinstance(draft.payload, OptOutPayload)
    outcomes = WebhookEvent.Outcome
    if signals or is_test_of_opt_out:
        return outcomes.STORED.value, signals
    outcome = outcomes.INVALID if isinstance(draft.payload, Invalid) else outcomes.DUPLICATE
    return outcome.value, signals
