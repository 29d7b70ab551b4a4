"""From a payload to the rows that it makes, not yet saved, or to their values.

A field that a payload has in common with ``Message`` or ``StatusChange`` is stored there.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import Any, TypeVar

from django.db import models

from cellcast_django.conf import conf
from cellcast_django.models import (
    Direction,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
    contact_of,
    message_key,
)
from cellcast_django.opt_outs import is_stop_word
from cellcast_django.payloads import Endpoint, Invalid, Payload, Reply, StatusReport
from cellcast_django.signals import message_received, opt_out_received, status_changed

M = TypeVar("M", bound=models.Model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How the events of one webhook arrived: each field but ``now`` is a column of them."""

    endpoint: str
    content_type: str
    username: str
    is_test: bool
    received_at: datetime
    now: datetime


@dataclass(frozen=True, eq=False)
class Draft:
    """The event that a payload makes, with its outcome if that is known."""

    payload: Payload
    event: WebhookEvent
    opted_out: str
    """The contact that it opts out if that is news; ``""`` if it opts out nobody."""


@dataclass(frozen=True, eq=False)
class StatusDraft(Draft):
    """Also the message and the history row, as they are if nothing has reported them yet.

    Their values alone are enough to store them; a row costs more than all else that is done here.
    """

    payload: Reply | StatusReport
    message_values: dict[str, Any]
    change_values: dict[str, Any]
    may_be_stored: bool
    """Whether the message may be stored already, without an id: it is a real reply of somebody."""

    @cached_property
    def message(self) -> Message:
        """The message of these values."""
        return _row(Message, self.message_values)

    @cached_property
    def change(self) -> StatusChange:
        """The history row of these values."""
        return _row(StatusChange, self.change_values)


def draft(payload: Payload, arrival: Arrival) -> Draft:
    """Return the rows for one payload, as if it were the first to say so."""
    if isinstance(payload, Reply | StatusReport):
        return _draft_status(payload, arrival)
    event = _event(arrival, body=payload.raw)
    if isinstance(payload, Invalid):
        event.kind = WebhookEvent.Kind.UNKNOWN.value
        event.outcome = WebhookEvent.Outcome.INVALID.value
        event.error = payload.reason
    else:
        event.kind = WebhookEvent.Kind.OPT_OUT.value
        event.outcome = WebhookEvent.Outcome.STORED.value
        event.contact = contact_of(payload.number)
    return Draft(payload, event, opted_out=event.contact)


def _draft_status(payload: Reply | StatusReport, arrival: Arrival) -> StatusDraft:
    """Return the rows for a payload about a message, as ``draft`` does."""
    is_reply = isinstance(payload, Reply)
    time = arrival.now
    if isinstance(payload, StatusReport) and payload.happened_at is not None:
        time = min(payload.happened_at, time)
    message = message_values(payload)
    contact: str = message["contact"]
    message["status_changed_at"] = time
    message.setdefault("created_at", arrival.now)
    if is_reply and arrival.is_test:
        message["handled_at"] = arrival.received_at  # nobody needs to answer our own test
        # Otherwise a customer's reply that says the same would be its duplicate.
        message["key"] = message_key(Direction.INBOUND, "", "test", message["key"])
    event = _event(
        arrival,
        kind=(WebhookEvent.Kind.REPLY if is_reply else WebhookEvent.Kind.STATUS).value,
        outcome=WebhookEvent.Outcome.STORED.value,
        body=payload.raw,
        cellcast_id=message["cellcast_id"],
        contact=contact,
    )
    opted_out = ""
    if isinstance(payload, Reply) and payload.sender.strip() and is_stop_word(payload.body):
        opted_out = contact
    return StatusDraft(
        payload,
        event,
        opted_out,
        message,
        {"applied": True, "recorded_at": time, **_values(payload, StatusChange)},
        may_be_stored=is_reply and contact != "" and not arrival.is_test,
    )


def message_values(payload: Reply | StatusReport) -> dict[str, Any]:
    """Return the values of the message that the payload is about, with the payload's status."""
    is_reply = isinstance(payload, Reply)
    direction = Direction.INBOUND if is_reply else Direction.OUTBOUND
    values = Message.values_from_parts(direction, **_values(payload, Message))
    if isinstance(payload, Reply) and payload.listed is not None:
        # Its time identifies it. No webhook's reply has an empty id.
        time = payload.listed.received_at
        identity = "", values["contact"], payload.body, time.isoformat(), *payload.media
        values |= {"key": message_key(direction, *identity), "created_at": time}
    return values


