"""Delete personal data that is no longer needed, or redact it and keep the rows.

``AboutContact`` finds everything stored about one number. A ``Selection`` says what to prune, and
``prune`` does it in batches, each a short transaction: no table is locked for long, memory stays
flat, and an interrupted run continues where it stopped.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from operator import itemgetter
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import (
    Case,
    CharField,
    Exists,
    F,
    Max,
    Min,
    Model,
    OuterRef,
    ProtectedError,
    Q,
    QuerySet,
    RestrictedError,
    Value,
    When,
)
from django.db.models.functions import Cast, Concat

from cellcast_django.contacts import to_contact
from cellcast_django.database.transactions import with_retries
from cellcast_django.fold import State, fold
from cellcast_django.inbox.drafts import said_by
from cellcast_django.models import (
    Direction,
    HandlerCall,
    Message,
    OptOut,
    StatusChange,
    WebhookEvent,
    WebhookEventQuerySet,
    database_alias,
)
from cellcast_django.payloads import (
    Endpoint,
    Reply,
    StatusReport,
    clean,
    read,
)
from cellcast_django.statuses import supersedes

BATCH_SIZE = 500  # how many rows are locked, and in memory, at a time

BATCH_SECONDS = 60
"""How long a failed batch is retried: longer than a webhook, as nobody waits for a response."""


@dataclass(frozen=True)
class Pruned:
    """How many rows were deleted or redacted."""

    messages: int = 0
    events: int = 0
    opt_outs: int = 0
    protected_by: str = ""
    """Django's sentence about a row that one of your own models forbids deleting: it is kept."""

    @property
    def rows(self) -> int:
        return self.messages + self.events + self.opt_outs

    def plus(self, other: "Pruned") -> "Pruned":
        return Pruned(
            self.messages + other.messages,
            self.events + other.events,
            self.opt_outs + other.opt_outs,
            self.protected_by or other.protected_by,
        )


class Kept(NamedTuple):
    """How many events were kept because they are pending, or have failed."""

    pending: int
    failed: int


