"""From a payload to the columns of its message that have the same names, and to its event."""

from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from cellcast_django.contacts import to_contact
from cellcast_django.fold import Direction, Update, Values, message_key, values_of
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
from cellcast_django.payloads import Endpoint, Invalid, Listed, Payload, Reply, StatusReport, clean


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Arrival:
    """Where and when events arrived: ``now()`` for a request, ``of()`` for a stored event."""

    endpoint: str
    content_type: str
    received_as: str
    is_test: bool
    received_at: datetime
    time: datetime
    """Of their messages: later than ``received_at`` if they could not be read then."""
    has_just_arrived: bool
    """Whether they count as the newest, whatever the clocks say. What does not is compared by its
    time with what is known."""

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
            content_type=clean(content_type)[:MAX_CONTENT_TYPE_LENGTH],
            received_as=clean(str(received_as or ""))[:MAX_USERNAME_LENGTH],  # or a number
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

    key: str
    update: Update
    if_new: Values
    """The columns of the message that nothing which comes later changes."""
    may_be_there: bool
    """Whether the API may list the message, too: then it may be there already under another key."""


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
    update = _update_by(payload, arrival)
    contact = update.values["contact"]
    is_reply, is_opting_out = isinstance(payload, Reply), opts_out(payload)
    listed = listed_as(payload)
    created_at = arrival.time if listed is None else listed.received_at
    if_new: dict[str, Any] = {"created_at": created_at}
    if is_reply and (arrival.is_test or is_opting_out):
        if_new["handled_at"] = created_at  # nobody needs to answer it
    kind = WebhookEvent.Kind.REPLY if is_reply else WebhookEvent.Kind.STATUS
    event = {"kind": kind.value, "error": "", "contact": contact, "body": payload.raw}
    event["cellcast_id"] = update.values["cellcast_id"]
    return MessageDraft(
        key=update.values["key"],
        payload=payload,
        arrival=arrival,
        event=arrival.columns() | event,
        opts_out=contact if is_opting_out and not arrival.is_test else "",
        update=update,
        if_new=if_new,
        may_be_there=is_reply and contact != "" and not arrival.is_test,
    )


def _update_by(payload: Reply | StatusReport, arrival: Arrival) -> Update:
    direction = Direction.INBOUND if isinstance(payload, Reply) else Direction.OUTBOUND
    values = values_of(direction, **_common_values(payload, Message))
    at = arrival.time
    if isinstance(payload, StatusReport):
        at = min(at, payload.happened_at or at)
    else:
        values["key"] = _reply_key(payload, values, is_test=arrival.is_test)
    details = _common_values(payload, StatusChange)
    return Update(values=values, status=payload.status, details=details, at=at)


def _reply_key(reply: Reply, values: Values, *, is_test: bool) -> str:
    """Return the key of a reply's message: its own, unless it is listed or a test."""
    key: str = values["key"]
    if reply.listed is not None:
        # Its time identifies it. No webhook's reply has an empty id.
        listed_at = reply.listed.received_at.isoformat()
        identity = "", values["contact"], reply.body, listed_at, *reply.media
        key = message_key(Direction.INBOUND, *identity)
    # Without the word, a customer's reply that says the same would be a duplicate of the test.
    return message_key(Direction.INBOUND, "", "test", key) if is_test else key


def listed_as(payload: Payload) -> Listed | None:
    """Return a reply's place in the API's list, if it comes from there."""
    return payload.listed if isinstance(payload, Reply) else None


def key_of(report: StatusReport) -> str:
    """Return the key of the message that a report is about."""
    return message_key(Direction.OUTBOUND, report.cellcast_id)


def begin_opt_out(draft: Draft, opt_out: OptOut) -> OptOutChange | None:
    """Begin the locked opt-out that the draft asks for, unsaved; ``None`` if that is no change."""
    payload, arrival, listed = draft.payload, draft.arrival, listed_as(draft.payload)
    # Not ``arrival.time``: what is read late must not undo a decision made since it came.
    at = arrival.received_at if listed is None else min(arrival.received_at, listed.received_at)
    if isinstance(payload, Reply):
        source, text = OptOut.Source.REPLY, payload.body
    elif arrival.endpoint == Endpoint.API:
        source, text = OptOut.Source.LIST, payload.raw
    else:
        source, text = OptOut.Source.WEBHOOK, payload.raw
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
