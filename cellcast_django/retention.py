"""Let go of what is no longer needed: delete it, or empty it of all that speaks of a person.

In batches, each a short transaction of its own: no table is locked for long, memory stays flat, and
what was interrupted goes on where it stopped when it is run again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

from django.db import models, router, transaction
from django.db.models import Case, Exists, F, Max, Min, OuterRef, Q, Value, When
from django.db.models.functions import Cast, Concat

from cellcast_django.conf import conf
from cellcast_django.contacts import normalise, spellings
from cellcast_django.database.retries import with_retries
from cellcast_django.models import (
    Direction,
    Message,
    OptOut,
    StatusChange,
    WebhookEvent,
    database_alias,
    error_type,
)
from cellcast_django.payloads import clean

BATCH_SIZE = 500
"""How many rows are locked, and in memory, at a time."""

MIN_SEARCHED_LENGTH = 6
"""A shorter number is not looked for in bodies: there it may stand for anything else."""

EMPTY_MESSAGE: dict[str, Any] = {
    **dict.fromkeys(("sender", "receiver", "contact", "body", "original_body"), ""),
    "media": [],
}
EMPTY_EVENT = dict.fromkeys(("body", "contact", "error"), "")


class Removed(NamedTuple):
    """How many messages and events were deleted or emptied."""

    messages: int
    events: int


class Kept(NamedTuple):
    """How many events were left alone: still to be announced, and given up by the handlers."""

    pending: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is to go: what is older than a time, what is about one contact, or what is both.

    A message is as old as the last event about it. Left alone is an event that is still to be
    announced, or that has failed and waits for a person (unless ``include_failed``), and so is its
    message. ``number`` is the contact's, in any spelling; events that name no contact, because they
    could not be understood or because of where Cellcast put the number, are selected when their
    body carries it, and so is a message without a contact that such an event is about. With
    ``redact``, what has been emptied already is passed over. Opt-outs are left alone, because a
    contact must not be texted for longer than messages are kept; ``opt_outs`` selects that of the
    contact too. Raises ``ValueError`` when neither time nor number is given, an empty number, or
    ``opt_outs`` without a number.
    """

    before: datetime | None = None
    number: str | None = field(default=None, repr=False)
    redact: bool = False
    include_failed: bool = False
    opt_outs: bool = False

    def __post_init__(self) -> None:
        if self.number is None and self.before is None:
            raise ValueError("Neither a time nor a number says what is to go.")
        if self.number is not None and not clean(self.number).strip():
            raise ValueError("The number is empty.")
        if self.opt_outs and self.number is None:
            raise ValueError("Opt-outs go one by one: say whose.")

    @property
    def using(self) -> str:
        """The alias of the database that holds the messages."""
        return router.db_for_write(Message)

    def messages(self) -> models.QuerySet[Message]:
        """Return the messages that are to go."""
        messages = Message.objects.using(self.using)
        blocking = self._waiting
        if self.before is not None:
            messages = messages.filter(created_at__lt=self.before)
            blocking |= Q(received_at__gte=self.before)
        if self.number is not None:
            carried = [message for _, message in self._carriers if message is not None]
            messages = messages.filter(
                Q(contact__in=self._contacts) | Q(contact="", pk__in=carried)
            )
        if self.redact:
            messages = messages.exclude(**EMPTY_MESSAGE)
        events = WebhookEvent.objects.using(self.using).filter(blocking, message=OuterRef("pk"))
        return messages.filter(~Exists(events))

    def events(self) -> list[models.QuerySet[WebhookEvent]]:
        """Return the events that are to go, in parts that share none: each is found by an index."""
        return [part.filter(~self._waiting) for part in self._event_parts()]

    def ledger(self) -> models.QuerySet[OptOut]:
        """Return the opt-outs that would be left alone, or go with ``opt_outs``."""
        opt_outs = OptOut.objects.using(self.using)
        if self.number is None:
            return opt_outs
        opt_outs = opt_outs.filter(contact__in=self._contacts)
        waiting = WebhookEvent.objects.using(self.using).filter(self._waiting)
        return opt_outs.filter(~Exists(waiting.filter(pk=OuterRef("event_id"))))

    def count(self) -> Removed:
        """Return how many rows there are to go."""
        events = sum(part.count() for part in self.events())
        return Removed(messages=self.messages().count(), events=events)

    def kept(self) -> Kept:
        """Return how many events are left alone, of those that are old enough or of the contact."""
        parts = self._event_parts()
        pending = sum(part.filter(_PENDING).count() for part in parts)
        failed = 0 if self.include_failed else sum(part.filter(_FAILED).count() for part in parts)
        return Kept(pending=pending, failed=failed)

    @property
    def _waiting(self) -> Q:
        return _PENDING if self.include_failed else _PENDING | _FAILED

    def _event_parts(self) -> list[models.QuerySet[WebhookEvent]]:
        events: models.QuerySet[WebhookEvent] = WebhookEvent.objects.using(self.using)
        if self.before is not None:
            events = events.filter(received_at__lt=self.before)
        if self.redact:
            events = events.exclude(**EMPTY_EVENT)
        if self.number is None:
            return [events]
        others = events.exclude(contact__in=self._contacts)
        return [
            events.filter(contact__in=self._contacts),
            others.filter(message__contact__in=self._contacts),
            others.filter(pk__in=[event for event, _ in self._carriers]).exclude(
                message__contact__in=self._contacts
            ),
        ]

    @cached_property
    def _contacts(self) -> set[str]:
        written = clean(self.number or "")
        return {written, written.strip(), normalise(written.strip(), conf.default_region)}

    @cached_property
    def _carriers(self) -> list[tuple[int, int | None]]:
        """The events that name no contact but whose body carries the number, and their messages."""
        written = clean(self.number or "").strip()
        if len(written) < MIN_SEARCHED_LENGTH:
            return []
        pattern = spellings(written, conf.default_region)
        events = WebhookEvent.objects.using(self.using).filter(_INVALID | Q(contact=""))
        rows = events.order_by("pk").values_list("pk", "message_id", "body")
        return [
            (pk, message)
            for pk, message, body in rows.iterator(chunk_size=BATCH_SIZE)
            if pattern.search(body)
        ]