def begin_opt_out(draft: Draft, opt_out: OptOut, *, has_just_arrived: bool) -> OptOutChange | None:
    """Begin the locked opt-out that the draft asks for; ``None`` if that is no change."""
    event, payload = draft.event, draft.payload
    source, at, text = OptOut.Source.WEBHOOK, event.received_at, payload.raw
    if isinstance(payload, Reply):
        source, text = OptOut.Source.REPLY, payload.body
        if payload.listed is not None:
            at = min(at, payload.listed.received_at)
    elif event.endpoint == Endpoint.API:
        source = OptOut.Source.LIST
    change = opt_out.begin(source, at=at, has_just_arrived=has_just_arrived, event=event, text=text)
    if change is not None:
        event.outcome = WebhookEvent.Outcome.STORED
    elif not isinstance(draft, StatusDraft):
        event.outcome = WebhookEvent.Outcome.DUPLICATE
    return change


def plan(
    draft: Draft, arrival: Arrival, *, previous_status: str | None, begins_opt_out: bool
) -> None:
    """Plan the run of the handlers that are connected for the event's facts.

    ``previous_status`` is the message's before this news, ``""`` if it had none, and ``None`` if
    its history gains nothing. Without a fact there is nothing to run: the event is a duplicate, or
    invalid.
    """
    has_handlers = False
    if previous_status is not None:
        is_new_reply = isinstance(draft.payload, Reply) and not previous_status
        signal = message_received if is_new_reply else status_changed
        has_handlers = signal.has_listeners(Message)
    if begins_opt_out:
        has_handlers = has_handlers or opt_out_received.has_listeners(WebhookEvent)
    if previous_status is not None or begins_opt_out:
        _plan(draft.event, arrival, has_handlers=has_handlers, begins_opt_out=begins_opt_out)


def plan_as_news(draft: StatusDraft, arrival: Arrival) -> bool:
    """Plan the run as if the message's history gained the status, before that is known.

    False if only the database can tell which facts there are to tell: ``plan`` has to be called.
    """
    signals = (status_changed, message_received)[: 2 if isinstance(draft.payload, Reply) else 1]
    are_heard = {signal.has_listeners(Message) for signal in signals}
    _plan(draft.event, arrival, has_handlers=True in are_heard)
    return not draft.opted_out and len(are_heard) == 1


def _plan(
    event: WebhookEvent, arrival: Arrival, *, has_handlers: bool, begins_opt_out: bool = False
) -> None:
    """Set when the handlers of an event with news run; without any it is done.

    Inline, they run right after the commit in this process, so the run is already counted and
    leased here: that saves a write, and after a crash the event is due when the lease ends.
    """
    now = arrival.now
    event.done_at, event.next_run_at, event.attempts = None, None, 0
    if not has_handlers:
        event.done_at = now
    elif conf.run_handlers == "inline":
        event.next_run_at, event.attempts = now + timedelta(seconds=conf.handler_lease), 1
    else:
        event.next_run_at = now
    if not begins_opt_out:  # what is known not to exist is not looked for
        WebhookEvent._meta.get_field("opt_out_change").set_cached_value(event, None)


def _event(arrival: Arrival, **values: Any) -> WebhookEvent:
    """Return an event that arrived so, without handlers' results."""
    values |= _values(arrival, WebhookEvent)
    return _row(WebhookEvent, {**values, "handler_results": {}})


def _row(model: type[M], values: dict[str, Any]) -> M:
    """Return an unsaved row of these values, in a third of the time that their names would take.

    What a callable makes by default has to be given.
    """
    return model(*(_defaults(model) | values).values())


@cache
def _defaults(model: type[models.Model]) -> dict[str, Any]:
    return {
        field.attname: None
        if field.has_default() and callable(field.default)
        else field.get_default()
        for field in model._meta.concrete_fields
    }


def _values(source: Any, model: type[models.Model]) -> dict[str, Any]:
    """Return the fields that a dataclass has in common with a model."""
    values = {}
    for name in _common_names(source.__class__, model):
        values[name] = getattr(source, name)
    return values


@cache
def _common_names(source: type, model: type[models.Model]) -> list[str]:
    columns = {field.name for field in model._meta.concrete_fields}
    return [field.name for field in fields(source) if field.name in columns]
