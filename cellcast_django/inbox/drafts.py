"""From a payload to what it says of its message, and to the values of its event.

A field that a payload has in common with ``Message`` or ``StatusChange`` is stored there.
"""

from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any

from django.db import models

from cellcast_django.contacts import to_contact
from cellcast_django.fold import Direction, Said, Values, message_key, values_of
from cellcast_django.models import (
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.opt_outs import opts_out
from cellcast_django.payloads import (
    Endpoint,
    Invalid,
    Payload,
    Reply,
    StatusReport,
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Arrival:
    """How the events of one webhook arrived: all but the last two fields are columns of them."""

    endpoint: str
    content_type: str
    username: str
    is_test: bool
    received_at: datetime
    now: datetime
    has_just_arrived: bool
    """What comes from elsewhere has a time of its own, which says what it is older than."""

    @classmethod
    def of(cls, event: WebhookEvent) -> "Arrival":
        """Return how a stored event has arrived."""
        columns = {name: getattr(event, name) for name in cls.__slots__[:-2]}
        return cls(**columns, now=event.received_at, has_just_arrived=True)

    def columns(self) -> dict[str, Any]:
        """Return the columns of each event."""
        return {name: getattr(self, name) for name in self.__slots__[:-2]}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Draft:
    """One payload, and what it wants to write."""

    payload: Payload
    arrival: Arrival
    event: Values
    """The columns of its event that are known before anything is stored."""
    opts_out: str = ""
    """The contact whom it opts out, if any: our own test opts nobody out."""
    said: Said | None = None
    """What it says of a message, if it is about one."""
    if_new: Values = field(default_factory=dict)
    """The columns of its message that nothing which comes later changes."""
    may_be_stored: bool = False
    """Whether the message may be stored without an id: it has a contact and is no test."""


def draft(payload: Payload, arrival: Arrival) -> Draft:
    """Return what one payload wants to write."""
    if isinstance(payload, Reply | StatusReport):
        return _about_message(payload, arrival)
    kind, error, contact = WebhookEvent.Kind.UNKNOWN, "", ""
    if isinstance(payload, Invalid):
        error = payload.reason
    else:
        kind, contact = WebhookEvent.Kind.OPT_OUT, to_contact(payload.number)
    known = {"kind": kind.value, "error": error, "contact": contact, "body": payload.raw}
    return Draft(
        payload=payload,
        arrival=arrival,
        event=arrival.columns() | known,
        opts_out=_to_opt_out(payload, contact, arrival),
    )


def _to_opt_out(payload: Payload, contact: str, arrival: Arrival) -> str:
    return contact if opts_out(payload) and not arrival.is_test else ""


def _about_message(payload: Reply | StatusReport, arrival: Arrival) -> Draft:
    said = said_by(payload, arrival.now, is_test=arrival.is_test)
    is_reply = isinstance(payload, Reply)
    contact, created_at = said.values["contact"], arrival.now
    if isinstance(payload, Reply) and payload.listed is not None:
        created_at = payload.listed.received_at
    if_new: dict[str, Any] = {"created_at": created_at}
    if is_reply and (arrival.is_test or opts_out(payload)):
        if_new["handled_at"] = created_at  # nobody needs to answer it
    known = {
        "kind": (WebhookEvent.Kind.REPLY if is_reply else WebhookEvent.Kind.STATUS).value,
        "error": "",
        "body": payload.raw,
        "cellcast_id": said.values["cellcast_id"],
        "contact": contact,
    }
    return Draft(
        payload=payload,
        arrival=arrival,
        event=arrival.columns() | known,
        opts_out=_to_opt_out(payload, contact, arrival) if is_reply else "",
        said=said,
        if_new=if_new,
        may_be_stored=is_reply and contact != "" and not arrival.is_test,
    )


def said_by(payload: Reply | StatusReport, now: datetime, *, is_test: bool = False) -> Said:
    """Return what a payload says of its message; ``now`` is when it came."""
    is_reply = isinstance(payload, Reply)
    direction = Direction.INBOUND if is_reply else Direction.OUTBOUND
    values = values_of(direction, **_common_values(payload, Message))
    if isinstance(payload, Reply) and payload.listed is not None:
        # Its time identifies it. No webhook's reply has an empty id.
        time = payload.listed.received_at.isoformat()
        identity = "", values["contact"], payload.body, time, *payload.media
        values["key"] = message_key(direction, *identity)
    if is_reply and is_test:
        # Otherwise a customer's reply that says the same would be its duplicate.
        values["key"] = message_key(direction, "", "test", values["key"])
    if isinstance(payload, StatusReport) and payload.happened_at is not None:
        now = min(payload.happened_at, now)
    details = _common_values(payload, StatusChange)
    del details["status"]
    return Said(values=values, status=values.pop("status"), details=details, at=now)


def key_of(report: StatusReport) -> str:
    """Return the key of the message that a report is about."""
    return message_key(Direction.OUTBOUND, report.cellcast_id)


def begin_opt_out(draft: Draft, opt_out: OptOut) -> OptOutChange | None:
    """Begin the locked opt-out that the draft asks for; ``None`` if that is no change.

    Neither is saved, nor has its event yet.
    """
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
        received_as=arrival.username,
    )


def _common_values(source: Any, model: type[models.Model]) -> dict[str, Any]:
    """Return the fields that a dataclass has in common with a model."""
    return {name: getattr(source, name) for name in _common_names(source.__class__, model)}


@cache
def _common_names(source: type, model: type[models.Model]) -> list[str]:
    columns = {each.name for each in model._meta.concrete_fields}
    return [each.name for each in fields(source) if each.name in columns]