@dataclass(frozen=True)
class AboutContact:
    """Everything filed under one contact's number, in any spelling.

    An event is filed under its own contact, or under its message's if it has none. One that could
    not be understood is filed under nobody. Raises ``ValueError`` for an empty number.
    """

    number: str = field(repr=False)

    def __post_init__(self) -> None:
        if not clean(self.number).strip():
            raise ValueError("The contact's number is empty.")

    @cached_property
    def contacts(self) -> set[str]:
        """How the contact may be stored."""
        written = clean(self.number)
        return {written, written.strip(), to_contact(written.strip())}

    def messages(self, messages: QuerySet[Any]) -> QuerySet[Any]:
        return messages.filter(contact__in=self.contacts)

    def events(self, events: QuerySet[Any]) -> list[QuerySet[Any]]:
        """Narrow to the contact's events, in disjoint parts, each found by an index."""
        return [
            events.filter(contact__in=self.contacts),
            events.filter(contact="", message__contact__in=self.contacts),
        ]

    def others_events(self, events: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to what names another contact, but is about a message of this one."""
        theirs = events.filter(message__contact__in=self.contacts)
        return theirs.exclude(contact__in=["", *self.contacts])

    def opt_outs(self, opt_outs: QuerySet[Any]) -> QuerySet[Any]:
        return opt_outs.filter(contact__in=self.contacts)


def not_understood() -> QuerySet[WebhookEvent]:
    """Return the events that are filed under nobody, whoever they name."""
    invalid = WebhookEvent.objects.fresh().filter(outcome=WebhookEvent.Outcome.INVALID)
    return invalid.exclude(body="")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to prune: everything older than ``before``, everything about one contact, or both.

    A message is as old as the last event about it. Pending events are kept, failed ones too unless
    ``include_failed``, and so are their messages. ``number`` is the contact's, as ``AboutContact``
    finds it. With ``redact``, rows already redacted are skipped. Opt-outs are kept, since they must
    outlive the messages; ``opt_outs`` selects that of the contact too. Raises ``ValueError``
    without a time and a number, for an empty number, and for ``opt_outs`` without a number.
    """

    before: datetime | None = None
    number: str | None = field(default=None, repr=False)
    redact: bool = False
    include_failed: bool = False
    opt_outs: bool = False

    def __post_init__(self) -> None:
        if self.opt_outs and self.number is None:
            raise ValueError("--opt-outs needs --contact: an opt-out must outlive messages.")
        if self.number is None and self.before is None:
            raise ValueError("Say what to prune: --older-than 90d, --contact NUMBER, or both.")
        _ = self._about  # refuses an empty number

    def messages(self) -> QuerySet[Message]:
        messages: QuerySet[Message] = Message.objects.fresh()
        blocking = self._is_kept
        if self.before is not None:
            messages = messages.filter(created_at__lt=self.before)
            blocking |= Q(received_at__gte=self.before)
        if self._about is not None:
            messages = self._about.messages(messages)
        if self.redact:
            messages = messages.exclude(**EMPTY_MESSAGE)
        events = WebhookEvent.objects.fresh().filter(blocking, message=OuterRef("pk"))
        return messages.filter(~Exists(events))

    def events(self) -> list[WebhookEventQuerySet]:
        """Return the events to prune, in disjoint parts, each found by an index."""
        return [part.filter(~self._is_kept) for part in self._event_parts()]

    def opt_out_rows(self) -> QuerySet[OptOut]:
        """Return the opt-out of the contact, whether or not ``opt_outs`` selects it."""
        if self._about is None:
            return OptOut.objects.fresh().none()
        kept = WebhookEvent.objects.fresh().filter(self._is_kept, pk=OuterRef("event_id"))
        return self._about.opt_outs(OptOut.objects.fresh()).filter(~Exists(kept))

    def count(self) -> Pruned:
        return Pruned(
            messages=self.messages().count(),
            events=sum(part.count() for part in self.events()),
            opt_outs=self.opt_out_rows().count() if self.opt_outs else 0,
        )

    def kept(self) -> Kept:
        """Return how many events are kept although they are old enough, or about the contact."""
        parts = self._event_parts()
        if self._about is not None:  # what is unfinished of others' keeps the message that it needs
            parts.append(self._about.others_events(self._candidates()))
        pending = sum(part.pending().count() for part in parts)
        failed = 0 if self.include_failed else sum(part.failed().count() for part in parts)
        return Kept(pending=pending, failed=failed)

    @cached_property
    def _about(self) -> AboutContact | None:
        return None if self.number is None else AboutContact(self.number)

    @property
    def _is_kept(self) -> Q:
        """Events that are pending, deferred ones too, and failed ones unless these are included."""
        calls = HandlerCall.objects.fresh().filter(event=OuterRef("pk"))
        is_kept = Q(Exists(calls.unfinished())) | Q(outcome=WebhookEvent.Outcome.DEFERRED)
        return is_kept if self.include_failed else is_kept | Q(Exists(calls.failed()))

    def _event_parts(self) -> list[Any]:
        if self._about is None:
            return [self._candidates()]
        return self._about.events(self._candidates())

    def _candidates(self) -> WebhookEventQuerySet:
        events = WebhookEvent.objects.fresh()
        if self.before is not None:
            events = events.filter(received_at__lt=self.before)
        return events.exclude(**EMPTY_EVENT) if self.redact else events


Remove = Callable[[str, list[int]], Pruned]
"""Removes the rows with these primary keys from the database with this alias."""

Part = tuple[QuerySet[Any], str, Remove]
"""Rows to remove, and the field in whose order they are locked."""

Progress = Callable[[Pruned], object]
"""Called after each batch with what has been removed so far."""


def prune(selection: Selection, *, progress: Progress = lambda pruned: None) -> Pruned:
    """Delete or redact what is selected, in batches that each commit; return what became of it.

    Deleting a message deletes its history and events too, and whatever ``on_delete`` takes of your
    own models; an event that is filed under another contact stays, without the message. A row that
    one of your models protects is kept. Redacting empties a message's phone numbers, texts and
    media, the reasons in its history, and an event's body, contact, error and what its calls know
    of them; counts, statuses, times and Cellcast's ids stay. An outbound message keeps its
    ``key``, a digest of its id alone, so that a late report still finds the row (what the report
    fills in is redacted once it is old enough). The ``key`` of a reply is replaced: number and text
    could be guessed from it. If the same reply arrives once more, it therefore counts as new.

    Raises ``django.db.Error`` when the database refuses. The batches before that stay committed.
    """
    of_events = redact_events if selection.redact else delete_events
    of_messages = redact_messages if selection.redact else delete_messages
    parts: list[Part] = [
        *((part, "pk", of_events) for part in selection.events()),
        # As webhooks lock them: in any other order, an array of late reports deadlocks.
        (selection.messages(), "key", of_messages),
    ]
    if selection.opt_outs:
        parts.append((selection.opt_out_rows(), "contact", delete_opt_outs))
    return _remove(parts, progress)


def _remove(parts: Iterable[Part], progress: Progress) -> Pruned:
    pruned = Pruned()
    for rows, lock_order, remove in parts:
        for pks in _batches(rows, lock_order):
            pruned = pruned.plus(_remove_unless_protected(rows, pks, lock_order, remove))
            progress(pruned)
    return pruned


def _remove_unless_protected(
    rows: QuerySet[Any], pks: list[int], lock_order: str, remove: Remove
) -> Pruned:
    """Remove these rows; if some are protected, halve them until only those are left."""

    def lock_and_remove(using: str) -> Pruned:
        with transaction.atomic(using=using):
            return remove(using, _lock(rows, pks, lock_order))

    try:
        return with_retries(lock_and_remove, using=database_alias(), for_seconds=BATCH_SECONDS)
    except (ProtectedError, RestrictedError) as error:
        if len(pks) == 1:
            return Pruned(protected_by=str(error.args[0]))
    middle = len(pks) // 2
    first = _remove_unless_protected(rows, pks[:middle], lock_order, remove)
    return first.plus(_remove_unless_protected(rows, pks[middle:], lock_order, remove))


def _batches(rows: QuerySet[Any], lock_order: str) -> Iterator[list[int]]:
    """Yield the primary keys of each batch, in the order of ``lock_order``, a field."""
    bounds = rows.aggregate(first=Min("pk"), last=Max("pk"))
    if bounds["last"] is None:
        return
    start, last = bounds["first"], bounds["last"]
    while True:
        ahead = rows.filter(pk__gte=start, pk__lte=last).order_by("pk")
        batch = list(ahead.values_list("pk", lock_order)[:BATCH_SIZE])
        if batch:
            # Each row is (pk, lock_order), or just (pk,) if that is the order.
            yield [row[0] for row in sorted(batch, key=itemgetter(-1))]
        if len(batch) < BATCH_SIZE:
            return
        start = batch[-1][0] + 1


def _lock(rows: QuerySet[Any], pks: list[int], lock_order: str) -> list[int]:
    """Lock these rows, and return those that are still selected."""
    candidates = rows.model.objects.using(rows.db).filter(pk__in=pks)
    # A write that changes nothing: on SQLite, a transaction that reads first may fail to write.
    candidates.filter(pk=pks[0]).update(id=F("id"))
    list(candidates.order_by(lock_order).select_for_update().values_list("pk"))
    return list(rows.filter(pk__in=pks).values_list("pk", flat=True))


# Taking events back


def take_back(events: Iterable[int], *, progress: Progress = lambda pruned: None) -> Pruned:
    """Delete these events and what only they made, as if they had never come.

    Messages that nothing else speaks of go: no other event, and not ``record_sent``. A status that
    another event repeats stays, with that event. Statuses are computed anew, and what the events
    had filled in is read from the others; where those are redacted or pruned, it is kept. Opt-outs
    are left: only people end them.

    In batches, a message and its events in the same. A message that one of your own models protects
    is kept, with its events. Calls no handler. Safe to interrupt and to repeat. Raises
    ``django.db.Error`` when the database refuses.
    """
    return _remove(_parts_of(set(events)), progress)


def _parts_of(taken: set[int]) -> Iterator[Part]:
    for some in _slices(sorted(taken)):
        named = WebhookEvent.objects.fresh().filter(pk__in=some)
        about = named.exclude(message=None).values("message")
        yield named.filter(message=None), "pk", delete_events
        yield Message.objects.fresh().filter(pk__in=about), "key", partial(_undo, taken=taken)


@dataclass(frozen=True)
class Effects:
    """What events have done that ``take_back`` would undo, and what it would not."""

    pruned: Pruned
    handlers: set[str]
    """The names of the handlers that had been told of them."""
    opt_outs: int
    """How many opt-outs they began that stand."""


def effects_of(events: Iterable[int]) -> Effects:
    """Return what these events have done."""
    taken = set(events)
    messages: set[int | None] = set()
    handlers: set[str] = set()
    opt_outs = gone = 0
    for some in _slices(sorted(taken)):
        rows = WebhookEvent.objects.fresh().filter(pk__in=some)
        messages.update(rows.values_list("message_id", flat=True))
        told = HandlerCall.objects.fresh().filter(event__in=some, attempts__gt=0)
        handlers.update(told.values_list("handler", flat=True))
        opt_outs += OptOut.objects.fresh().active().filter(event__in=some).count()
    for pks in _slices([pk for pk in messages if pk is not None]):
        gone += len(set(pks) - _spoken_of(database_alias(), pks, taken))
    return Effects(Pruned(gone, len(taken)), handlers, opt_outs)


def _spoken_of(using: str, pks: list[int], taken: set[int]) -> set[int]:
    """Return those of the messages that something else than the taken events speaks of."""
    events = WebhookEvent.objects.using(using).filter(message__in=pks)
    pruned = StatusChange.objects.using(using).filter(message__in=pks, event=None)
    recorded = Message.objects.using(using).filter(pk__in=pks, recorded_at__isnull=False)
    found = events.values_list("pk", "message_id").iterator()
    return {
        *(message for event, message in found if event not in taken and message is not None),
        *pruned.values_list("message_id", flat=True),
        *recorded.values_list("pk", flat=True),
    }


def _slices(pks: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(pks), BATCH_SIZE):
        yield pks[start : start + BATCH_SIZE]


def _undo(using: str, pks: list[int], *, taken: set[int]) -> Pruned:
    """Undo what the taken events did to these messages, which are locked."""
    messages = Message.objects.using(using).filter(pk__in=pks)
    events = WebhookEvent.objects.using(using).filter(message__in=pks)
    spoken_of = _spoken_of(using, pks, taken)
    rest = {message.pk: _Rest(message) for message in messages if message.pk in spoken_of}
    heard = events.filter(message__in=rest).order_by("pk").values_list("pk", flat=True)
    for some in _slices(list(heard)):
        for event in events.filter(pk__in=some).order_by("pk"):
            rest[event.message_id or 0].hear(event, is_taken=event.pk in taken)
    _restore(using, rest, taken)
    gone = [pk for pk in events.values_list("pk", flat=True) if pk in taken]
    deleted = sum(delete_events(using, some).events for some in _slices(gone))
    return Pruned(delete(messages.exclude(pk__in=spoken_of)), deleted)


def _restore(using: str, rest: "dict[int, _Rest]", taken: set[int]) -> None:
    """Save these messages and their history without the taken events."""
    history = StatusChange.objects.using(using).filter(message__in=rest)
    for change in history.order_by("pk"):
        rest[change.message_id].history.append(change)
    for some in _slices([pk for each in rest.values() for pk in each.restore(taken)]):
        history.filter(pk__in=some).delete()
    left = [change for each in rest.values() for change in each.history]
    history.bulk_update(left, ["event", "reason", "previous_status", "applied"])
    claimed = {name for each in rest.values() for name in each.claimed}
    Message.objects.using(using).bulk_update(
        [each.message for each in rest.values()],
        ["status", "status_changed_at", *sorted(claimed)],
    )


MAY_BE_FILLED_IN = ("sender", "own_number")
"""Of a recorded message; the rest is what ``record_sent`` said."""


@dataclass
class _Rest:
    """A message, and what the events say of it that are not taken back."""

    message: Message = field(repr=False)
    history: list[StatusChange] = field(default_factory=list)
    said: State | None = field(default=None, repr=False)
    """What the other events fill in."""
    first_with: dict[str, tuple[int, str]] = field(default_factory=dict, repr=False)
    """The first of the other events that reports a status, and its reason."""
    is_readable: bool = True
    claimed: set[str] = field(default_factory=set)
    """The fields whose value a taken event may have filled in."""

    def hear(self, event: WebhookEvent, *, is_taken: bool) -> None:
        """Add one of the message's events; call it in the order of their keys."""
        payload = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))[0]
        if not isinstance(payload, Reply | StatusReport):
            self.is_readable &= is_taken
            return
        said = said_by(payload, event.received_at)
        if is_taken:
            names = Message.REPORTED if self.message.recorded_at is None else MAY_BE_FILLED_IN
            known = {name: said.values.get(name) for name in names}
            same = {name for name in names if known[name] == getattr(self.message, name)}
            self.claimed |= {name for name in same if known[name]}
            return
        self.said, _ = fold(self.said, said)
        self.first_with.setdefault(said.status, (event.pk, said.details.get("reason", "")))

    def restore(self, taken: set[int]) -> set[int]:
        """Compute the message and its history without the taken events; return the rows to go."""
        known = {change.event_id for change in self.history}
        theirs = [change for change in self.history if change.event_id in taken]
        for change in theirs:
            other, change.reason = self.first_with.get(change.status, (None, ""))
            change.event_id = None if other in known else other
        gone = {change.pk for change in theirs if change.event_id is None}
        self.history = [change for change in self.history if change.pk not in gone]
        if len(gone) < len(theirs):  # some came with another event, after others
            self.history.sort(key=lambda change: (change.event_id or 0, change.pk))
        message = self.message
        message.status, message.status_changed_at = "", None
        for change in self.history:
            change.previous_status = message.status
            change.applied = supersedes(change.status, message.status)
            if change.applied:
                message.status, message.status_changed_at = change.status, change.recorded_at
        is_whole = self.is_readable and None not in known
        for name in self.claimed:
            value = None if self.said is None else self.said.values.get(name)
            if value or is_whole:
                setattr(message, name, value or getattr(Message(), name))
        return gone


