"""The portable way to store what a webhook said: any number of events, on every database.

The transaction's first statement writes, and takes the lock on the messages' rows in the order of
their keys; those of opt-outs follow, in the order of their contacts. Whatever is decided is decided
under these locks.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connections, transaction
from django.utils import timezone

from cellcast_django.announcements.facts import is_heard
from cellcast_django.announcements.schedule import planned
from cellcast_django.conf import conf
from cellcast_django.contacts import normalise
from cellcast_django.inbox import recovered
from cellcast_django.inbox.single_statement.statement import Outbox
from cellcast_django.models import (
    Direction,
    Message,
    OptOut as StoredOptOut,
    StatusChange,
    WebhookEvent,
    message_values,
)
from cellcast_django.opt_outs import is_stop_word
from cellcast_django.payloads import (
    Endpoint,
    Invalid,
    OptOut,
    Payload,
    RecoveredReply,
    Reply,
    StatusReport,
)
from cellcast_django.statuses import supersedes


class NoLongerInvalidError(Exception):
    """Another process has processed the event in the meantime."""


def write(
    using: str,
    payloads: Sequence[Payload],
    origin: dict[str, Any],
    *,
    replaced: WebhookEvent | None = None,
    outbox: Outbox | None = None,
) -> list[WebhookEvent]:
    """Write everything in one transaction of its own, and return the events in the payloads' order.

    ``replaced`` is an invalid event whose place the first one takes; ``NoLongerInvalidError`` says
    that it is not invalid any more.
    """
    spoken_of = _messages_spoken_of(using, payloads)
    with transaction.atomic(using=using, durable=True):
        for payload, spoken in zip(payloads, spoken_of, strict=True):
            if isinstance(payload, RecoveredReply) and spoken is not None:
                recovered.lock_replies(using, payload, spoken.contact)
        ledger = _Ledger(using, spoken_of)
        if not origin["is_test"]:
            ledger.unite_with_recovered(payloads, spoken_of)
        ledger.lock_opt_outs(payloads, spoken_of)
        events = [
            ledger.enter(WebhookEvent(body=payload.raw, **origin), payload, spoken)
            for payload, spoken in zip(payloads, spoken_of, strict=True)
        ]
        if replaced is not None:
            _replace(using, replaced, events[0])
        _insert(using, events if replaced is None else events[1:])
        ledger.save()
        due = [event.pk for event in events if event.announce_due_at is not None]
        if outbox is not None and due:
            outbox(due)
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
            spoken_of.append(Message(**values_named_by(payload)))
    return spoken_of


def values_named_by(payload: Reply | StatusReport) -> dict[str, Any]:
    """Return the fields of the message that the payload itself describes, without a status."""
    if isinstance(payload, StatusReport):
        return message_values(
            Direction.OUTBOUND,
            cellcast_id=payload.cellcast_id,
            sender=payload.sender,
            receiver=payload.receiver,
        )
    values = message_values(
        Direction.INBOUND,
        cellcast_id=payload.cellcast_id,
        sender=payload.sender,
        receiver=payload.receiver,
        body=payload.body,
        original_body=payload.original_body,
    )
    if isinstance(payload, RecoveredReply):
        values |= recovered.identity(payload, values["contact"])
    return values


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


def kind_of(payload: Reply | StatusReport) -> WebhookEvent.Kind:
    """Return what an event with this payload speaks of."""
    return WebhookEvent.Kind.REPLY if isinstance(payload, Reply) else WebhookEvent.Kind.STATUS


def opt_out_contact(payload: Payload) -> str:
    """Return the contact whom the payload opts out, if it is news; empty where it is nobody."""
    if isinstance(payload, OptOut):
        return normalise(payload.number, conf.default_region)
    if isinstance(payload, Reply) and payload.sender.strip() and is_stop_word(payload.body):
        return normalise(payload.sender, conf.default_region)
    return ""


class _Ledger:
    """The locked messages, their histories, the locked opt-outs, and what this transaction adds."""

    def __init__(self, using: str, spoken_of: Iterable[Message | None]) -> None:
        self.using = using
        self.now = timezone.now()
        messages = [message for message in spoken_of if message is not None]
        self.messages = Message.objects.using(using).lock(messages) if messages else {}
        self.history = self._read_history()
        self.opt_outs: dict[str, StoredOptOut] = {}
        self.changes: list[StatusChange] = []
        self.changed_messages: set[Message] = set()
        self.begun_opt_outs: list[StoredOptOut] = []

    def _read_history(self) -> set[tuple[int, str]]:
        with_history = [message.pk for message in self.messages.values() if message.status]
        if not with_history:
            return set()
        changes = StatusChange.objects.using(self.using).filter(message__in=with_history)
        return set(changes.values_list("message_id", "status"))

    def unite_with_recovered(
        self, payloads: Iterable[Payload], spoken_of: Iterable[Message | None]
    ) -> None:
        """Find the new replies that are stored already, by a webhook or from the API."""
        for payload, spoken in zip(payloads, spoken_of, strict=True):
            if not isinstance(payload, Reply) or spoken is None:
                continue
            message = self.messages[spoken.key]
            if message.status:  # it was there before
                continue
            other = recovered.find_other(self.using, payload, message, self.now)
            if other is not None:
                self.messages[spoken.key] = other
                self.history.add((other.pk, payload.status))

    def lock_opt_outs(
        self, payloads: Iterable[Payload], spoken_of: Iterable[Message | None]
    ) -> None:
        """Lock the opt-outs of those whom the payloads opt out; follows all other locks."""
        contacts = set()
        for payload, spoken in zip(payloads, spoken_of, strict=True):
            is_news = spoken is None or not self.messages[spoken.key].status
            if is_news and (contact := opt_out_contact(payload)):
                contacts.add(contact)
        if contacts:
            self.opt_outs = StoredOptOut.objects.using(self.using).lock(contacts)

    def enter(
        self, event: WebhookEvent, payload: Payload, spoken_of: Message | None
    ) -> WebhookEvent:
        """Complete the event by what its payload says, and note what follows from it."""
        if isinstance(payload, Invalid):
            _mark_invalid(event, WebhookEvent.Kind.UNKNOWN, payload.reason)
        elif isinstance(payload, OptOut):
            self._enter_opt_out(event, payload)
        else:
            self._enter_status(event, payload, spoken_of)
        return event

    def _enter_opt_out(self, event: WebhookEvent, payload: OptOut) -> None:
        event.kind = WebhookEvent.Kind.OPT_OUT
        event.contact = opt_out_contact(payload)
        is_listed = event.endpoint == Endpoint.API
        source = StoredOptOut.Source.LIST if is_listed else StoredOptOut.Source.WEBHOOK
        if not self._begin(source, event, event.received_at):
            event.outcome = WebhookEvent.Outcome.DUPLICATE
            return
        event.outcome = WebhookEvent.Outcome.STORED
        self._plan(event)

    def _begin(self, source: StoredOptOut.Source, event: WebhookEvent, since: datetime) -> bool:
        opt_out = self.opt_outs[event.contact]
        if not opt_out.begin(source, since=since, event=event):
            return False
        self.begun_opt_outs.append(opt_out)
        return True

    def _enter_status(
        self, event: WebhookEvent, payload: Reply | StatusReport, spoken_of: Message | None
    ) -> None:
        event.cellcast_id = payload.cellcast_id
        kind = kind_of(payload)
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
        if not message.status and opt_out_contact(payload):
            since = min(event.received_at, message.created_at)
            self._begin(StoredOptOut.Source.REPLY, event, since)
        self._add_change(event, message, payload.status)
        self._plan(event)

    def _plan(self, event: WebhookEvent) -> None:
        for name, value in planned(self.now, heard=is_heard(event)).items():
            setattr(event, name, value)

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
        """Write history, messages and opt-outs; the events must have been saved."""
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
        StoredOptOut.objects.using(self.using).bulk_update(
            self.begun_opt_outs, ["source", "since", "event", "ended_at"]
        )


def _mark_invalid(event: WebhookEvent, kind: WebhookEvent.Kind, reason: str) -> None:
    event.kind = kind
    event.outcome = WebhookEvent.Outcome.INVALID
    event.error = reason


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
        raise NoLongerInvalidError
    event.pk = replaced.pk
    event._state.adding = False
