"""Are the promises kept where the data is? One statement reads what belongs together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db.models import Exists, Max, Min, Model, OuterRef, Q, QuerySet, Subquery

from cellcast_django.models import (
    Direction,
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
    message_key,
)
from cellcast_django.statuses import highest
from cellcast_django.upkeep.retention import EMPTY_MESSAGE

BATCH_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that breaks a rule: for people to look at, without a number or a text."""

    rule: str
    model: str
    id: int


def find_broken() -> Iterator[Broken]:
    """Yield each row that breaks a rule. Raises ``django.db.Error``."""
    for model, name, rule in RULES:
        for rows in _batches(model):
            for pk in rule(rows):
                yield Broken(name, model._meta.object_name or "", pk)


Rule = Callable[[QuerySet[Any]], Iterator[int]]
"""Takes rows of its model, and yields the keys of those that break it."""


def _batches(model: Any) -> Iterator[QuerySet[Any]]:
    """Yield the rows of a model, by keys: MariaDB would send a whole table at once."""
    rows = model.objects.fresh()
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return
    for start in range(ends["first"], ends["last"] + 1, BATCH_SIZE):
        yield rows.filter(pk__range=(start, start + BATCH_SIZE - 1))


def _statuses(messages: QuerySet[Any]) -> Iterator[int]:
    """A message's status is the highest of its history."""
    history = StatusChange.objects.fresh().filter(message__in=messages)
    rows = history.order_by("message").values_list("message", "message__status", "status")
    for (message, stands), changes in groupby(rows, key=itemgetter(0, 1)):
        if stands != highest(status for _message, _stands, status in changes):
            yield message
    silent = messages.filter(~Exists(StatusChange.objects.filter(message=OuterRef("pk"))))
    yield from silent.exclude(status="").values_list("pk", flat=True)


def _keys(messages: QuerySet[Any]) -> Iterator[int]:
    """A key is the digest of its parts.

    Redaction has emptied those; and without an event, code of the host's may have stored any key.
    """
    events = WebhookEvent.objects.filter(message=OuterRef("pk"))
    for message in messages.filter(Exists(events)).exclude(**EMPTY_MESSAGE):
        if message.key not in _possible_keys(message):
            yield message.pk


def _possible_keys(message: Any) -> set[str]:
    """Return what the key of a message may be: that of a test, too."""
    direction, media = Direction(message.direction), message.media
    if direction == Direction.OUTBOUND:
        return {message_key(direction, message.cellcast_id)}
    if not message.cellcast_id:
        at = message.created_at.astimezone(UTC).isoformat()
        return {message_key(direction, "", message.contact, message.body, at, *media)}
    parts = message.cellcast_id, message.sender, message.receiver, message.body
    # A recovered reply keeps its pictures when its webhook has none.
    keys = {message_key(direction, *parts, *media), message_key(direction, *parts)}
    return keys | {message_key(direction, "", "test", key) for key in keys}


def _handled(messages: QuerySet[Any]) -> Iterator[int]:
    """A handled reply has a time."""
    yield from messages.filter(~Q(handled_by=""), handled_at=None).values_list("pk", flat=True)


def _opt_outs(opt_outs: QuerySet[Any]) -> Iterator[int]:
    """An opt-out stands as its last change says."""
    last = OptOutChange.objects.filter(opt_out=OuterRef("pk")).order_by("-pk")
    kind, at = Subquery(last.values("kind")[:1]), Subquery(last.values("at")[:1])
    for each in opt_outs.annotate(last_kind=kind, last_at=at):
        ended_at = each.last_at if each.last_kind == OptOutChange.Kind.ENDED else None
        has_begun, has_history = each.source != "", each.last_kind is not None
        if has_begun != has_history or each.ended_at != ended_at:
            yield each.pk


def _calls(calls: QuerySet[Any]) -> Iterator[int]:
    """An ended call has no next attempt, and an unfinished one has."""
    wrong = Q(next_attempt_at__isnull=False) ^ Q(state__in=HandlerCall.UNFINISHED)
    yield from calls.filter(wrong).values_list("pk", flat=True)


RULES: tuple[tuple[type[Model], str, Rule], ...] = (
    (Message, "status", _statuses),
    (Message, "key", _keys),
    (Message, "handled", _handled),
    (OptOut, "opt-out", _opt_outs),
    (HandlerCall, "call", _calls),
)
"""What is read, and the rule that it is held against, with its name."""
