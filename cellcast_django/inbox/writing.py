"""The one way to store events, one or a thousand, on every database: lock, fold, write.

In one transaction: insert each message unless it is there, or lock its row and read its history;
then the same for the opt-outs. Every decision is made under these locks, in Python, and then
written: events, history rows, messages and opt-outs. Start with ``store``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from django.db import connections, router
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from cellcast_django.connected import SENDERS
from cellcast_django.database import rows
from cellcast_django.database.transactions import (
    BUDGET_SECONDS,
    ensure_autocommit,
    own_transaction,
    with_retries,
)
from cellcast_django.error_reports import hides_variables
from cellcast_django.fold import Change, State, fold
from cellcast_django.inbox import same_message
from cellcast_django.inbox.calls import Told, insert_calls
from cellcast_django.inbox.drafts import Arrival, Draft, begin_opt_out, draft
from cellcast_django.models import (
    MAX_CONTENT_TYPE_LENGTH,
    MAX_USERNAME_LENGTH,
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.payloads import (
    Endpoint,
    Invalid,
    OptOut as OptOutPayload,
    Payload,
    Reply,
    clean,
)
from cellcast_django.signals import FactSignal, message_received, opt_out_received, status_changed


class Stored(list[WebhookEvent]):
    """The events of one webhook, in its order, and the calls that they ask for, in theirs."""

    def __init__(
        self, events: Iterable[WebhookEvent] = (), calls: Sequence[HandlerCall] = ()
    ) -> None:
        super().__init__(events)
        self.calls = calls


class AlreadyReadError(Exception):
    """Another process has read the event in the meantime."""


@dataclass(slots=True, repr=False)
class Row:
    """A message that is locked."""

    pk: int
    message: Message | None
    """As it was read; ``None`` if it was inserted just now."""
    columns: Mapping[str, Any]
    """As they are in the database."""
    stored: State
    """What they say."""
    state: State
    """What is known by now."""
    first: Change | None = None
    """The row that its history gains, if it was inserted just now."""

    @classmethod
    def of(cls, message: Message, history: Iterable[str]) -> "Row":
        state = message.state(history)
        return cls(message.pk, message, state.columns, state, state)


@hides_variables
def store(
    payloads: Sequence[Payload],
    *,
    endpoint: Endpoint,
    content_type: str = "",
    username: str = "",
    is_test: bool = False,
) -> Stored:
    """Store the payloads of one webhook; return an event for each, in its order, and their calls.

    When this returns, the transaction has committed. What was reported before is a ``duplicate``,
    and so is the opt-out of a contact who is opted out already.

    Raises ``django.db.Error`` when the database refuses; nothing is stored then. A deadlock, a lock
    timeout and a lost connection are retried first.
    """
    arrival = arrival_at(endpoint, content_type, username, is_test=is_test)
    drafts = [draft(payload, arrival) for payload in payloads]
    store_all = partial(write, drafts=drafts)
    # What the API has listed is not deferred, and nobody waits for a response.
    seconds = BUDGET_SECONDS if endpoint == Endpoint.API else None
    return with_retries(store_all, using=router.db_for_write(Message), for_seconds=seconds)


cleaned = lru_cache(maxsize=64)(clean)
"""The same few headers and usernames come with every webhook."""


def arrival_at(endpoint: Endpoint, content_type: str, username: str, *, is_test: bool) -> Arrival:
    """Return how the events of a webhook arrive now."""
    now = timezone.now()
    return Arrival(
        endpoint=endpoint.value,
        content_type=cleaned(content_type)[:MAX_CONTENT_TYPE_LENGTH],
        # Some user models have numbers for usernames.
        username=cleaned(str(username or ""))[:MAX_USERNAME_LENGTH],
        is_test=is_test,
        received_at=now,
        now=now,
        has_just_arrived=endpoint != Endpoint.API,
    )


def write(using: str, drafts: Sequence[Draft], *, replaced: WebhookEvent | None = None) -> Stored:
    """Write everything in one transaction of its own; return the events in the drafts' order.

    It locks the messages in the order of their keys, then the opt-outs in that of their contacts.
    The first event takes the place of ``replaced``, an invalid or deferred one. Raises
    ``AlreadyReadError`` if that one has been read in the meantime.
    """
    is_deferred = replaced is not None and replaced.outcome == WebhookEvent.Outcome.DEFERRED
    connection = connections[using]
    if connection.in_atomic_block:  # otherwise with_retries has done so
        ensure_autocommit(connection)
    with connection.cursor() as cursor, own_transaction(using, may_hurry=True):
        messages = _lock_messages(cursor, drafts)
        contacts = {each.opts_out for each in drafts} - {""}
        opt_outs = OptOut.objects.using(using).insert_and_lock(contacts) if contacts else {}
        told = []
        for each in drafts:
            row = None if each.said is None else messages[each.said.values["key"]]
            opt_out = opt_outs.get(each.opts_out)
            told.append(_write_event(cursor, each, row, opt_out, replaced))
            replaced = None
        for row in messages.values():
            _save(cursor, row)
        is_heard = any(
            signal.has_listeners(SENDERS[signal]) for _, signals in told for signal in signals
        )
        calls = (
            insert_calls(cursor, told, drafts[0].arrival.now, is_read_later=is_deferred)
            if is_heard
            else []
        )
    return Stored((event for event, _ in told), calls)


# Lock


def _lock_messages(cursor: CursorWrapper, drafts: Sequence[Draft]) -> dict[str, Row]:
    """Insert what is not there, and lock what is; return the rows by key."""
    using = cursor.db.alias
    first = {each.said.values["key"]: each for each in reversed(drafts) if each.said is not None}
    if any(isinstance(each.payload, Reply) and each.payload.listed for each in drafts):
        same_message.lock_out_others(using, first.values())
    found = {key: _insert_or_lock(cursor, first[key]) for key in sorted(first)}
    new = {
        key: found[key].pk
        for key, each in first.items()
        if each.may_be_stored and found[key].message is None
    }
    if new:
        stored_before = same_message.unite(cursor, [first[key] for key in new], new)
        for key, message in stored_before.items():
            said: Any = first[key].said
            found[key] = Row.of(message, {message.status, said.status})
    return found


def _insert_or_lock(cursor: CursorWrapper, draft: Draft) -> Row:
    said: Any = draft.said
    state, change = fold(None, said)
    new = {**state.columns, **draft.if_new}
    pk, message = rows.insert_or_lock(cursor, Message, new, unique="key")
    if message is None:
        return Row(pk, None, new, state, state, change)
    has_history = message.status != ""
    history = rows.column(cursor, StatusChange, "status", message_id=pk) if has_history else ()
    return Row.of(message, history)


# Fold and write


def _write_event(
    cursor: CursorWrapper,
    draft: Draft,
    row: Row | None,
    opt_out: OptOut | None,
    replaced: WebhookEvent | None,
) -> Told:
    """Write an event, the row that a history gains, and the opt-out that begins."""
    using, change, begun = cursor.db.alias, None, None
    if row is not None and draft.said is not None:
        change, row.first = row.first, None
        if change is None:
            row.state, change = fold(row.state, draft.said)
    if opt_out is not None:
        begun = begin_opt_out(draft, opt_out)
    outcome, signals = decide(draft, change, begun)
    message = None if row is None else row.pk
    history = None if change is None else change.columns
    columns = {**draft.event, "outcome": outcome, "message_id": message}
    if replaced is None:
        columns["id"] = rows.insert(cursor, WebhookEvent, columns)
    else:
        columns["id"] = _replace(using, replaced, columns)
    event = rows.stored(cursor.db, WebhookEvent, columns)
    if history is not None:
        history |= {"message_id": message, "event_id": event.pk}
        history["id"] = rows.insert(cursor, StatusChange, history)
    if begun is not None:
        begun.event = begun.opt_out.event = event
        OptOut.objects.using(using).save_changes([begun])
    if row is not None and any(signal.has_listeners(SENDERS[signal]) for signal in signals):
        _attach_facts(cursor, event, row, history)
    WebhookEvent._meta.get_field("opt_out_change").set_cached_value(event, begun)
    return event, signals


def _replace(using: str, replaced: WebhookEvent, columns: dict[str, Any]) -> int:
    is_invalid = columns["outcome"] == WebhookEvent.Outcome.INVALID
    columns["dismissed_at"] = replaced.dismissed_at if is_invalid else None
    columns["next_read_at"] = None
    events = WebhookEvent.objects.using(using).filter(outcome=replaced.outcome)
    if not events.filter(pk=replaced.pk).update(**columns):
        raise AlreadyReadError
    return replaced.pk


def _attach_facts(cursor: CursorWrapper, event: WebhookEvent, row: Row, history: Any) -> None:
    """Cache the rows of the event's facts on it, so that handlers cause no query."""
    event.message = message = _message(cursor, row)
    if history is not None:
        change = rows.stored(cursor.db, StatusChange, history)
        change.message, change.event = message, event


