"""From a payload to the values of the rows that it makes, and to what becomes of its event.

A field that a payload has in common with ``Message`` or ``StatusChange`` is stored there.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from django.db import models
from django.db.models.fields import NOT_PROVIDED

from cellcast_django.contacts import to_contact
from cellcast_django.models import (
    Direction,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
    message_key,
)
from cellcast_django.opt_outs import is_stop_word
from cellcast_django.payloads import (
    Endpoint,
    Invalid,
    OptOut as OptOutPayload,
    Payload,
    Reply,
    StatusReport,
)
from cellcast_django.signals import (
    FactSignal,
    message_received,
    opt_out_received,
    status_changed,
)

M = TypeVar("M", bound=models.Model)

Values = dict[str, Any]
"""The values of a row, by column."""


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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Draft:
    """What a payload says of its event; the rest of it is in a ``Decision``."""

    payload: Payload
    arrival: Arrival
    event_values: Values
    contact_to_opt_out: str
    """The contact to opt out, or ``""``."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StatusDraft(Draft):
    """Also the message and the history row, as they are if nothing has reported them yet.

    Their values are enough to store them; a row costs more than all else that is done here.
    """

    payload: Reply | StatusReport
    message_values: Values
    change_values: Values
    may_be_stored: bool
    """Whether the message may be stored without an id: it has a contact and is no test."""


def draft(payload: Payload, arrival: Arrival) -> Draft:
    """Return the values of the rows for one payload, as if it were the first to say so."""
    if isinstance(payload, Reply | StatusReport):
        return _draft_status(payload, arrival)
    if isinstance(payload, Invalid):
        kind, error, contact = WebhookEvent.Kind.UNKNOWN, payload.reason, ""
    else:
        kind, error, contact = WebhookEvent.Kind.OPT_OUT, "", to_contact(payload.number)
    event = _event(arrival, kind=kind.value, error=error, contact=contact, body=payload.raw)
    return Draft(payload, arrival, event, _to_opt_out(payload, contact, arrival))


def _to_opt_out(payload: Payload, contact: str, arrival: Arrival) -> str:
    """Return the contact to opt out, or ``""``: our own test opts nobody out."""
    return contact if opts_out(payload) and not arrival.is_test else ""


def opts_out(payload: Payload) -> bool:
    """Whether a webhook of Cellcast's that says this opts its contact out."""
    if isinstance(payload, Reply):
        return payload.sender.strip() != "" and is_stop_word(payload.body)
    return isinstance(payload, OptOutPayload)


def _draft_status(payload: Reply | StatusReport, arrival: Arrival) -> StatusDraft:
    """Return the values for a payload about a message, as ``draft`` does."""
    is_reply = isinstance(payload, Reply)
    time = arrival.now
    if isinstance(payload, StatusReport) and payload.happened_at is not None:
        time = min(payload.happened_at, time)
    message = message_values(payload)
    contact: str = message["contact"]
    message["status_changed_at"] = time
    message.setdefault("created_at", arrival.now)
    if is_reply and (arrival.is_test or opts_out(payload)):
        message["handled_at"] = message["created_at"]  # nobody needs to answer it
    if is_reply and arrival.is_test:
        # Otherwise a customer's reply that says the same would be its duplicate.
        message["key"] = message_key(Direction.INBOUND, "", "test", message["key"])
    event = _event(
        arrival,
        kind=(WebhookEvent.Kind.REPLY if is_reply else WebhookEvent.Kind.STATUS).value,
        body=payload.raw,
        cellcast_id=message["cellcast_id"],
        contact=contact,
    )
    change = {"applied": True, "recorded_at": time, **_common_values(payload, StatusChange)}
    return StatusDraft(
        payload,
        arrival,
        event,
        _to_opt_out(payload, contact, arrival),
        _defaults(Message) | message,
        _defaults(StatusChange) | change,
        may_be_stored=is_reply and contact != "" and not arrival.is_test,
    )


