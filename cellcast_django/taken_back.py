"""Take events back, as if they had never come: those of a leak, and those of Test Sends.

They go, and each message that they spoke of is made anew by the inbox's own fold, from the events
that are left. Start with ``take_back``.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from operator import attrgetter
from typing import Any, NamedTuple

from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.fold import Said, State, fold
from cellcast_django.inbox.drafts import Arrival, draft
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
from cellcast_django.retention import (
    BATCH_SIZE,
    Part,
    Progress,
    Pruned,
    delete,
    delete_events,
    remove,
)

MESSAGES_AT_A_TIME = 50
"""Their genuine reports wait for as long as they are made anew."""

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
    the status, the history and the texts that the events left would have made, and a recovered
    reply its own key. What those had filled in that are redacted or pruned is kept. Opt-outs that
    the events began are left, unless ``end_opt_outs`` says why they end: then those do that nothing
    else has begun.

    In batches, a message and its events in the same. A message that one of your own models protects
    is kept, with its events. Calls no handler. Safe to interrupt and to repeat. Raises
    ``django.db.Error`` when the database refuses.
    """
    return remove(_parts_of(set(events), end_opt_outs), progress)


def _parts_of(taken: set[int], note: str | None) -> Iterator[Part]:
    spoken_of: set[int] = set()
    for some in _slices(sorted(taken), BATCH_SIZE):
        named = WebhookEvent.objects.fresh().filter(pk__in=some)
        spoken_of.update(named.exclude(message=None).values_list("message_id", flat=True))
        yield named.filter(message=None), "pk", partial(_delete, taken=taken, note=note)
    for pks in _slices(sorted(spoken_of), MESSAGES_AT_A_TIME):
        messages = Message.objects.fresh().filter(pk__in=pks)
        yield messages, "key", partial(_undo, taken=taken, note=note)


def _slices(pks: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(pks), size):
        yield pks[start : start + size]


def _delete(using: str, pks: list[int], *, taken: set[int], note: str | None) -> Pruned:
    """Delete these events, after the opt-outs that they began have ended."""
    ended = 0 if note is None else _end_opt_outs(using, pks, taken, note)
    return replace(delete_events(using, pks), opt_outs=ended)


def _undo(using: str, pks: list[int], *, taken: set[int], note: str | None) -> Pruned:
    """Undo what the taken events did to these messages, which are locked."""
    messages, history = Message.objects.using(using), StatusChange.objects.using(using)
    rests = {message.pk: _Rest(message) for message in messages.filter(pk__in=pks)}
    for change in history.filter(message__in=pks).order_by("pk"):
        rests[change.message_id].history.append(change)
    events = WebhookEvent.objects.using(using).filter(message__in=pks).order_by("pk")
    about = []
    for event in events.iterator(chunk_size=BATCH_SIZE):
        is_taken = event.pk in taken
        rests[event.message_id or 0].hear(event, is_taken=is_taken)
        if is_taken:
            about.append(event.pk)
    old: list[StatusChange] = []
    new: list[StatusChange] = []
    changed = {}
    for rest in rests.values():
        if rest.is_spoken_of and (columns := rest.make_anew(old, new)):
            changed[rest.message] = columns
    for some in _slices([change.pk for change in old], BATCH_SIZE):
        history.filter(pk__in=some).delete()
    history.bulk_create(new)
    if changed:
        messages.bulk_update(changed, sorted(set().union(*changed.values())))
    pruned = Pruned()
    for some in _slices(about, BATCH_SIZE):
        pruned = pruned.plus(_delete(using, some, taken=taken, note=note))
    gone = [pk for pk, rest in rests.items() if not rest.is_spoken_of]
    return replace(pruned, messages=delete(messages.filter(pk__in=gone)))


class _Heard(NamedTuple):
    """What an event that is left says."""

    event: int | None
    said: Said | None
    """``None`` if it has been redacted."""
    created_at: Any = None
    is_listed: bool = False


