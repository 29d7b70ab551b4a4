"""Delete personal data that is no longer needed, or redact it, in batches that each commit."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from operator import itemgetter
from typing import Any, NamedTuple

from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Cast, Concat

from cellcast_django.contacts import to_contact
from cellcast_django.database.transactions import with_retries
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
from cellcast_django.payloads import clean

BATCH_SIZE = 500  # how many rows are locked, and in memory, at a time
BATCH_SECONDS = 60  # how long a failed batch is retried: nobody waits for a response


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
        messages, events = self.messages + other.messages, self.events + other.events
        opt_outs = self.opt_outs + other.opt_outs
        return Pruned(messages, events, opt_outs, self.protected_by or other.protected_by)


class Kept(NamedTuple):
    """How many events were kept: with an unfinished call, with a failed one, and deferred ones."""

    pending: int
    failed: int
    deferred: int = 0


@dataclass(frozen=True)
class AboutContact:
    """Everything filed under one contact's number, in any spelling.

    An event without a contact is filed under its message's. An empty number is a ``ValueError``.
    """

    number: str = field(repr=False)

    def __post_init__(self) -> None:
        if not clean(self.number).strip():
            raise ValueError("The contact's number is empty.")

    @cached_property
    def contacts(self) -> set[str]:
        written = clean(self.number)
        return {written, written.strip(), to_contact(written.strip())}

    def rows(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(contact__in=self.contacts)

    def events(self, events: QuerySet[Any]) -> list[QuerySet[Any]]:
        """Narrow to the contact's events, in disjoint parts, each found by an index."""
        under_message = events.filter(contact="", message__contact__in=self.contacts)
        return [self.rows(events), under_message]


def not_understood() -> QuerySet[WebhookEvent]:
    """Return the events that are filed under nobody, whoever they name."""
    invalid = WebhookEvent.objects.fresh().filter(outcome=WebhookEvent.Outcome.INVALID)
    return invalid.exclude(body="")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to prune: everything older than ``before``, everything about one contact, or both.

    A message is as old as the last event about it. Pending events are kept, failed ones too unless
    ``include_failed``, and so are their messages. With ``redact``, rows already redacted are
    skipped. Opt-outs must outlive the messages; ``opt_outs`` selects the contact's own. Raises
    ``ValueError`` for what says nothing, or ``opt_outs`` without a number.
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
        if self.number is not None:
            AboutContact(self.number)  # raises ValueError for an empty one

    def messages(self) -> QuerySet[Message]:
        messages: QuerySet[Message] = Message.objects.fresh()
        blocking = self._is_kept
        if self.before is not None:
            messages = messages.filter(created_at__lt=self.before)
            blocking |= Q(received_at__gte=self.before)
        if self._about is not None:
            messages = self._about.rows(messages)
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
        return self._about.rows(OptOut.objects.fresh()).filter(~Exists(kept))

    def count(self) -> Pruned:
        events = sum(part.count() for part in self.events())
        opt_outs = self.opt_out_rows().count() if self.opt_outs else 0
        return Pruned(self.messages().count(), events, opt_outs)

    def kept(self) -> Kept:
        """Return how many events are kept although they are old enough, or about the contact."""
        parts = self._event_parts()
        if self._about is not None:
            # An event that is filed under another contact keeps a message of this one, too.
            contacts = self._about.contacts
            about_messages = self._candidates().filter(message__contact__in=contacts)
            parts.append(about_messages.exclude(contact__in=["", *contacts]))
        deferred = sum(part.deferred().count() for part in parts)
        # pending() has the deferred ones as well.
        pending = sum(part.pending().count() for part in parts) - deferred
        failed = 0 if self.include_failed else sum(part.failed().count() for part in parts)
        return Kept(pending=pending, failed=failed, deferred=deferred)

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
        candidates = self._candidates()
        return [candidates] if self._about is None else self._about.events(candidates)

    def _candidates(self) -> WebhookEventQuerySet:
        events = WebhookEvent.objects.fresh()
        if self.before is not None:
            events = events.filter(received_at__lt=self.before)
        return events.exclude(**EMPTY_EVENT) if self.redact else events


Remove = Callable[[str, list[int]], Pruned]
"""Removes the rows with these primary keys from the database with this alias."""
Progress = Callable[[Pruned], object]
"""Called after each batch with what has been removed so far."""


class Part(NamedTuple):
    """Rows of one model to remove."""

    rows: QuerySet[Any]
    lock_order: str
    """The field in whose order they are locked."""
    remove: Remove


def prune(selection: Selection, *, progress: Progress = lambda pruned: None) -> Pruned:
    """Delete or redact what is selected, in batches that each commit; return what became of it.

    Deleting a message deletes its history and events too, and whatever ``on_delete`` takes of your
    own models; an event that is filed under another contact stays, without the message. A row that
    one of your models protects is kept. Redacting leaves counts, statuses, times and Cellcast's
    ids; an outbound message keeps its ``key``, by which a late report finds it, but not a reply,
    whose number and text could be guessed from it.

    Raises ``django.db.Error`` when the database refuses. The batches before that stay committed.
    """
    of_events = _redact_events if selection.redact else delete_events
    of_messages = _redact_messages if selection.redact else _delete_messages
    parts = [
        *(Part(events, "pk", of_events) for events in selection.events()),
        # As webhooks lock them: in any other order, an array of late reports deadlocks.
        Part(selection.messages(), "key", of_messages),
    ]
    if selection.opt_outs:
        parts.append(Part(selection.opt_out_rows(), "contact", _delete_opt_outs))
    return remove(parts, progress)


