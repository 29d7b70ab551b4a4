"""The three things that can be done with events again, and what each of them would do."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.utils.translation import gettext_lazy as _

from cellcast_django import announcements, inbox, receiving
from cellcast_django.admin.display import sentences
from cellcast_django.admin.lists.event_filters import connected_handlers
from cellcast_django.announcements.facts import callees_of, callees_to_replay
from cellcast_django.conf import conf
from cellcast_django.models import WebhookEvent


@dataclass(frozen=True)
class Replay:
    """One thing that can be done with events."""

    name: str
    title: Any
    will_do: Any
    """Sentence about the number of events that it concerns."""
    idle: Any
    """Sentence about the number of those that it does not."""
    callees: Callable[[WebhookEvent], list[str] | None]
    """Which handlers would be called for an event; ``None`` when it has nothing to do with it."""
    run: Callable[[Iterable[int]], Iterator[WebhookEvent]]
    """Does it, and yields each event after that."""
    warning: Any = ""
    did: Any = None
    """Sentence about the number of events that have been understood."""
    is_queued: Callable[[], bool] = bool
    """Whether the handlers are called elsewhere, and nobody waits for them."""


@dataclass
class Plan:
    """What a replay of these events would do."""

    keys: list[int] = field(default_factory=list)
    handlers: Counter[str] = field(default_factory=Counter)
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
            plan.handlers.update(callees)
            plan.unheard += not callees
        return plan


def _unfinished(event: WebhookEvent) -> list[str] | None:
    if not event.is_unannounced:
        return None
    return [each.name for each in callees_of(event) if not event.has_finished(each.name)]


def _everyone(event: WebhookEvent) -> list[str] | None:
    return [each.name for each in callees_to_replay(event)] or None


def _whoever_listens(event: WebhookEvent) -> list[str] | None:
    return connected_handlers() if event.outcome == WebhookEvent.Outcome.INVALID else None


def _process_again(keys: Iterable[int]) -> Iterator[WebhookEvent]:
    for key in keys:
        event = WebhookEvent.objects.invalid().filter(pk=key).first()
        read_again = inbox.reprocess(event) if event else []
        receiving.announce(read_again)
        yield from read_again


TO_UNFINISHED = Replay(
    name="announce_again",
    title=_("Announce again to the handlers that have not finished"),
    will_do=sentences.WILL_ANNOUNCE,
    idle=sentences.NOTHING_LEFT,
    callees=_unfinished,
    run=announcements.announce_again,
)
TO_EVERYONE = Replay(
    name="announce_to_all",
    title=_("Announce again to all handlers"),
    warning=_("Handlers that had finished hear it a second time: what they do, they do again."),
    will_do=sentences.WILL_ANNOUNCE,
    idle=sentences.NOTHING_TO_SAY,
    callees=_everyone,
    run=partial(announcements.announce_again, everyone=True),
)
PROCESS = Replay(
    name="process_again",
    did=sentences.UNDERSTOOD,
    title=_("Process invalid events again"),
    will_do=sentences.WILL_PROCESS,
    idle=sentences.NOT_INVALID,
    callees=_whoever_listens,
    run=_process_again,
    is_queued=lambda: conf.announce_via == "task",
)

REPLAYS = (TO_UNFINISHED, TO_EVERYONE, PROCESS)