_UNANNOUNCED = Q(announced_at__isnull=True)
_PENDING = _UNANNOUNCED & Q(announce_due_at__isnull=False)
_FAILED = _UNANNOUNCED & Q(announce_due_at__isnull=True, outcome=WebhookEvent.Outcome.STORED)
_INVALID = _UNANNOUNCED & Q(announce_due_at__isnull=True, outcome=WebhookEvent.Outcome.INVALID)


def prune(selection: Selection) -> Iterator[Removed]:
    """Delete or empty what is selected, and yield after each batch what it has removed.

    Deleted messages take their history and their events with them, and whatever your own models
    hang on them by ``on_delete``. Emptied are a message's numbers, texts and media, the reasons in
    its history, which may hold a number, and an event's body, contact, error and the texts of its
    handlers' errors; counts, statuses, times and Cellcast's ids stay. The ``key`` of an outbound
    message stays too, a digest of its id alone: a late report still finds the row (what it fills in
    again is emptied once the report is old enough). That of a reply is a digest of number and text,
    which could be guessed from it, so another one takes its place: the same reply, should it come
    again, counts as a new one.

    Every batch is a transaction and is committed when it is yielded. Raises ``django.db.Error``
    when the database refuses, and ``ProtectedError`` or ``RestrictedError`` when a model of yours
    forbids to delete a message; the batches before stay removed.
    """
    for part in selection.events():
        yield from _in_batches(part, "pk", _redact_events if selection.redact else _delete_events)
    remove = _redact_messages if selection.redact else _delete_messages
    # In the order in which webhooks lock them: in any other, an array of late reports deadlocks.
    yield from _in_batches(selection.messages(), "key", remove)


def forget_opt_outs(selection: Selection) -> int:
    """Delete the opt-out of the contact, if the selection says so; return how many there were.

    Call it after ``prune``. Raises ``django.db.Error`` when the database refuses.
    """
    if not selection.opt_outs:
        return 0
    return with_retries(
        lambda using: _delete(selection.ledger().using(using)), using=database_alias()
    )


# Batches


BATCH_SECONDS = 60
"""A batch that the database calls off is tried again for so long: nobody waits for a response."""

Remover = Callable[[str, list[int]], Removed]
"""Takes the alias of the database and the primary keys of rows that are locked."""


def _in_batches(rows: models.QuerySet[Any], lock_order: str, remove: Remover) -> Iterator[Removed]:
    for pks in _batches(rows, lock_order):

        def remove_batch(using: str, pks: list[int] = pks) -> Removed:
            with transaction.atomic(using=using):
                return remove(using, _lock(rows, pks, lock_order))

        yield with_retries(remove_batch, using=database_alias(), for_seconds=BATCH_SECONDS)