# Deleting and redacting


def _empty(model: type[Model], names: Iterable[str]) -> dict[str, Any]:
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    return {field.name: field.get_default() for field in fields}


EMPTY_MESSAGE = _empty(Message, [*Message.REPORTED, "reference"])
EMPTY_EVENT = _empty(WebhookEvent, WebhookEvent.PERSONAL)

_KEY_WITHOUT_PERSON = Case(
    When(
        direction=Direction.INBOUND,
        then=Concat(Value("redacted-"), Cast("pk", CharField(max_length=19))),
    ),
    default=F("key"),
    output_field=CharField(),
)


def delete_messages(using: str, pks: list[int]) -> Pruned:
    """Delete these messages, with their history and the events that are filed under them."""
    events = delete(_events_of(using, pks))
    return Pruned(delete(Message.objects.using(using).filter(pk__in=pks)), events)


def _events_of(using: str, pks: list[int]) -> QuerySet[WebhookEvent]:
    """Return the messages' events, but not those that are filed under another contact."""
    filed = Q(contact="") | Q(contact=F("message__contact"))
    return WebhookEvent.objects.using(using).filter(filed, message__in=pks)


def delete_events(using: str, pks: list[int]) -> Pruned:
    """Delete these events."""
    return Pruned(0, delete(WebhookEvent.objects.using(using).filter(pk__in=pks)))


