"""From payloads to rows: one transaction stores messages, their history and the events.

The transaction's first statement writes, and takes the lock on the messages' rows; whatever is
decided is decided under that lock. So copies of one webhook that race end as one message, one
status change and one announcement, on every database.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeGuard, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    models,
    router,
    transaction,
)
from django.utils import timezone

from cellcast_django import inbox_postgresql, inbox_sql
from cellcast_django.conf import conf
from cellcast_django.contacts import normalise
from cellcast_django.models import (
    MAX_CONTENT_TYPE_LENGTH,
    MAX_USERNAME_LENGTH,
    Direction,
    Message,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.payloads import (
    Endpoint,
    Invalid,
    OptOut,
    Payload,
    Reply,
    StatusReport,
    clean,
    read,
)
from cellcast_django.signals import (
    FactSignal,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.statuses import PRECEDENCE, supersedes

WRITERS: dict[str, inbox_sql.Writer] = {
    "postgresql": inbox_postgresql.one_statement,
    "sqlite": inbox_sql.three_statements,
}
"""How the common case is written, by the database's vendor; elsewhere the portable way is taken."""

RETRY_PAUSES = (0.05, 0.2, 0.8)
"""Seconds before the transaction is tried again when the database calls it off."""


def store(
    payloads: Sequence[Payload], *, endpoint: Endpoint, content_type: str = "", username: str = ""
) -> list[WebhookEvent]:
    """Store what one webhook said, and return one event for each payload, in their order.

    When this returns, the transaction has committed. What was said before is a ``duplicate``; only
    an opt-out is stored each time. An event that has something to announce has ``announce_due_at``
    set, and its first attempt counts as begun when announcements run inline.

    Raises ``django.db.Error`` when the database refuses; nothing is stored then. A deadlock, a lock
    that is not had in time and a lost connection are tried again first.
    """
    origin = {
        "endpoint": endpoint.value,
        "content_type": clean(content_type)[:MAX_CONTENT_TYPE_LENGTH],
        "username": clean(username)[:MAX_USERNAME_LENGTH],
        "received_at": timezone.now(),
    }
    return with_retries(lambda using: _write(using, payloads, origin))


def reprocess(event: WebhookEvent) -> list[WebhookEvent]:
    """Read an invalid event again, and return the events that it has become.

    The event keeps its id; it stays invalid, with the present reason, when it still cannot be
    understood. Nothing is written, and nothing returned, for an event that is not invalid (any
    more). Raises ``django.db.Error`` as ``store`` does.
    """
    payloads = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))
    origin = {
        "endpoint": event.endpoint,
        "content_type": event.content_type,
        "username": event.username,
        "received_at": event.received_at,
    }
    try:
        return with_retries(lambda using: _write(using, payloads, origin, replaced=event))
    except _NoLongerInvalidError:
        return []


T = TypeVar("T")


def with_retries(write: Callable[[str], T]) -> T:
    """Call ``write`` with the alias of the database, again when the database calls it off.

    ``write`` must be one transaction or one statement. Raises the database's last error.
    """
    using = router.db_for_write(Message)
    connection = connections[using]
    for pause in RETRY_PAUSES:
        try:
            return write(using)
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:  # a test's own transaction, which cannot go on
                raise
            with suppress(DatabaseError):
                connection.close()
            time.sleep(pause)
    return write(using)


class Fact(NamedTuple):
    """What an event has to tell the handlers."""

    signal: FactSignal
    sender: type[models.Model]
    arguments: dict[str, Any]


def fact_of(event: WebhookEvent) -> Fact | None:
    """Return what the event has to announce.

    ``None`` for one that told nothing new, and for one whose message has been deleted since.
    """
    if event.kind == WebhookEvent.Kind.OPT_OUT:
        return Fact(opt_out_received, WebhookEvent, {"contact": event.contact, "event": event})
    message = event.message
    try:
        change = event.status_change
    except ObjectDoesNotExist:
        return None
    if message is None:
        return None
    if message.direction == Direction.INBOUND and not change.previous_status:
        return Fact(message_received, Message, {"message": message, "event": event})
    change.message = message  # the same object, also where the two were read from the database
    arguments = {"message": message, "status_change": change, "event": event}
    return Fact(status_changed, Message, arguments)


# The transaction


class _NoLongerInvalidError(Exception):
    """Another process has processed the event in the meantime."""


