"""Take events back, as if they had never come: their messages are folded from what is left."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import takewhile
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.fold import Known, Said, fold
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
from cellcast_django.upkeep.retention import (
    BATCH_SIZE,
    Part,
    Progress,
    Pruned,
    delete,
    delete_events,
    remove,
)

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
    filled in that are redacted or pruned is kept. Opt-outs that the events began are left, unless
    ``end_opt_outs`` says why those end that nothing else has begun.

    In batches, a message and its events in the same. A message that one of your own models protects
    is kept, with its events. Calls no handler. Safe to interrupt and to repeat.
    """
    return remove(_parts_of(set(events), end_opt_outs), progress)


def _parts_of(taken: set[int], note: str | None) -> Iterator[Part]:
    spoken_of: set[int] = set()
    for some in _slices(taken, BATCH_SIZE):
        named = WebhookEvent.objects.fresh().filter(pk__in=some)
        spoken_of.update(named.exclude(message=None).values_list("message_id", flat=True))
        yield named.filter(message=None), "pk", partial(_delete, taken=taken, note=note)
    for pks in _slices(spoken_of, MESSAGES_AT_A_TIME):
        messages = Message.objects.fresh().filter(pk__in=pks)
        yield messages, "key", partial(_undo, taken=taken, note=note)


def _slices(pks: Iterable[int], size: int) -> Iterator[list[int]]:
    ordered = sorted(pks)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _delete(using: str, pks: list[int], *, taken: set[int], note: str | None) -> Pruned:
    ended = 0 if note is None else _end_opt_outs(using, pks, taken, note)
    return replace(delete_events(using, pks), opt_outs=ended)


def _undo(using: str, pks: list[int], *, taken: set[int], note: str | None) -> Pruned:
    """Undo what the taken events did to these messages, which are locked."""
    messages = Message.objects.using(using).filter(pk__in=pks)
    about: list[int] = []
    gone, changed = [], {}
    old: list[StatusChange] = []
    new: list[StatusChange] = []
    rows = StatusChange.objects.using(using)
    events_of = _by_message(WebhookEvent.objects.using(using), pks)
    history_of = _by_message(rows, pks)
    for message in messages:
        events, history = events_of[message.pk], history_of[message.pk]
        left = [_read(event) for event in events if event.pk not in taken]
        lies = [_read(event) for event in events if event.pk in taken]
        if not lies:  # another run has taken them back
            continue
        about += [each.event for each in lies]
        if left or message.recorded_at or _pruned(history):
            changed[message], before, after = _make_anew(message, history, left, lies)
            old += before
            new += after
        else:
            gone.append(message.pk)
    for some in _slices((change.pk for change in old), BATCH_SIZE):
        rows.filter(pk__in=some).delete()
    rows.bulk_create(new)
    if columns := sorted(set().union(*changed.values())):
        messages.bulk_update(changed, columns)
    pruned = Pruned()
    for some in _slices(about, BATCH_SIZE):
        pruned = pruned.plus(_delete(using, some, taken=taken, note=note))
    return replace(pruned, messages=delete(messages.filter(pk__in=gone)))


def _by_message(rows: QuerySet[Any], pks: list[int]) -> defaultdict[int, list[Any]]:
    """Return the rows of each message in their order: a prefetch might read them of a replica."""
    found = defaultdict(list)
    for row in rows.filter(message__in=pks).order_by("pk"):
        found[row.message_id].append(row)
    return found


class _Heard(NamedTuple):
    """What an event says of its message."""

    event: int
    said: Said | None = None
    """``None`` if it has been redacted."""
    created_at: datetime | None = None
    is_listed: bool = False


def _read(event: WebhookEvent) -> _Heard:
    """Return what a stored event says, as if it had just arrived at its time."""
    if event.endpoint == Endpoint.API:
        payload: Any = read_stored_item(event.body)
    else:
        payload = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))[0]
    if not isinstance(payload, Reply | StatusReport):
        return _Heard(event.pk)
    draft = draft_message(payload, Arrival.of(event))
    is_listed = isinstance(payload, Reply) and payload.listed is not None
    return _Heard(event.pk, draft.said, draft.if_new["created_at"], is_listed)


