"""From a payload to the columns of its message that have the same names, and to its event."""

from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from cellcast_django.contacts import to_contact
from cellcast_django.fold import Direction, Said, Values, message_key, values_of
from cellcast_django.models import (
    MAX_CONTENT_TYPE_LENGTH,
    MAX_USERNAME_LENGTH,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.opt_outs import opts_out
from cellcast_django.payloads import Endpoint, Invalid, Payload, Reply, StatusReport, clean

cleaned = lru_cache(maxsize=64)(clean)  # the same few headers come with every webhook


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Arrival:
    """How the events of one webhook arrived."""

    endpoint: str
    content_type: str
    received_as: str
    is_test: bool
    received_at: datetime
    time: datetime
    """When what they say is said."""
    has_just_arrived: bool
    """What comes from elsewhere has a time of its own, which says what it is older than."""

    COLUMNS: ClassVar = ("endpoint", "content_type", "received_as", "is_test", "received_at")

    @classmethod
    def now(
        cls,
        endpoint: Endpoint,
        content_type: str = "",
        received_as: str = "",
        is_test: bool = False,
    ) -> "Arrival":
        now = timezone.now()
        return cls(
            endpoint=endpoint.value,
            content_type=cleaned(content_type)[:MAX_CONTENT_TYPE_LENGTH],
            # Some user models have numbers for usernames.
            received_as=cleaned(str(received_as or ""))[:MAX_USERNAME_LENGTH],
            is_test=is_test,
            received_at=now,
            time=now,
            has_just_arrived=endpoint != Endpoint.API,
        )

    @classmethod
    def of(cls, event: WebhookEvent) -> "Arrival":
        columns = {name: getattr(event, name) for name in cls.COLUMNS}
        return cls(**columns, time=event.received_at, has_just_arrived=True)

    def columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.COLUMNS}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Draft:
    """One payload, and what it wants to write."""

    payload: Payload
    arrival: Arrival
    event: Values
    """The columns of its event that are known before anything is stored."""
    opts_out: str
    """The contact whom it opts out, if any: our own test opts nobody out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MessageDraft(Draft):
    """A reply or a report: it wants to write a message, too."""

    said: Said
    if_new: Values
    """The columns of the message that nothing which comes later changes."""
    may_be_stored: bool
    """Whether the message may be stored without an id: it has a contact and is no test."""

    @property
    def key(self) -> str:
        key: str = self.said.values["key"]
        return key


def draft(payload: Payload, arrival: Arrival) -> Draft:
    """Return what one payload wants to write."""
    if isinstance(payload, Reply | StatusReport):
        return draft_message(payload, arrival)
    if isinstance(payload, Invalid):
        kind, error, contact = WebhookEvent.Kind.UNKNOWN, payload.reason, ""
    else:
        kind, error, contact = WebhookEvent.Kind.OPT_OUT, "", to_contact(payload.number)
    event = {"kind": kind.value, "error": error, "contact": contact, "body": payload.raw}
    return Draft(
        payload=payload,
        arrival=arrival,
        event=arrival.columns() | event,
        opts_out="" if arrival.is_test else contact,
    )


def draft_message(payload: Reply | StatusReport, arrival: Arrival) -> MessageDraft:
    """Return what a reply or a report wants to write."""
    said = _said_by(payload, arrival)
    contact = said.values["contact"]
    is_reply, is_opting_out = isinstance(payload, Reply), opts_out(payload)
    kind = WebhookEvent.Kind.REPLY if is_reply else WebhookEvent.Kind.STATUS
    if_new: dict[str, Any] = {"created_at": arrival.time}
    if isinstance(payload, Reply):
        if payload.listed is not None:
            if_new["created_at"] = payload.listed.received_at
        if arrival.is_test or is_opting_out:
            if_new["handled_at"] = if_new["created_at"]  # nobody needs to answer it
    event = {"kind": kind.value, "error": "", "contact": contact, "body": payload.raw}
    event["cellcast_id"] = said.values["cellcast_id"]
    return MessageDraft(
        payload=payload,
        arrival=arrival,
        event=arrival.columns() | event,
        opts_out=contact if is_opting_out and not arrival.is_test else "",
        said=said,
        if_new=if_new,
        may_be_stored=is_reply and contact != "" and not arrival.is_test,
    )


def _said_by(payload: Reply | StatusReport, arrival: Arrival) -> Said:
    is_reply, time = isinstance(payload, Reply), arrival.time
    direction = Direction.INBOUND if is_reply else Direction.OUTBOUND
    values = values_of(direction, **_common_values(payload, Message))
    if isinstance(payload, Reply) and payload.listed is not None:
        # Its time identifies it. No webhook's reply has an empty id.
        listed_at = payload.listed.received_at.isoformat()
        identity = "", values["contact"], payload.body, listed_at, *payload.media
        values["key"] = message_key(direction, *identity)
    if is_reply and arrival.is_test:
        # Otherwise a customer's reply that says the same would be its duplicate.
        values["key"] = message_key(direction, "", "test", values["key"])
    if isinstance(payload, StatusReport) and payload.happened_at is not None:
        time = min(payload.happened_at, time)
    details = _common_values(payload, StatusChange)
    return Said(values=values, status=payload.status, details=details, at=time)


def key_of(report: StatusReport) -> str:
    """Return the key of the message that a report is about."""
    return message_key(Direction.OUTBOUND, report.cellcast_id)


def begin_opt_out(draft: Draft, opt_out: OptOut) -> OptOutChange | None:
    """Begin the locked opt-out that the draft asks for, unsaved; ``None`` if that is no change."""
    payload, arrival = draft.payload, draft.arrival
    source, at, text = OptOut.Source.WEBHOOK, arrival.received_at, payload.raw
    if isinstance(payload, Reply):
        source, text = OptOut.Source.REPLY, payload.body
        if payload.listed is not None:
            at = min(at, payload.listed.received_at)
    elif arrival.endpoint == Endpoint.API:
        source = OptOut.Source.LIST
    return opt_out.begin(
        source,
        at=at,
        has_just_arrived=arrival.has_just_arrived,
        text=text,
        received_as=arrival.received_as,
    )


def _common_values(source: Any, model: type[models.Model]) -> dict[str, Any]:
    """Return the fields that a dataclass has in common with a model, but not the status.

    Which status a message and its history get is decided when the report is folded in.
    """
    return {name: getattr(source, name) for name in _common_names(source.__class__, model)}


@cache
def _common_names(source: type, model: type[models.Model]) -> list[str]:
    columns = {each.name for each in model._meta.concrete_fields} - {"status"}
    return [each.name for each in fields(source) if each.name in columns]