@dataclass
class _Rest:
    """A message, and what is said of it once the taken events are gone."""

    message: Message = field(repr=False)
    history: list[StatusChange] = field(default_factory=list)
    left: list[_Heard] = field(default_factory=list)
    first_taken: int = 0
    claims: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """What the taken events say, by column."""

    def hear(self, event: WebhookEvent, *, is_taken: bool) -> None:
        """Add one of the message's events; call it in the order of their keys."""
        heard = _read(event)
        if not is_taken:
            self.left.append(heard)
            return
        self.first_taken = self.first_taken or event.pk
        for name, value in heard.said.values.items() if heard.said else ():
            self.claims[name].add(str(value))

    @property
    def is_spoken_of(self) -> bool:
        return bool(self.left or self._pruned or self.message.recorded_at)

    @property
    def _pruned(self) -> list[StatusChange]:
        return [change for change in self.history if change.event_id is None]

    def make_anew(self, old: list[StatusChange], new: list[StatusChange]) -> list[str]:
        """Let the message be as if only the events left had come; return the columns to save.

        Adds the rows of its history to be deleted, and those to be inserted, in this order: each
        from the first one that differs.
        """
        message, rows = self.message, {change.event_id: change for change in self.history}
        is_whole = not self._pruned and all(each.said for each in self.left)
        state = None if is_whole and message.recorded_at is None else self._without_claims()
        changes = []
        for event, said in self._in_order(rows):
            state, change = fold(state, said)
            if change is not None:
                changes.append(StatusChange(message=message, event_id=event, **change.columns))
        columns = {} if state is None else state.columns
        if not is_whole:  # who knows what the others had said
            empty = [name for name in Message.REPORTED if not columns[name]]
            columns |= {name: getattr(message, name) for name in empty}
        first_left = self.left[0].event or 0 if self.left else self.first_taken
        if first_left >= self.first_taken and not self._pruned:
            times = [message.recorded_at, *(each.created_at for each in self.left)]
            columns["created_at"] = min(filter(None, times), default=message.created_at)
        pairs = zip(self.history, changes, strict=False)
        same = len(list(takewhile(lambda pair: _content(pair[0]) == _content(pair[1]), pairs)))
        for before, after in zip(self.history[same:], changes[same:], strict=False):
            after.pk = before.pk
        old += self.history[same:]
        new += changes[same:]
        return list(message.take(columns))

    def _without_claims(self) -> State:
        """Return the message as it is known, but for statuses and for what was claimed."""
        known = self.message.state()
        names: tuple[str, ...] = Message.REPORTED
        if self.message.recorded_at is not None:
            is_own = self.message.own_number in map(to_contact, conf.own_numbers)
            names = () if is_own else MAY_BE_FILLED_IN
        claimed = [name for name in names if str(known.values[name]) in self.claims[name]]
        empty = {name: getattr(Message(), name) for name in claimed}
        return replace(known, values={**known.values, **empty}, status="", status_changed_at=None)

    def _in_order(self, rows: dict[Any, StatusChange]) -> Iterator[tuple[int | None, Said]]:
        """Yield what was said, in the order of arrival; what has been pruned came first."""
        webhook = next((each.said for each in self.left if each.said and not each.is_listed), None)
        for change in self._pruned:
            yield None, _repeated(change)
        for event, said, _, is_listed in self.left:
            row = rows.get(event)
            if said is None:
                if row is not None:
                    yield event, _repeated(row)
                continue
            if is_listed and webhook is not None:  # beats the list, as if it had come first
                media = said.values["media"] or webhook.values["media"]
                said = replace(webhook, values={**webhook.values, "media": media}, at=said.at)
            yield event, said if row is None else replace(said, at=row.recorded_at)


_content = attrgetter("event_id", "status", "previous_status", "applied", "reason", "recorded_at")


def _repeated(change: StatusChange) -> Said:
    """Return what a row of the history says, of an event that does not say it any more."""
    details = {"reason": change.reason}
    return Said(values={}, at=change.recorded_at, status=change.status, details=details)


def _read(event: WebhookEvent) -> _Heard:
    """Return what a stored event says, as if it had just arrived at its time."""
    if event.endpoint == Endpoint.API:
        payload: Any = read_stored_item(event.body)
    else:
        payload = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))[0]
    if not isinstance(payload, Reply | StatusReport):
        return _Heard(event.pk, None)
    said = draft(payload, Arrival.of(event))
    is_listed = isinstance(payload, Reply) and payload.listed is not None
    return _Heard(event.pk, said.said, said.if_new["created_at"], is_listed)


# Opt-outs


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


# Beforehand


@dataclass
class Effects:
    """What events have done that ``take_back`` does not undo, or not by itself."""

    handlers: set[str] = field(default_factory=set)
    """The names of the handlers that had been told of them."""
    opt_outs: int = 0
    """How many opt-outs they began that stand."""


def effects_of(events: Iterable[int]) -> Effects:
    """Return what these events have done."""
    found = Effects()
    for some in _slices(sorted(events), BATCH_SIZE):
        told = HandlerCall.objects.fresh().filter(event__in=some, attempts__gt=0)
        found.handlers.update(told.values_list("handler", flat=True))
        begun = OptOutChange.objects.fresh().filter(event__in=some)
        active = OptOut.objects.fresh().active().filter(pk__in=begun.values("opt_out"))
        found.opt_outs += active.count()
    return found
