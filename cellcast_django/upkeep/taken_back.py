"""Take events back, as if they had never come: their messages are folded from what is left."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.fold import Snapshot, Update, fold
from cellcast_django.inbox.drafts import Arrival, draft_message
from cellcast_django.models import (
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.payloads import Endpoint, Reply, StatusReport, read
from cellcast_django.recovery.lists import read_stored_item
from cellcast_django.upkeep import retention
from cellcast_django.upkeep.retention import BATCH_SIZE, Part, Progress, Pruned

MESSAGES_AT_A_TIME = 50  # their genuine reports wait for as long as they are made anew
MAY_BE_FILLED_IN = ("sender", "own_number")
"""By reports, of a recorded message: the rest is what ``record_sent`` said."""


def take_back(
    events: Iterable[int],
    *,
    end_opt_outs: str | None = None,
    progress: Progress = lambda pruned: None,
) -> Pruned:
    """Delete these events and what only they made, as if they had never come.

    Messages that nothing else speaks of go: no other event, and not ``record_sent``. The others get
    the status, the history and the texts that the events left would have made; what those had
    filled in that are redacted or pruned is kept. Opt-outs that the events began are left; but if
    ``end_opt_outs`` says why, those end that nothing else has begun.

    In batches, a message and its events in the same. A message that one of your own models protects
    is kept, with its events. Calls no handler. Safe to interrupt and to repeat.
    """
    return retention.remove(_TakingBack(set(events), end_opt_outs).parts(), progress)


def _slices(pks: Iterable[int], size: int) -> Iterator[list[int]]:
    ordered = sorted(pks)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


@dataclass(frozen=True)
class _TakingBack:
    """What ``take_back`` was asked for."""

    taken: set[int]
    """The events."""
    end_opt_outs: str | None

    def parts(self) -> Iterator[Part]:
        """Yield the events that have no message, and then the messages of the others."""
        pks_of_messages: set[int] = set()
        for some in _slices(self.taken, BATCH_SIZE):
            events = WebhookEvent.objects.fresh().filter(pk__in=some)
            with_message = events.exclude(message=None)
            pks_of_messages.update(with_message.values_list("message_id", flat=True))
            yield Part(events.filter(message=None), "pk", self.delete)
        for some in _slices(pks_of_messages, MESSAGES_AT_A_TIME):
            yield Part(Message.objects.fresh().filter(pk__in=some), "key", self.undo)

    def delete(self, using: str, pks: list[int]) -> Pruned:
        """Delete these events, and end the opt-outs that they began, if that is asked for."""
        note = self.end_opt_outs
        ended = 0 if note is None else self._end_opt_outs(using, pks, note)  # while they are there
        return replace(retention.delete_events(using, pks), opt_outs=ended)

    def undo(self, using: str, pks: list[int]) -> Pruned:
        """Undo what the taken events did to these messages, and delete those events."""
        messages = Message.objects.using(using).filter(pk__in=pks)
        events_of = _by_message(WebhookEvent.objects.using(using), pks)
        history_of = _by_message(StatusChange.objects.using(using), pks)
        undone: list[int] = []
        gone: list[int] = []
        made_anew: list[_Anew] = []
        for message in messages:
            events, history = events_of[message.pk], history_of[message.pk]
            lies = [_read(event) for event in events if event.pk in self.taken]
            left = [_read(event) for event in events if event.pk not in self.taken]
            if not lies:  # another run has taken them back
                continue
            undone += [each.event for each in lies]
            if left or message.recorded_at or _pruned(history):
                made_anew.append(_make_anew(message, history, left, lies))
            else:
                gone.append(message.pk)
        _save(messages, made_anew)
        pruned = Pruned()
        for some in _slices(undone, BATCH_SIZE):
            pruned = pruned.plus(self.delete(using, some))
        return replace(pruned, messages=retention.delete(messages.filter(pk__in=gone)))

    def _end_opt_outs(self, using: str, events: list[int], note: str) -> int:
        """End what these events began, and nothing else has begun since it last ended."""
        begun = OptOutChange.objects.using(using).filter(event__in=events)
        pks = list(begun.values_list("opt_out", flat=True))
        opt_outs, changes = OptOut.objects.using(using), []
        for opt_out in opt_outs.active().filter(pk__in=pks).order_by("contact").select_for_update():
            newest_first = OptOutChange.objects.using(using).filter(opt_out=opt_out).order_by("-pk")
            began = takewhile(lambda each: each.kind == OptOutChange.Kind.BEGUN, newest_first)
            if {each.event_id for each in began} <= self.taken:
                changes.append(opt_out.end(at=timezone.now(), note=note))
        opt_outs.save_changes(changes)
        return len(changes)


def _by_message(rows: QuerySet[Any], pks: list[int]) -> defaultdict[int, list[Any]]:
    """Return the rows of each message in their order: a prefetch might read them of a replica."""
    found = defaultdict(list)
    for row in rows.filter(message__in=pks).order_by("pk"):
        found[row.message_id].append(row)
    return found


class _Testimony(NamedTuple):
    """What an event says of its message."""

    event: int
    update: Update | None = None
    """``None`` if it has been redacted."""
    created_at: datetime | None = None
    is_listed: bool = False


def _read(event: WebhookEvent) -> _Testimony:
    """Return what a stored event says, as if it had just arrived at its time."""
    if event.endpoint == Endpoint.API:
        payload: Any = read_stored_item(event.body)
    else:
        payload = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))[0]
    if not isinstance(payload, Reply | StatusReport):
        return _Testimony(event.pk)
    draft = draft_message(payload, Arrival.of(event))
    is_listed = isinstance(payload, Reply) and payload.listed is not None
    return _Testimony(event.pk, draft.update, draft.if_new["created_at"], is_listed)


class _Anew(NamedTuple):
    """A message made anew, unsaved: what is to be written of it."""

    message: Message
    columns: list[str]
    old: list[StatusChange]
    """The rows of its history from the first on that differs; ``new`` stand in their place."""
    new: list[StatusChange]


def _make_anew(
    message: Message, history: list[StatusChange], left: list[_Testimony], lies: list[_Testimony]
) -> _Anew:
    """Let the message be as if only the events left had come."""
    columns, changes = _fold_anew(message, history, left, lies)
    began_as_a_lie = not left or lies[0].event < left[0].event
    if began_as_a_lie and not _pruned(history):
        times = [message.recorded_at, *(each.created_at for each in left)]
        columns["created_at"] = min(filter(None, times), default=message.created_at)
    pairs = zip(map(_content, history), map(_content, changes), strict=False)
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    for before, after in zip(history[same:], changes[same:], strict=False):
        after.pk = before.pk  # copies elsewhere know the row by its key
    return _Anew(message, list(message.take(columns)), history[same:], changes[same:])


_content = attrgetter("event_id", "status", "previous_status", "applied", "reason", "recorded_at")


def _fold_anew(
    message: Message, history: list[StatusChange], left: list[_Testimony], lies: list[_Testimony]
) -> tuple[dict[str, Any], list[StatusChange]]:
    """Return the columns and the history, unsaved, that follow from the events left."""
    is_whole = not _pruned(history) and all(each.update for each in left)
    starts_anew = is_whole and message.recorded_at is None
    state: Any = None if starts_anew else _without_claims(message, lies)
    changes = []
    for event, update in _in_order(history, left):
        state, change = fold(state, update)
        if change is not None:
            changes.append(StatusChange(message=message, event_id=event, **change))
    columns = state.columns
    if not is_whole:  # what is empty now, the lost events may have said
        empty = [name for name in Message.REPORTED if not columns[name]]
        columns |= {name: getattr(message, name) for name in empty}
    return columns, changes


def _without_claims(message: Message, lies: list[_Testimony]) -> Snapshot:
    """Return the message without a status and without what was claimed."""
    snapshot, blank = message.snapshot(), Message()
    if message.recorded_at is None:
        names: tuple[str, ...] = Message.REPORTED
    elif message.own_number in map(to_contact, conf.own_numbers):
        names = ()  # it is one of yours, so the report did not lie
    else:
        names = MAY_BE_FILLED_IN
    claims = [each.update.values for each in lies if each.update]
    values = dict(snapshot.values)
    for name in names:
        if values[name] in [claim.get(name) for claim in claims]:
            values[name] = getattr(blank, name)
    return replace(snapshot, values=values, status="", status_changed_at=None)


def _in_order(
    history: list[StatusChange], left: Sequence[_Testimony]
) -> Iterator[tuple[int | None, Update]]:
    """Yield the events and their updates in the order of arrival; what is pruned came first."""
    for change in _pruned(history):
        yield None, _repeated(change)
    rows = {change.event_id: change for change in history}
    webhook = next((each.update for each in left if each.update and not each.is_listed), None)
    for each in left:
        row, update = rows.get(each.event), each.update
        if update is None:  # it has been redacted, so its row of the history says it, if any
            if row is not None:
                yield each.event, _repeated(row)
            continue
        if each.is_listed and webhook is not None:  # it beats the list, as if it had come first
            media = update.values["media"] or webhook.values["media"]
            update = replace(webhook, values={**webhook.values, "media": media}, at=update.at)
        yield each.event, update if row is None else replace(update, at=row.recorded_at)  # as then


def _pruned(history: list[StatusChange]) -> list[StatusChange]:
    """Return the rows whose event has been pruned."""
    return [change for change in history if change.event_id is None]


def _repeated(change: StatusChange) -> Update:
    """Return what a row of the history says, of an event that does not say it any more."""
    details = {"reason": change.reason}
    return Update(values={}, at=change.recorded_at, status=change.status, details=details)


def _save(messages: QuerySet[Message], made_anew: list[_Anew]) -> None:
    rows = StatusChange.objects.using(messages.db)
    for some in _slices([row.pk for each in made_anew for row in each.old], BATCH_SIZE):
        rows.filter(pk__in=some).delete()
    rows.bulk_create([row for each in made_anew for row in each.new])
    if columns := sorted({name for each in made_anew for name in each.columns}):
        messages.bulk_update([each.message for each in made_anew], columns)


class Effects(NamedTuple):
    """What events have done that ``take_back`` does not undo, or not by itself."""

    handlers: set[str]
    """The names of the handlers that had been told of them."""
    opt_outs: int
    """How many opt-outs they began that stand."""


def effects_of(events: Iterable[int]) -> Effects:
    """Return what these events have done."""
    handlers: set[str] = set()
    opt_outs = 0
    for some in _slices(events, BATCH_SIZE):
        told = HandlerCall.objects.fresh().filter(event__in=some, attempts__gt=0)
        handlers.update(told.values_list("handler", flat=True))
        begun = OptOutChange.objects.fresh().filter(event__in=some)
        opt_outs += OptOut.objects.fresh().active().filter(pk__in=begun.values("opt_out")).count()
    return Effects(handlers, opt_outs)