def _message(cursor: CursorWrapper, row: Row) -> Message:
    """Return the message as it is now; for all of its events in a webhook the same."""
    if row.message is None:
        row.message = rows.stored(cursor.db, Message, {**row.columns, "id": row.pk})
    return row.message


def _save(cursor: CursorWrapper, row: Row) -> None:
    """Write what has changed of a message, also in what the events' handlers are given."""
    if row.state is row.stored:
        return
    columns = row.state.columns
    changes = {name: value for name, value in columns.items() if value != row.columns[name]}
    if changes:
        rows.update(cursor, Message, row.pk, changes)
        if row.message is not None:
            row.message.take(columns)


# What becomes of an event


def decide(
    draft: Draft, change: Change | None, begun: OptOutChange | None
) -> tuple[str, tuple[FactSignal, ...]]:
    """Return the event's outcome, and the signals of its facts in the order they are told in.

    Without a fact the event is a duplicate, or invalid; but nobody looks whether the opt-out of a
    test would have been one.
    """
    signals: list[FactSignal] = []
    if change is not None:
        is_new_reply = isinstance(draft.payload, Reply) and not change.previous_status
        signals.append(message_received if is_new_reply else status_changed)
    if begun is not None:
        signals.append(opt_out_received)
    is_test_of_opt_out = draft.arrival.is_test and isinstance(draft.payload, OptOutPayload)
    outcome = WebhookEvent.Outcome.STORED
    if not signals and not is_test_of_opt_out:
        is_invalid = isinstance(draft.payload, Invalid)
        outcomes = WebhookEvent.Outcome
        outcome = outcomes.INVALID if is_invalid else outcomes.DUPLICATE
    return outcome.value, tuple(signals)
