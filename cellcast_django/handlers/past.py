"""Past events for one handler, that is written or mended only now: which are given, and giving."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db.models import Max, Min
from django.utils import timezone

from cellcast_django.connected import calls_asked_for
from cellcast_django.handlers import steps
from cellcast_django.handlers.attempts import Progress, Tally, Turn, load
from cellcast_django.handlers.work import FACTS, facts_of
from cellcast_django.models import HandlerCall, WebhookEvent, WebhookEventQuerySet

State = HandlerCall.State
PAGE_SIZE = 500  # how many events are in memory at a time


def past_events(handler: str, since: datetime, *, done: bool = False) -> list[int]:
    """Return the keys of the events since then that the handler is to be given, in their order."""
    found = []
    for page in _pages(since):
        calls = HandlerCall.objects.fresh().filter(handler=handler, event__in=page)
        known = {(call.event_id, call.signal): call for call in calls}
        for event in page:
            wanted = [known.get((event.pk, signal)) for signal in _in_order_of(event, handler)]
            if any(_is_given(call, done=done) for call in wanted):
                found.append(event.pk)
    return found


def give(
    events: Iterable[int],
    handler: str,
    *,
    done: bool = False,
    progress: Progress = lambda call: None,
) -> Tally:
    """Give events to one handler, each in turn, and return how its calls ended."""
    turn, began_at = Turn(progress), timezone.now()
    for pk in events:
        event = _with_facts().filter(pk=pk).first()
        if event is None:
            continue
        wanted = _in_order_of(event, handler)
        known = HandlerCall.objects.fresh().filter(event=pk, handler=handler)
        told = set(known.values_list("signal", flat=True))
        if missing := {signal: wanted[signal] for signal in wanted if signal not in told}:
            steps.insert(event, handler, missing)
        calls = load(pk)
        chosen = {
            call.pk
            for call in calls
            if call.handler == handler
            and call.signal in wanted
            and _is_given(call, done=done)
            # One that waited may have been made since, after the one that it waited for.
            and (call.started_at is None or call.started_at < began_at)
            and (call.version == 0 or call.state == State.RUNNING or steps.reopen(call))
        }
        turn.make(calls, chosen)
    return turn.tally


def _is_given(call: HandlerCall | None, *, done: bool) -> bool:
    """Whether a call is made again; ``None`` if there is none yet."""
    if call is None or call.state == State.DONE:
        return call is None or done
    return call.state != State.RUNNING or call.is_due(timezone.now())


def _in_order_of(event: WebhookEvent, handler: str) -> dict[str, bool]:
    """Return the signals that are told the handler, each with whether it wants them in order."""
    signals = [fact.signal for fact in facts_of(event).values()]
    asked_for = {signal.name: dict(calls_asked_for(signal)) for signal in signals}
    return {name: calls[handler] for name, calls in asked_for.items() if handler in calls}


def _pages(since: datetime) -> Iterator[list[WebhookEvent]]:
    """Yield the events that may have a fact, in the order of their keys."""
    events = _with_facts().filter(received_at__gte=since)
    ends = events.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return
    after = ends["first"] - 1
    while page := list(events.filter(pk__gt=after, pk__lte=ends["last"])[:PAGE_SIZE]):
        yield page
        after = page[-1].pk


def _with_facts() -> WebhookEventQuerySet:
    events = WebhookEvent.objects.fresh().select_related(*FACTS).order_by("pk")
    return events.filter(outcome=WebhookEvent.Outcome.STORED, is_test=False).exclude(body="")