def message_values(payload: Reply | StatusReport) -> dict[str, Any]:
    """Return the values of the message that the payload is about, with the payload's status."""
    is_reply = isinstance(payload, Reply)
    direction = Direction.INBOUND if is_reply else Direction.OUTBOUND
    values = Message.values_from_parts(direction, **_common_values(payload, Message))
    if isinstance(payload, Reply) and payload.listed is not None:
        # Its time identifies it. No webhook's reply has an empty id.
        time = payload.listed.received_at
        identity = "", values["contact"], payload.body, time.isoformat(), *payload.media
        values |= {"key": message_key(direction, *identity), "created_at": time}
    return values


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


def attach_facts(
    event: WebhookEvent, message: Any, change: StatusChange | None, begun: OptOutChange | None
) -> None:
    """Cache the event's facts on it, missing ones too, so that handlers cause no query."""
    event.message = message
    if change is not None:
        change.message, change.event = message, event
    if begun is not None:
        begun.event = begun.opt_out.event = event
    WebhookEvent._meta.get_field("opt_out_change").set_cached_value(event, begun)


class Found(NamedTuple):
    """The message that an event is about, once it is written, if it is about one."""

    pk: Any = None
    status: str = ""
    previous_status: str = ""
    """The status before this event; ``""`` if it had none."""
    is_new: bool = False
    """It was inserted just now: nothing had reported it, and nobody recorded it."""
    is_news: bool = False
    """Its history gains this status."""


class Decision(NamedTuple):
    """What becomes of an event: its outcome, and the signals of its facts, in their order."""

    outcome: str
    signals: tuple[FactSignal, ...] = ()


DUPLICATE = Decision(WebhookEvent.Outcome.DUPLICATE.value)
INVALID = Decision(WebhookEvent.Outcome.INVALID.value)


def decide(draft: Draft, found: Found, begun: OptOutChange | None = None) -> Decision:
    """Return what becomes of the event.

    Without a fact the event is a duplicate, or invalid; but nobody looks whether the opt-out of a
    test would have been one.
    """
    signals: list[FactSignal] = []
    if found.is_news:
        is_new_reply = isinstance(draft.payload, Reply) and not found.previous_status
        signals.append(message_received if is_new_reply else status_changed)
    if begun is not None:
        signals.append(opt_out_received)
    is_test_of_opt_out = draft.arrival.is_test and isinstance(draft.payload, OptOutPayload)
    if not signals and not is_test_of_opt_out:
        return INVALID if isinstance(draft.payload, Invalid) else DUPLICATE
    return Decision(WebhookEvent.Outcome.STORED.value, tuple(signals))


def _event(arrival: Arrival, **values: Any) -> Values:
    """Return the values of an event that arrived so."""
    values |= _common_values(arrival, WebhookEvent)
    return _defaults(WebhookEvent) | values


def row_of(model: type[M], values: Values) -> M:
    """Return an unsaved row, in a third of the time that the columns' names would take."""
    return model(*in_order(model)(values))


@cache
def in_order(model: type[models.Model]) -> Callable[[Values], tuple[Any, ...]]:
    """Return what picks a row's values in the order in which the model takes them."""
    return itemgetter(*(field.attname for field in model._meta.concrete_fields))


@cache
def _defaults(model: type[models.Model]) -> Values:
    """Return the columns' defaults; what a callable makes has to be given."""
    return {field.attname: _default(field) for field in model._meta.concrete_fields}


def _default(field: Any) -> Any:
    if field.has_default():
        return None if callable(field.default) else field.default
    return field.get_default() if field.db_default is NOT_PROVIDED else field.db_default


def _common_values(source: Any, model: type[models.Model]) -> dict[str, Any]:
    """Return the fields that a dataclass has in common with a model."""
    return {name: getattr(source, name) for name in _common_names(source.__class__, model)}


@cache
def _common_names(source: type, model: type[models.Model]) -> list[str]:
    columns = {field.name for field in model._meta.concrete_fields}
    return [field.name for field in fields(source) if field.name in columns]