def delete_opt_outs(using: str, pks: list[int]) -> Pruned:
    """Delete these opt-outs with their history."""
    return Pruned(opt_outs=delete(OptOut.objects.using(using).filter(pk__in=pks)))


def delete(rows: QuerySet[Any]) -> int:
    """Delete the rows and whatever depends on them; return how many rows of this model."""
    _, deleted = rows.delete()
    return deleted.get(rows.model._meta.label, 0)


def redact_messages(using: str, pks: list[int]) -> Pruned:
    """Redact these messages, with their history and the events that are filed under them."""
    events = _events_of(using, pks).exclude(**EMPTY_EVENT)
    redacted = redact_events(using, list(events.values_list("pk", flat=True)))
    _redact_reasons(using, Q(message__in=pks))
    messages = Message.objects.using(using).filter(pk__in=pks)
    return replace(redacted, messages=messages.update(**EMPTY_MESSAGE, key=_KEY_WITHOUT_PERSON))


def redact_events(using: str, pks: list[int]) -> Pruned:
    """Redact these events, and the reasons that they reported."""
    events = WebhookEvent.objects.using(using).filter(pk__in=pks)
    calls = HandlerCall.objects.using(using).filter(event__in=pks)
    for call in calls.exclude(error=""):
        calls.filter(pk=call.pk).update(error=call.error.partition(":")[0])
    calls.exclude(contact="").update(contact="")
    _redact_reasons(using, Q(event__in=pks))
    return Pruned(0, events.update(**EMPTY_EVENT))


def _redact_reasons(using: str, which: Q) -> None:
    StatusChange.objects.using(using).filter(which).exclude(reason="").update(reason="")