def _write(
    using: str,
    payloads: Sequence[Payload],
    origin: dict[str, Any],
    *,
    replaced: WebhookEvent | None = None,
) -> list[WebhookEvent]:
    """Write everything in one transaction. ``replaced`` is an event that exists already."""
    if replaced is None and len(payloads) == 1 and _is_common(payloads[0], using):
        return [_write_common(payloads[0], using, origin)]
    spoken_of = _messages_spoken_of(using, payloads)
    with transaction.atomic(using=using, durable=True):
        ledger = _Ledger(using, spoken_of)
        events = [
            ledger.enter(WebhookEvent(body=payload.raw, **origin), payload, spoken)
            for payload, spoken in zip(payloads, spoken_of, strict=True)
        ]
        if replaced is not None:
            _replace(using, replaced, events[0])
        _insert(using, events if replaced is None else events[1:])
        ledger.save()
    return events


def _messages_spoken_of(using: str, payloads: Sequence[Payload]) -> list[Message | None]:
    """Return for each payload the message that it speaks of, unsaved; ``None`` where there is none.

    A status report on an inbound message names only its id and sender, so its message is looked up:
    among the earlier payloads, else in the database, the latest one.
    """
    spoken_of: list[Message | None] = []
    for payload in payloads:
        if isinstance(payload, Invalid | OptOut):
            spoken_of.append(None)
        elif isinstance(payload, StatusReport) and payload.inbound:
            spoken_of.append(_inbound_message(using, payload, spoken_of))
        else:
            spoken_of.append(_named_message(payload))
    return spoken_of


def _named_message(payload: Reply | StatusReport) -> Message:
    """Return the message that the payload itself describes, unsaved and without a status."""
    if isinstance(payload, StatusReport):
        return Message.from_parts(
            Direction.OUTBOUND,
            cellcast_id=payload.cellcast_id,
            sender=payload.sender,
            receiver=payload.receiver,
        )
    return Message.from_parts(
        Direction.INBOUND,
        cellcast_id=payload.cellcast_id,
        sender=payload.sender,
        receiver=payload.receiver,
        body=payload.body,
        original_body=payload.original_body,
    )


def _inbound_message(
    using: str, report: StatusReport, earlier: Sequence[Message | None]
) -> Message | None:
    contact = normalise(report.sender, conf.default_region)
    wanted = (Direction.INBOUND.value, report.cellcast_id, contact)
    for message in reversed(earlier):
        if message and (message.direction, message.cellcast_id, message.contact) == wanted:
            return message
    found = (
        Message.objects.using(using)
        .inbound()
        .filter(cellcast_id=report.cellcast_id, contact=contact)
        .order_by("-created_at", "-pk")
        .first()
    )
    if found is not None:
        found.pk = None  # it is to be locked by its key, like the others
    return found


def _is_common(payload: Payload, using: str) -> TypeGuard[Reply | StatusReport]:
    """Whether the payload speaks of one documented status, and the database has a writer."""
    if isinstance(payload, Invalid | OptOut):
        return False
    if isinstance(payload, StatusReport) and payload.inbound:
        return False
    return payload.status in PRECEDENCE and connections[using].vendor in WRITERS


def _write_common(
    payload: Reply | StatusReport, using: str, origin: dict[str, Any]
) -> WebhookEvent:
    now = timezone.now()
    message = _named_message(payload)
    message.status = payload.status
    message.status_changed_at = now
    event = WebhookEvent(
        body=payload.raw,
        kind=_kind_of(payload),
        outcome=WebhookEvent.Outcome.STORED,
        cellcast_id=message.cellcast_id,
        contact=message.contact,
        **origin,
    )
    is_heard = status_changed.handlers(Message) or (
        isinstance(payload, Reply) and message_received.handlers(Message)
    )
    _schedule(event, now, is_heard=bool(is_heard))
    connection = connections[using]
    inbox_sql.write(connection, WRITERS[connection.vendor], message, event, now)
    return event


def _kind_of(payload: Reply | StatusReport) -> WebhookEvent.Kind:
    return WebhookEvent.Kind.REPLY if isinstance(payload, Reply) else WebhookEvent.Kind.STATUS


