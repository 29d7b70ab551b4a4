"""What to prune: messages, events and opt-outs, by age or by contact."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from django.db.models import Exists, OuterRef, Q, QuerySet

from cellcast_django.conf import conf
from cellcast_django.contacts import normalise, number_pattern
from cellcast_django.models import (
    Message,
    OptOut,
    WebhookEvent,
    WebhookEventQuerySet,
    database_alias,
)
from cellcast_django.payloads import clean

BATCH_SIZE = 500
"""How many rows are locked, and in memory, at a time."""

MIN_SEARCHED_LENGTH = 6
"""Shorter phone numbers are not searched for in bodies: there they may be anything else."""

EMPTY_MESSAGE: dict[str, Any] = {
    **dict.fromkeys(("sender", "receiver", "contact", "body", "original_body"), ""),
    "media": [],
}
EMPTY_EVENT = dict.fromkeys(("body", "contact", "error"), "")


class Removed(NamedTuple):
    """How many messages and events were deleted or redacted."""

    messages: int
    events: int


class Kept(NamedTuple):
    """How many events were kept because they are pending, or have failed."""

    pending: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to prune: everything older than ``before``, everything about one contact, or both.

    A message is as old as the last event about it. Pending events are kept, failed ones too unless
    ``include_failed``, and so are their messages. ``number`` is the contact's, in any spelling.
    Events without a contact (invalid ones, or with the phone number in an unexpected place) are
    selected if their body contains it, together with their messages that have no contact. With
    ``redact``, rows already redacted are skipped. Opt-outs are kept, since they must outlive the
    messages; ``opt_outs`` selects that of the contact too. Raises ``ValueError`` without a time and
    a number, for an empty number, and for ``opt_outs`` without a number.
    """

    before: datetime | None = None
    number: str | None = field(default=None, repr=False)
    redact: bool = False
    include_failed: bool = False
    opt_outs: bool = False

    def __post_init__(self) -> None:
        if self.number is None and self.before is None:
            raise ValueError("Give a time, a phone number, or both.")
        if self.number is not None and not clean(self.number).strip():
            raise ValueError("The phone number is empty.")
        if self.opt_outs and self.number is None:
            raise ValueError("Opt-outs can be deleted only for one contact.")

    def messages(self) -> QuerySet[Message]:
        """Return the messages to prune."""
        messages = Message.objects.using(database_alias())
        blocking = self._unfinished
        if self.before is not None:
            messages = messages.filter(created_at__lt=self.before)
            blocking |= Q(received_at__gte=self.before)
        if self.number is not None:
            found = [message for _, message in self._found_by_body if message is not None]
            messages = messages.filter(Q(contact__in=self._contacts) | Q(contact="", pk__in=found))
        if self.redact:
            messages = messages.exclude(**EMPTY_MESSAGE)
        events = _events().filter(blocking, message=OuterRef("pk"))
        return messages.filter(~Exists(events))

    def events(self) -> list[WebhookEventQuerySet]:
        """Return the events to prune, in disjoint parts, each found by an index."""
        return [part.filter(~self._unfinished) for part in self._event_parts()]

    def ledger(self) -> QuerySet[OptOut]:
        """Return the opt-outs in question, whether or not ``opt_outs`` selects them."""
        opt_outs = OptOut.objects.using(database_alias())
        if self.number is None:
            return opt_outs
        opt_outs = opt_outs.filter(contact__in=self._contacts)
        unfinished = _events().filter(self._unfinished, pk=OuterRef("event_id"))
        return opt_outs.filter(~Exists(unfinished))

    def count(self) -> Removed:
        """Return how many rows there are to prune."""
        events = sum(part.count() for part in self.events())
        return Removed(messages=self.messages().count(), events=events)

    def kept(self) -> Kept:
        """Return how many events are kept although they are old enough, or about the contact."""
        parts = self._event_parts()
        pending = sum(part.pending().count() for part in parts)
        failed = 0 if self.include_failed else sum(part.failed().count() for part in parts)
        return Kept(pending=pending, failed=failed)

    @property
    def _unfinished(self) -> Q:
        """Events that are pending, and those that have failed unless these are included."""
        is_unfinished = Q(announce_due_at__isnull=False)
        if not self.include_failed:
            is_unfinished |= Q(outcome=WebhookEvent.Outcome.STORED)
        return Q(announced_at__isnull=True) & is_unfinished

    def _event_parts(self) -> list[WebhookEventQuerySet]:
        events = _events()
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
            others.filter(pk__in=[event for event, _ in self._found_by_body]).exclude(
                message__contact__in=self._contacts
            ),
        ]

    @cached_property
    def _contacts(self) -> set[str]:
        written = clean(self.number or "")
        return {written, written.strip(), normalise(written.strip(), conf.default_region)}

    @cached_property
    def _found_by_body(self) -> list[tuple[int, int | None]]:
        """The events without a contact whose body contains the number, with their messages."""
        written = clean(self.number or "").strip()
        if len(written) < MIN_SEARCHED_LENGTH:
            return []
        pattern = number_pattern(written, conf.default_region)
        events = _events().invalid() | _events().filter(contact="")
        rows = events.order_by("pk").values_list("pk", "message_id", "body")
        return [
            (pk, message)
            for pk, message, body in rows.iterator(chunk_size=BATCH_SIZE)
            if pattern.search(body)
        ]


def _events() -> WebhookEventQuerySet:
    return WebhookEvent.objects.using(database_alias())
