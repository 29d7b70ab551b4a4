"""The three things that can be done with events again, and what each of them would do."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.utils.translation import gettext_lazy as _, ngettext_lazy

from cellcast_django import announcements, inbox, receiving
from cellcast_django.admin.display import sentences
from cellcast_django.admin.lists.event_filters import connected_handlers
from cellcast_django.announcements.facts import handlers_of, handlers_to_replay
from cellcast_django.conf import conf
from cellcast_django.models import WebhookEvent


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One thing that can be done with events."""

    name: str
    title: Any
    button: Any
    """What the button of the page that asks says, by the number of events."""
    will_do: Any
    """Sentence about the number of events that it concerns."""
    idle: Any
    """Sentence about the number of those that it does not."""
    log: str
    """What the log of the admin says about each event."""
    callees: Callable[[WebhookEvent], list[str] | None]
    """Which handlers would be called for an event; ``None`` when it has nothing to do with it."""
    run: Callable[[Iterable[int]], Iterator[WebhookEvent]]
    """Does it, and yields each event after that."""
    permission: str = "announce"
    command: str = ""
    """The one that does the same to any number of events, if there is one."""
    warning: Any = ""
    did: Any = None
    """Sentence about the number of events that have been understood."""
    is_queued: Callable[[], bool] = bool
    """Whether the handlers are called elsewhere, and nobody waits for them."""


@dataclass
class Plan:
    """What a replay of these events would do."""

    keys: list[int] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    """For how many events each handler will be called that was called for them before."""
    first: Counter[str] = field(default_factory=Counter)
    """For how many events each handler will be called that never was."""
    missing: Counter[str] = field(default_factory=Counter)
    """For how many events a handler failed that is not connected in this process."""
    unheard: int = 0
    """How many of the events nobody is left to be called for."""
    idle: int = 0
    """How many events it is not about."""

    @classmethod
    def of(cls, replay: Replay, events: Iterable[WebhookEvent]) -> "Plan":
        """Look at the events, and change nothing."""
        plan = cls()
        for event in events:
            callees = replay.callees(event)
            if callees is None:
                plan.idle += 1
                continue
            plan.keys.append(event.pk)
            plan.again.update(name for name in callees if name in event.announcements)
            plan.first.update(name for name in callees if name not in event.announcements)
            plan.missing.update(set(event.handler_errors()) - _connected_to(event))
            plan.unheard += not callees
        return plan


def _connected_to(event: WebhookEvent) -> set[str]:
    return {callee.name for callee in handlers_of(event)}


def _unfinished(event: WebhookEvent) -> list[str] | None:
    if not event.is_unannounced:
        return None
    return [each.name for each in handlers_of(event) if not event.has_finished(each.name)]


def _everyone(event: WebhookEvent) -> list[str] | None:
    return [each.name for each in handlers_to_replay(event)] or None


def _whoever_listens(event: WebhookEvent) -> list[str] | None:
    return connected_handlers() if event.outcome == WebhookEvent.Outcome.INVALID else None


def _read_again(keys: Iterable[int]) -> Iterator[WebhookEvent]:
    for key in keys:
        event = WebhookEvent.objects.invalid().filter(pk=key).first()
        read_again = inbox.reprocess(event) if event else []
        receiving.announce(read_again)
        yield from read_again


TO_UNFINISHED = Replay(
    name="announce_again",
    title=_("Retry failed handlers"),
    button=ngettext_lazy("Retry %(count)d event", "Retry %(count)d events", "count"),
    will_do=sentences.EVENTS,
    idle=sentences.NOTHING_LEFT,
    log="Ran the unfinished handlers again.",
    command="cellcast_announce --failed",
    callees=_unfinished,
    run=announcements.announce_again,
)
TO_EVERYONE = Replay(
    name="announce_to_all",
    title=_("Re-run all handlers"),
    button=ngettext_lazy("Re-run %(count)d event", "Re-run %(count)d events", "count"),
    warning=_(
        "Handlers that already succeeded will run again. If they send, charge or cancel something, "
        "they will do so twice."
    ),
    will_do=sentences.EVENTS,
    idle=sentences.NO_HANDLER,
    log="Ran all handlers again.",
    callees=_everyone,
    run=partial(announcements.announce_again, everyone=True),
)
PROCESS = Replay(
    name="process_again",
    permission="reprocess",
    did=sentences.HAS_BEEN_READ,
    title=_("Try to read again"),
    button=ngettext_lazy("Read %(count)d event again", "Read %(count)d events again", "count"),
    will_do=sentences.WILL_READ,
    idle=sentences.NOT_INVALID,
    log="Read it again.",
    command="cellcast_reprocess",
    callees=_whoever_listens,
    run=_read_again,
    is_queued=lambda: conf.announce_via == "task",
)

REPLAYS = {replay.name: replay for replay in (TO_UNFINISHED, TO_EVERYONE, PROCESS)}