class _Ledger:
    """What the locked messages' histories hold, and the rows that this transaction adds."""

    def __init__(self, using: str, spoken_of: Iterable[Message | None]) -> None:
        self.using = using
        self.now = timezone.now()
        messages = [message for message in spoken_of if message is not None]
        self.messages = Message.objects.using(using).lock(messages) if messages else {}
        self.history = self._read_history()
        self.changes: list[StatusChange] = []
        self.changed_messages: set[Message] = set()

    def _read_history(self) -> set[tuple[int, str]]:
        with_history = [message.pk for message in self.messages.values() if message.status]
        if not with_history:
            return set()
        changes = StatusChange.objects.using(self.using).filter(message__in=with_history)
        return set(changes.values_list("message_id", "status"))

    def enter(
        self, event: WebhookEvent, payload: Payload, spoken_of: Message | None
    ) -> WebhookEvent:
        """Complete the event by what its payload says, and note what follows from it."""
        if isinstance(payload, Invalid):
            _mark_invalid(event, WebhookEvent.Kind.UNKNOWN, payload.reason)
        elif isinstance(payload, OptOut):
            event.kind = WebhookEvent.Kind.OPT_OUT
            event.contact = normalise(payload.number, conf.default_region)
            event.outcome = WebhookEvent.Outcome.STORED
            _schedule(event, self.now, is_heard=_is_heard(event))
        else:
            self._enter_status(event, payload, spoken_of)
        return event

    def _enter_status(
        self, event: WebhookEvent, payload: Reply | StatusReport, spoken_of: Message | None
    ) -> None:
        event.cellcast_id = payload.cellcast_id
        kind = _kind_of(payload)
        if spoken_of is None:
            event.contact = normalise(payload.sender, conf.default_region)
            _mark_invalid(event, kind, "There is no inbound message with this id and sender.")
            return
        message = self.messages[spoken_of.key]
        if message.fill_in_from(spoken_of):
            self.changed_messages.add(message)
        event.kind = kind
        event.contact = spoken_of.contact
        event.message = message
        if (message.pk, payload.status) in self.history:
            event.outcome = WebhookEvent.Outcome.DUPLICATE
            return
        event.outcome = WebhookEvent.Outcome.STORED
        self._add_change(event, message, payload.status)
        _schedule(event, self.now, is_heard=_is_heard(event))

    def _add_change(self, event: WebhookEvent, message: Message, status: str) -> None:
        change = StatusChange(
            message=message,
            status=status,
            previous_status=message.status,
            applied=supersedes(status, message.status),
            recorded_at=self.now,
            event=event,
        )
        self.changes.append(change)
        message.previous_status = message.status
        self.changed_messages.add(message)
        self.history.add((message.pk, status))
        if change.applied:
            message.status = status
            message.status_changed_at = change.recorded_at

    def save(self) -> None:
        """Write the history and the messages; the events must have been saved."""
        StatusChange.objects.using(self.using).bulk_create(self.changes)
        Message.objects.using(self.using).bulk_update(
            self.changed_messages,
            [
                "sender",
                "receiver",
                "contact",
                "original_body",
                "status",
                "previous_status",
                "status_changed_at",
            ],
        )


def _mark_invalid(event: WebhookEvent, kind: WebhookEvent.Kind, reason: str) -> None:
    event.kind = kind
    event.outcome = WebhookEvent.Outcome.INVALID
    event.error = reason


def _is_heard(event: WebhookEvent) -> bool:
    fact = fact_of(event)
    return fact is not None and bool(fact.signal.handlers(fact.sender))


def _schedule(event: WebhookEvent, now: datetime, *, is_heard: bool) -> None:
    """Plan the announcement, or note that nobody listens.

    Inline, the attempt begins right after the commit in this process, so it is counted and leased
    here already: that saves a write, and a crash in between is taken over when the lease is up.
    """
    if not is_heard:
        event.announced_at = now
    elif conf.announce_via == "inline":
        event.announce_attempts = 1
        event.announce_due_at = now + timedelta(seconds=conf.announce_lease)
    else:
        event.announce_due_at = now


def _insert(using: str, events: list[WebhookEvent]) -> None:
    objects = WebhookEvent.objects.using(using)
    if connections[using].features.can_return_rows_from_bulk_insert:
        objects.bulk_create(events)
    else:  # MySQL does not tell the ids of several rows
        for event in events:
            event.save(using=using, force_insert=True)


_REPLACED_FIELDS = (
    "kind",
    "outcome",
    "error",
    "body",
    "cellcast_id",
    "contact",
    "message",
    "announced_at",
    "announce_due_at",
    "announce_attempts",
)


def _replace(using: str, replaced: WebhookEvent, event: WebhookEvent) -> None:
    """Let ``event`` take the place of an invalid one, unless another process has been quicker."""
    values = {name: getattr(event, name) for name in _REPLACED_FIELDS}
    if not WebhookEvent.objects.using(using).invalid().filter(pk=replaced.pk).update(**values):
        raise _NoLongerInvalidError
    event.pk = replaced.pk
    event._state.adding = False