def _make_anew(
    message: Message, history: list[StatusChange], left: list[_Heard], lies: list[_Heard]
) -> tuple[list[str], list[StatusChange], list[StatusChange]]:
    """Let the message be as if only the events left had come; return what that changes.

    The columns to save and, from the first that differs, the old and new rows of history.
    """
    is_whole = not _pruned(history) and all(each.said for each in left)
    starts_anew = is_whole and message.recorded_at is None
    state: Any = None if starts_anew else _without_claims(message, lies)
    changes = []
    for event, said in _in_order(history, left):
        state, change = fold(state, said)
        if change is not None:
            changes.append(StatusChange(message=message, event_id=event, **change))
    columns = state.columns
    if not is_whole:  # who knows what the others had said
        empty = [name for name in Message.REPORTED if not columns[name]]
        columns |= {name: getattr(message, name) for name in empty}
    if not _pruned(history) and not (left and left[0].event < lies[0].event):
        times = [message.recorded_at, *(each.created_at for each in left)]
        columns["created_at"] = min(filter(None, times), default=message.created_at)
    pairs = zip(history, changes, strict=False)
    same = len(list(takewhile(lambda pair: _content(pair[0]) == _content(pair[1]), pairs)))
    for before, after in zip(history[same:], changes[same:], strict=False):
        after.pk = before.pk
    return list(message.take(columns)), history[same:], changes[same:]


def _without_claims(message: Message, lies: list[_Heard]) -> Known:
    """Return the message as it is known, but for statuses and for what was claimed."""
    known = message.known()
    names: tuple[str, ...] = Message.REPORTED
    if message.recorded_at is not None:
        is_own = message.own_number in map(to_contact, conf.own_numbers)
        names = () if is_own else MAY_BE_FILLED_IN
    claims = [each.said.values for each in lies if each.said]
    empty = {
        name: getattr(Message(), name)
        for name in names
        if known.values[name] in [claim.get(name) for claim in claims]
    }
    return replace(known, values={**known.values, **empty}, status="", status_changed_at=None)


def _in_order(
    history: list[StatusChange], left: Sequence[_Heard]
) -> Iterator[tuple[int | None, Said]]:
    """Yield what was said, in the order of arrival; what has been pruned came first."""
    rows = {change.event_id: change for change in history}
    webhook = next((each.said for each in left if each.said and not each.is_listed), None)
    for change in _pruned(history):
        yield None, _repeated(change)
    for event, said, _, is_listed in left:
        row = rows.get(event)
        if said is None:
            if row is not None:
                yield event, _repeated(row)
            continue
        if is_listed and webhook is not None:  # beats the list, as if it had come first
            media = said.values["media"] or webhook.values["media"]
            said = replace(webhook, values={**webhook.values, "media": media}, at=said.at)
        yield event, said if row is None else replace(said, at=row.recorded_at)


def _pruned(history: list[StatusChange]) -> list[StatusChange]:
    return [change for change in history if change.event_id is None]


def _repeated(change: StatusChange) -> Said:
    """Return what a row of the history says, of an event that does not say it any more."""
    details = {"reason": change.reason}
    return Said(values={}, at=change.recorded_at, status=change.status, details=details)


_content = attrgetter("event_id", "status", "previous_status", "applied", "reason", "recorded_at")


def _end_opt_outs(using: str, events: list[int], taken: set[int], note: str) -> int:
    """End the opt-outs that these events began and nothing else has begun since their last end."""
    begun = OptOutChange.objects.using(using).filter(event__in=events)
    pks = list(begun.values_list("opt_out", flat=True))
    opt_outs, changes = OptOut.objects.using(using), []
    for opt_out in opt_outs.active().filter(pk__in=pks).order_by("contact").select_for_update():
        history = OptOutChange.objects.using(using).filter(opt_out=opt_out).order_by("-pk")
        why = takewhile(lambda change: change.kind == OptOutChange.Kind.BEGUN, history)
        if {change.event_id for change in why} <= taken:
            changes.append(opt_out.end(at=timezone.now(), note=note))
    opt_outs.save_changes(changes)
    return len(changes)


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
