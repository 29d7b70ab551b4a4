"""The rows that the portable way locks, and what its transaction adds to them.

Messages and their histories are locked first, then opt-outs. ``enter`` decides what each event is,
``save`` writes what follows.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db import connections

from cellcast_django.database.inserts import insert
from cellcast_django.inbox import recovered
from cellcast_django.inbox.fields import kind_of, reason_of
from cellcast_django.inbox.opt_outs import OptOuts, opt_out_contact
from cellcast_django.models import (
    Direction,
    Message,
    StatusChange,
    WebhookEvent,
    fields_when_stored,
)
from cellcast_django.payloads import Invalid, OptOut, Payload, Reply, StatusReport
from cellcast_django.signals import message_received, opt_out_received, status_changed
from cellcast_django.statuses import supersedes


class LockedRows:
    """The locked messages and opt-outs, the messages' histories, and what this transaction adds."""

    def __init__(
        self,
        using: str,
        named: dict[Reply | StatusReport, Message],
        now: datetime,
        *,
        have_just_arrived: bool,
    ) -> None:
        self.using = using
        self.now = now
        self.named = named
        self.messages: dict[str, Message] = {}
        self.history: set[tuple[int, str]] = set()
        self.inserted: set[Message] = set()
        if named:
            self._lock_messages({message.key: message for message in reversed(named.values())})
        self.opt_outs = OptOuts(using, have_just_arrived=have_just_arrived)
        self.changes: list[StatusChange] = []
        self.changed_messages: set[Message] = set()
        self.filled_in: set[str] = set()

    def _lock_messages(self, named: dict[str, Message]) -> None:
        """Insert the messages that have no row yet, lock all rows, and read them and their history.

        A row without history that has the status it would be inserted with is new. Until its first
        change is entered it has no status here, like one that ``record_sent`` has made.
        """
        Message.objects.using(self.using).lock(named.values())
        for row in _rows(self.using, list(named)):
            message = self.messages.setdefault(row.key, row)
            if row.reported is not None:
                self.history.add((message.pk, row.reported))
            elif message.status == named[message.key].status:
                message.status = ""
                self.inserted.add(message)

    def unite_with_recovered(self) -> None:
        """Find the new replies that were already stored, from a webhook or from the API."""
        for payload, named in self.named.items():
            if not isinstance(payload, Reply):
                continue
            message = self.messages[named.key]
            if message.status:  # it was there before
                continue
            other = recovered.find_other(self.using, payload, message, self.now)
            if other is not None:
                self.messages[named.key] = other
                self.history.add((other.pk, payload.status))

    def lock_opt_outs(self, payloads: Iterable[Payload]) -> None:
        """Lock the opt-outs of everybody the payloads opt out; call it after all other locks."""
        self.opt_outs.insert_and_lock(payloads)

    def enter(self, event: WebhookEvent, payload: Payload) -> WebhookEvent:
        """Fill in the event from its payload, and note what follows from it."""
        if isinstance(payload, Invalid):
            event.kind = WebhookEvent.Kind.UNKNOWN
            event.outcome = WebhookEvent.Outcome.INVALID
            event.error = payload.reason
        elif isinstance(payload, OptOut):
            self._enter_opt_out(event, payload)
        else:
            self._enter_status(event, payload)
        return event

    def _enter_opt_out(self, event: WebhookEvent, payload: OptOut) -> None:
        event.kind = WebhookEvent.Kind.OPT_OUT
        event.contact = opt_out_contact(payload)
        if not self.opt_outs.begin(event, payload):
            event.outcome = WebhookEvent.Outcome.DUPLICATE
            return
        event.outcome = WebhookEvent.Outcome.STORED
        self._plan(event, has_handlers=bool(opt_out_received.handlers(WebhookEvent)))

    def _enter_status(self, event: WebhookEvent, payload: Reply | StatusReport) -> None:
        named = self.named[payload]
        message = self.messages[named.key]
        if filled := message.fill_in_from(named):
            self.filled_in.update(filled)
            self.changed_messages.add(message)
        event.kind = kind_of(payload)
        event.cellcast_id = payload.cellcast_id
        event.contact = named.contact
        event.message = message
        is_new = (message.pk, payload.status) not in self.history
        begins = self.opt_outs.begin(event, payload)
        if not is_new and not begins:
            event.outcome = WebhookEvent.Outcome.DUPLICATE
            return
        event.outcome = WebhookEvent.Outcome.STORED
        handlers = opt_out_received.handlers(WebhookEvent) if begins else {}
        if not begins:  # so that its facts do not ask for one
            WebhookEvent._meta.get_field("opt_out_change").set_cached_value(event, None)
        if is_new:
            is_first = message.direction == Direction.INBOUND and not message.status
            handlers |= (message_received if is_first else status_changed).handlers(Message)
            self._add_change(event, message, payload)
        self._plan(event, has_handlers=bool(handlers))

    def _plan(self, event: WebhookEvent, *, has_handlers: bool) -> None:
        for name, value in fields_when_stored(self.now, has_handlers=has_handlers).items():
            setattr(event, name, value)

    def _add_change(
        self, event: WebhookEvent, message: Message, payload: Reply | StatusReport
    ) -> None:
        change = StatusChange(
            message=message,
            status=payload.status,
            previous_status=message.status,
            applied=supersedes(payload.status, message.status),
            reason=reason_of(payload),
            recorded_at=recovered.time_of(payload, self.now),
            event=event,
        )
        self.changes.append(change)
        message.previous_status = message.status
        if message in self.inserted:  # its row says so already
            self.inserted.remove(message)
        else:
            self.changed_messages.add(message)
        self.history.add((message.pk, change.status))
        if change.applied:
            message.status = change.status
            message.status_changed_at = change.recorded_at

    def save(self) -> None:
        """Write history, messages and opt-outs; the events must have been saved."""
        for change in self.changes:
            change.event = change.event  # which has its id by now
        insert(self.using, self.changes)
        _update(
            self.using,
            self.changed_messages,
            ["status", "previous_status", "status_changed_at", *sorted(self.filled_in)],
        )
        self.opt_outs.save()


def _rows(using: str, keys: list[str]) -> Iterable[Any]:
    """Return each message once for each status in its history, ``reported``, or once with none."""
    placeholders = ", ".join(["%s"] * len(keys))
    return Message.objects.raw(f"{_select(using)} IN ({placeholders})", keys, using=using)


@cache
def _select(using: str) -> str:
    quote = connections[using].ops.quote_name
    message, history = quote(Message._meta.db_table), quote(StatusChange._meta.db_table)
    return (
        f"SELECT message.*, history.status AS reported FROM {message} AS message "
        f"LEFT JOIN {history} AS history ON history.message_id = message.id "
        f"WHERE message.{quote('key')}"
    )


MAX_UPDATES = 10
"""Up to this many statements are cheaper than one with a ``CASE`` for each message."""


def _update(using: str, messages: Collection[Message], names: Sequence[str]) -> None:
    """Save these fields, with one statement for all messages that get the same values."""
    objects = Message.objects.using(using)
    groups: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        groups[repr([getattr(message, name) for name in names])].append(message)
    if len(groups) > MAX_UPDATES:
        objects.bulk_update(messages, names)
        return
    for same in groups.values():
        values = {name: getattr(same[0], name) for name in names}
        objects.filter(pk__in=[message.pk for message in same]).update(**values)
