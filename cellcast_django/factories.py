"""For tests: rows as the inbox would have written them. Needs factory_boy.

``MessageFactory.create(inbound=True, body="YES")`` and the like store rows without a webhook, so
they call no handler. To test your handlers, send a webhook with ``cellcast_django.testing``.
"""

import itertools
import json
import time
from datetime import datetime
from typing import Any

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from cellcast_django.fold import values_of
from cellcast_django.models import (
    Direction,
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.payloads import Endpoint, opt_out_payload, reply_payload, status_payload
from cellcast_django.signals import message_received, opt_out_received, status_changed
from cellcast_django.statuses import Status, supersedes

# One count for all factories: with one each, two of them would make the same number at some time.
_numbers = itertools.count()


def _now() -> datetime:
    """Return the time by whatever stands in for Django's clock when the row is made."""
    return timezone.now()


def _new_number() -> str:
    """Return an Australian mobile number that no factory has made before."""
    return f"+6149{next(_numbers) % 10**7:07d}"


class MessageFactory(DjangoModelFactory[Message]):
    """Outbound messages as ``record_sent`` stores them; replies with ``inbound=True``.

    ``recorded_at=None`` makes one of which only reports have spoken. ``delivered=True`` and
    ``undelivered=True`` set a final status, ``status=…`` any other, with a row of the history,
    which ``history__reason=…`` gives a reason and ``history=False`` leaves out. A webhook about
    ``cellcast_id`` finds the row.
    """

    class Meta:
        model = Message
        skip_postgeneration_save = True

    class Params:
        inbound = factory.Trait(
            direction=Direction.INBOUND.value,
            sender=factory.LazyFunction(_new_number),
            receiver="+61400000001",
            body="This is reply message",
            status=Status.RECEIVED.value,
        )
        delivered = factory.Trait(status=Status.DELIVERED.value)
        undelivered = factory.Trait(status=Status.EXPIRED.value)

    direction = Direction.OUTBOUND.value
    # As Cellcast makes them, beginning with the current time.
    cellcast_id = factory.Sequence(lambda sequence: f"{int(time.time()):08x}{sequence:016x}")
    sender = "cellcast"
    receiver = factory.LazyFunction(_new_number)
    body = "See you at nine?"
    media = factory.LazyFunction(list)
    status = ""
    created_at = factory.LazyFunction(_now)
    recorded_at = factory.LazyAttribute(
        lambda message: message.created_at if message.direction == Direction.OUTBOUND else None
    )
    status_changed_at = factory.LazyAttribute(lambda message: _now() if message.status else None)

    @classmethod
    def _adjust_kwargs(cls, **given: Any) -> dict[str, Any]:
        """Add what the parts imply: the key, the numbers and the time of submission."""
        return values_of(Direction(given.pop("direction")), **given)

    @factory.post_generation  # type: ignore[untyped-decorator]
    def history(message: Any, create: bool, extracted: Any, **kwargs: Any) -> None:
        if create and message.status and extracted is not False:
            recorded_at = message.status_changed_at or timezone.now()
            columns = {"applied": True, "recorded_at": recorded_at} | kwargs
            changes = StatusChange.objects.using(message._state.db)
            changes.create(message=message, status=message.status, **columns)


class StatusChangeFactory(DjangoModelFactory[StatusChange]):
    """Rows of a message's history, to whose status it moves; by default, it was delivered."""

    class Meta:
        model = StatusChange
        skip_postgeneration_save = True

    message = factory.SubFactory(MessageFactory)
    status = Status.DELIVERED.value
    previous_status = factory.LazyAttribute(lambda change: change.message.status)
    applied = factory.LazyAttribute(lambda change: supersedes(change.status, change.message.status))
    recorded_at = factory.LazyFunction(_now)
    event = None

    @factory.post_generation  # type: ignore[untyped-decorator]
    def move_message(change: Any, create: bool, extracted: Any, **kwargs: Any) -> None:
        if create and change.applied:
            message = change.message
            message.status = change.status
            message.status_changed_at = change.recorded_at
            message.save(update_fields=["status", "status_changed_at"])


class OptOutFactory(DjangoModelFactory[OptOut]):
    """Opt-outs made by a person, with their history; ``ended=True`` ends them.

    One per ``contact``: write it as the app does, such as ``+61400000000``.
    """

    class Meta:
        model = OptOut
        django_get_or_create = ("contact",)
        skip_postgeneration_save = True

    class Params:
        ended = factory.Trait(ended_at=factory.LazyFunction(_now))

    contact = factory.LazyFunction(_new_number)
    since = factory.LazyFunction(_now)
    source = OptOut.Source.PERSON.value

    @factory.post_generation  # type: ignore[untyped-decorator]
    def past(opt_out: Any, create: bool, extracted: Any, **kwargs: Any) -> None:
        if not create or opt_out.history.exists():
            return
        kinds = OptOutChange.Kind
        begun = {"at": opt_out.since, "source": opt_out.source, "event": opt_out.event}
        note_of_begun = "" if opt_out.ended_at else opt_out.note  # it is the last change's
        opt_out.history.create(kind=kinds.BEGUN, note=note_of_begun, **begun)
        if opt_out.ended_at:
            opt_out.history.create(
                kind=kinds.ENDED, at=opt_out.ended_at, source="person", note=opt_out.note
            )


SIGNALS = {WebhookEvent.Kind.REPLY: message_received, WebhookEvent.Kind.OPT_OUT: opt_out_received}
CALLS = "cellcast_django.factories.HandlerCallFactory"


class WebhookEventFactory(DjangoModelFactory[WebhookEvent]):
    """Done events: delivery reports, unless a trait says otherwise.

    Kind: ``reply=True``, ``opt_out=True``. Outcome: ``duplicate=True``, ``invalid=True``. State:
    ``pending=True`` and ``failed=True`` add a call, of which ``call__handler="…"`` and the like say
    more. What is stored has its message and history row, or its ``OptOut``: it has a fact.
    """

    class Meta:
        model = WebhookEvent
        skip_postgeneration_save = True

    class Params:
        reply = factory.Trait(
            kind=WebhookEvent.Kind.REPLY.value,
            endpoint=Endpoint.RECEIVE.value,
            message=factory.SubFactory(MessageFactory, inbound=True, status=""),
        )
        opt_out = factory.Trait(
            kind=WebhookEvent.Kind.OPT_OUT.value,
            endpoint=Endpoint.OPT_OUT.value,
            message=None,
            contact=factory.LazyFunction(_new_number),
        )
        duplicate = factory.Trait(outcome=WebhookEvent.Outcome.DUPLICATE.value)
        invalid = factory.Trait(
            kind=WebhookEvent.Kind.UNKNOWN.value,
            outcome=WebhookEvent.Outcome.INVALID.value,
            error="There is no message id.",
            message=None,
        )
        pending = factory.Trait(call=factory.RelatedFactory(CALLS, "event", waiting=True))
        failed = factory.Trait(call=factory.RelatedFactory(CALLS, "event", failed=True))

    kind = WebhookEvent.Kind.STATUS.value
    endpoint = Endpoint.STATUS.value
    outcome = WebhookEvent.Outcome.STORED.value
    message = factory.SubFactory(MessageFactory)
    cellcast_id = factory.LazyAttribute(
        lambda event: event.message.cellcast_id if event.message else ""
    )
    contact = factory.LazyAttribute(lambda event: event.message.contact if event.message else "")
    content_type = "application/json"
    received_as = "cellcast"
    received_at = factory.LazyFunction(_now)
    body = factory.LazyAttribute(lambda event: json.dumps(_payload(event)))

    @factory.post_generation  # type: ignore[untyped-decorator]
    def history(event: Any, create: bool, extracted: Any, **kwargs: Any) -> None:
        """Store the history row that the event reported; none with ``history=False``."""
        if create and event.is_stored and event.message and extracted is not False:
            status = "received" if event.kind == WebhookEvent.Kind.REPLY else "delivered"
            StatusChangeFactory.create(
                message=event.message,
                event=event,
                recorded_at=event.received_at,
                **{"status": status} | kwargs,
            )

    @factory.post_generation  # type: ignore[untyped-decorator]
    def opt_out_row(event: Any, create: bool, extracted: Any, **kwargs: Any) -> None:
        if create and event.is_stored and event.kind == WebhookEvent.Kind.OPT_OUT:
            OptOutFactory.create(
                contact=event.contact,
                event=event,
                since=event.received_at,
                source=OptOut.Source.WEBHOOK.value,
            )


class HandlerCallFactory(DjangoModelFactory[HandlerCall]):
    """Done calls; with ``waiting=True``, ``running`` or ``retrying`` they are due at once."""

    class Meta:
        model = HandlerCall

    class Params:
        waiting = factory.Trait(state="waiting", attempts=0, started_at=None, seconds=None)
        running = factory.Trait(state="running", seconds=None)
        retrying = factory.Trait(state="retrying", error="ConnectionError: no calendar")
        failed = factory.Trait(
            state="failed", attempts=12, error="ConnectionError: the calendar is down"
        )
        skipped = factory.Trait(state="skipped", skipped_by="ella")

    event = factory.SubFactory(WebhookEventFactory)
    signal = factory.LazyAttribute(
        lambda call: SIGNALS.get(WebhookEvent.Kind(call.event.kind), status_changed).name
    )
    handler = "shop.handlers.confirm"
    state = HandlerCall.State.DONE.value
    attempts = 1
    version = 2
    started_at = factory.LazyFunction(_now)
    seconds = 0.25
    next_attempt_at = factory.LazyAttribute(
        lambda call: _now() if call.state in {"waiting", "running", "retrying"} else None
    )
    ended_at = factory.LazyAttribute(lambda call: None if call.next_attempt_at else _now())
    failing_since = factory.LazyAttribute(
        lambda call: _now() if call.state in {"retrying", "failed", "gave_up"} else None
    )


def _payload(event: Any) -> dict[str, Any]:
    if event.kind == WebhookEvent.Kind.UNKNOWN:
        return {"hello": "world"}
    if event.message is None:
        return opt_out_payload(contact=event.contact)
    message = event.message
    parts = {"_id": event.cellcast_id, "sender": message.sender, "receiver": message.receiver}
    if event.kind == WebhookEvent.Kind.REPLY:
        return reply_payload(**parts, message=message.body)
    return status_payload(**parts)