def remove(parts: Iterable[Part], progress: Progress) -> Pruned:
    """Remove rows in batches, each in a transaction of its own."""
    pruned = Pruned()
    for part in parts:
        for pks in _batches(part):
            pruned = pruned.plus(_remove_unless_protected(part, pks))
            progress(pruned)
    return pruned


def _batches(part: Part) -> Iterator[list[int]]:
    """Yield the primary keys of each batch in the order in which they are locked."""
    # What comes meanwhile is for the next run.
    last = part.rows.aggregate(pk=models.Max("pk"))["pk"]
    start = 0
    while last is not None:
        ahead = part.rows.filter(pk__gte=start, pk__lte=last).order_by("pk")
        batch = list(ahead.values("pk", part.lock_order)[:BATCH_SIZE])
        if batch:
            yield [row["pk"] for row in sorted(batch, key=itemgetter(part.lock_order))]
            start = batch[-1]["pk"] + 1
        if len(batch) < BATCH_SIZE:
            break


def _remove_unless_protected(part: Part, pks: list[int]) -> Pruned:
    """Remove these rows; if some are protected, halve them until only those are left."""
    lock_and_remove = partial(_lock_and_remove, part, pks)
    try:
        return with_retries(lock_and_remove, using=database_alias(), for_seconds=BATCH_SECONDS)
    except (models.ProtectedError, models.RestrictedError) as error:
        if len(pks) == 1:
            return Pruned(protected_by=str(error.args[0]))
    middle = len(pks) // 2
    first = _remove_unless_protected(part, pks[:middle])
    return first.plus(_remove_unless_protected(part, pks[middle:]))


def _lock_and_remove(part: Part, pks: list[int], using: str) -> Pruned:
    """Remove those of these rows that are still to go once they are locked."""
    with transaction.atomic(using=using):
        locked = part.rows.model.objects.using(using).filter(pk__in=pks)
        # A write that changes nothing: on SQLite, a transaction that reads first may fail to write.
        locked.filter(pk=pks[0]).update(id=F("id"))
        list(locked.order_by(part.lock_order).select_for_update().values_list("pk"))
        return part.remove(using, list(part.rows.filter(pk__in=pks).values_list("pk", flat=True)))


def _emptied(model: type[models.Model], names: Iterable[str]) -> dict[str, Any]:
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    return {field.name: field.get_default() for field in fields}


EMPTY_MESSAGE = _emptied(Message, [*Message.REPORTED, "reference", "handled_note"])
EMPTY_EVENT = _emptied(WebhookEvent, WebhookEvent.PERSONAL)

_KEY_WITHOUT_PERSON = Concat(models.Value("redacted-"), Cast("pk", models.CharField(max_length=19)))


def _delete_messages(using: str, pks: list[int]) -> Pruned:
    events = delete(_events_of(using, pks))
    return Pruned(delete(Message.objects.using(using).filter(pk__in=pks)), events)


def _events_of(using: str, pks: list[int]) -> QuerySet[WebhookEvent]:
    """Return the messages' events, but not those that are filed under another contact."""
    filed = Q(contact="") | Q(contact=F("message__contact"))
    return WebhookEvent.objects.using(using).filter(filed, message__in=pks)


def delete_events(using: str, pks: list[int]) -> Pruned:
    """Delete these events."""
    return Pruned(events=delete(WebhookEvent.objects.using(using).filter(pk__in=pks)))


def _delete_opt_outs(using: str, pks: list[int]) -> Pruned:
    return Pruned(opt_outs=delete(OptOut.objects.using(using).filter(pk__in=pks)))


def delete(rows: QuerySet[Any]) -> int:
    """Delete the rows and whatever depends on them; return how many rows of this model."""
    _, deleted = rows.delete()
    return deleted.get(rows.model._meta.label, 0)


def _redact_messages(using: str, pks: list[int]) -> Pruned:
    events = _events_of(using, pks).exclude(**EMPTY_EVENT)
    redacted = _redact_events(using, list(events.values_list("pk", flat=True)))
    _redact_reasons(using, Q(message__in=pks))
    messages = Message.objects.using(using).filter(pk__in=pks)
    messages.filter(direction=Direction.INBOUND).update(key=_KEY_WITHOUT_PERSON)  # see ``prune``
    return replace(redacted, messages=messages.update(**EMPTY_MESSAGE))


def _redact_events(using: str, pks: list[int]) -> Pruned:
    events = WebhookEvent.objects.using(using).filter(pk__in=pks)
    calls = HandlerCall.objects.using(using).filter(event__in=pks)
    for call in calls.exclude(error=""):
        kind = call.error.partition(":")[0]  # the text after it may quote a customer
        calls.filter(pk=call.pk).update(error=kind)
    calls.exclude(contact="").update(contact="")
    _redact_reasons(using, Q(event__in=pks))
    return Pruned(events=events.update(**EMPTY_EVENT))


def _redact_reasons(using: str, which: Q) -> None:
    StatusChange.objects.using(using).filter(which).exclude(reason="").update(reason="")