def _batches(rows: models.QuerySet[Any], lock_order: str) -> Iterator[list[int]]:
    """Yield the primary keys, range by range, each batch in the order of its locks."""
    bounds = rows.aggregate(first=Min("pk"), last=Max("pk"))
    if bounds["last"] is None:
        return
    start, last = bounds["first"], bounds["last"]
    while True:
        ahead = rows.filter(pk__gte=start, pk__lte=last).order_by("pk")
        batch = list(ahead.values_list("pk", lock_order)[:BATCH_SIZE])
        if batch:
            # In the order of the primary keys there is but one column.
            yield [row[0] for row in sorted(batch, key=itemgetter(-1))]
        if len(batch) < BATCH_SIZE:
            return
        start = batch[-1][0] + 1


def _lock(rows: models.QuerySet[Any], pks: list[int], lock_order: str) -> list[int]:
    """Lock these rows, then look again, and return those that are still selected."""
    candidates = rows.model.objects.using(rows.db).filter(pk__in=pks)
    # A write that changes nothing: on SQLite, a transaction that reads first cannot write later.
    candidates.filter(pk=pks[0]).update(cellcast_id=F("cellcast_id"))
    list(candidates.order_by(lock_order).select_for_update().values_list("pk"))
    return list(rows.filter(pk__in=pks).values_list("pk", flat=True))


def _delete_messages(using: str, pks: list[int]) -> Removed:
    events = _delete(WebhookEvent.objects.using(using).filter(message__in=pks))
    return Removed(_delete(Message.objects.using(using).filter(pk__in=pks)), events)


def _delete_events(using: str, pks: list[int]) -> Removed:
    return Removed(0, _delete(WebhookEvent.objects.using(using).filter(pk__in=pks)))


def _delete(rows: models.QuerySet[Any]) -> int:
    """Delete the rows of a batch, and whatever depends on them; return how many rows these were."""
    _, deleted = rows.delete()
    return deleted.get(rows.model._meta.label, 0)


_KEY_WITHOUT_PERSON = Case(
    When(
        direction=Direction.INBOUND,
        then=Concat(Value("redacted-"), Cast("pk", models.CharField(max_length=19))),
    ),
    default=F("key"),
    output_field=models.CharField(),
)


def _redact_messages(using: str, pks: list[int]) -> Removed:
    events = WebhookEvent.objects.using(using).filter(message__in=pks).exclude(**EMPTY_EVENT)
    removed = _redact_events(using, list(events.values_list("pk", flat=True)))
    _redact_reasons(using, Q(message__in=pks))
    messages = Message.objects.using(using).filter(pk__in=pks)
    return Removed(messages.update(**EMPTY_MESSAGE, key=_KEY_WITHOUT_PERSON), removed.events)


def _redact_events(using: str, pks: list[int]) -> Removed:
    events = WebhookEvent.objects.using(using).filter(pk__in=pks)
    for event in events.only("announcements").iterator(chunk_size=BATCH_SIZE):
        if event.handler_errors():
            for outcome in event.announcements.values():
                outcome["error"] = error_type(outcome["error"])
            event.save(using=using, update_fields=["announcements"])
    _redact_reasons(using, Q(event__in=pks))
    return Removed(0, events.update(**EMPTY_EVENT))


def _redact_reasons(using: str, which: Q) -> None:
    StatusChange.objects.using(using).filter(which).exclude(reason="").update(reason="")


def test_messages() -> models.QuerySet[Message]:
    """Return the messages that nothing but Test Sends has made: none that your code recorded."""
    using = database_alias()
    tests = WebhookEvent.objects.using(using).filter(is_test=True)
    keys = list(tests.exclude(message=None).values_list("message_id", flat=True).distinct())
    real = WebhookEvent.objects.using(using).filter(message=OuterRef("pk"), is_test=False)
    is_made_here = Q(direction=Direction.INBOUND) | Q(body="")
    return Message.objects.using(using).filter(is_made_here, ~Exists(real), pk__in=keys)


def delete_tests() -> Removed:
    """Delete the events of all Test Sends, and the messages that nothing else has made.

    Opt-outs are left alone, as always.
    """
    using = database_alias()
    with transaction.atomic(using=using):
        tests = WebhookEvent.objects.using(using).filter(is_test=True)
        messages = list(test_messages().values_list("pk", flat=True))
        number = tests.count()
        tests.delete()
        Message.objects.using(using).filter(pk__in=messages).delete()
    return Removed(messages=len(messages), events=number)
