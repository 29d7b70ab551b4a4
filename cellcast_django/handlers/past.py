"""Past events for one handler, that is written or mended only now: which are given, and giving."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db.models import Max, Min
from django.utils import timezone

from cellcast_django.connected import calls_asked_for, connected_handlers
from cellcast_django.handlers import steps
from cellcast_django.handlers.attempts import Progress, Tally, Turn, load
from cellcast_django.handlers.work import facts_of, with_facts
from cellcast_django.models import HandlerCall, WebhookEvent

PAGE_SIZE = 500  # how many events are in memory at a time


def past_events(handler: str, since: datetime, *, done: bool = False) -> list[int]:
    """Return the keys of the events to give, in their order: those received since then.

    Those that have a fact for the handler and that it has not done, or these too with ``done``.
    Not tests, which are nothing that a customer did, nor redacted events: without its number an
    opt-out would be another contact's. Raises ``ValueError`` if the handler is not connected.
    """
    if handler not in connected_handlers():
        raise ValueError(f"No handler of this name is connected: {handler}")
    found = []
    for page in _pages(since):
        states = defaultdict(dict)
        calls = HandlerCall.objects.fresh().filter(handler=handler, event__in=page)
        for event, signal, state in calls.values_list("event_id", "signal", "state"):
            states[event][signal] = state
        for event in page:
            wanted = _in_order_of(event, handler)
            if any(_is_given(states[event.pk].get(signal), done=done) for signal in wanted):
                found.append(event.pk)
    return found


def give(
    events: Iterable[int],
    handler: str,
    *,
    done: bool = False,
    progress: Progress = lambda call: None,
) -> Tally:
    """Give events to one handler, each in turn, and return how its calls ended.

    Interrupted, it can be given the same again: with ``done``, what is done begins anew.
    """
    turn, began_at = Turn(progress), timezone.now()
    for pk in events:
        event = with_facts(WebhookEvent.objects.fresh()).filter(pk=pk).first()
        if event is None:
            continue
        wanted = _in_order_of(event, handler)
        known = set(event.calls.filter(handler=handler).values_list("signal", flat=True))
        if missing := {signal: wanted[signal] for signal in wanted if signal not in known}:
            steps.insert(event, handler, missing)
        calls = load(pk)
        chosen = {
            call.pk
            for call in calls
            if call.handler == handler
            and call.signal in wanted
            and _is_given(call.state, done=done)
            # One that waited may have been made since, after the one that it waited for.
            and (call.started_at is None or call.started_at < began_at)
            and (call.version == 0 or steps.reopen(call))
        }
        turn.make(calls, chosen)
    return turn.tally


def _is_given(state: str | None, *, done: bool) -> bool:
    """Whether a call in this state is made again; ``None``: there is none yet."""
    if state == HandlerCall.State.DONE:
        return done
    return state != HandlerCall.State.RUNNING


def _in_order_of(event: WebhookEvent, handler: str) -> dict[str, bool]:
    """Return the signals of the event's facts that the handler is connected to.

    Each with whether it wants its events in order.
    """
    signals = [fact.signal for fact in facts_of(event).values()]
    asked_for = {signal.name: dict(calls_asked_for(signal)) for signal in signals}
    return {name: calls[handler] for name, calls in asked_for.items() if handler in calls}


def _pages(since: datetime) -> Iterator[list[WebhookEvent]]:
    """Yield the events that may have a fact, in the order of their keys."""
    events = WebhookEvent.objects.fresh().filter(received_at__gte=since)
    ends = events.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return
    after = ends["first"] - 1
    stored = events.filter(outcome=WebhookEvent.Outcome.STORED, is_test=False).exclude(body="")
    stored = with_facts(stored).filter(pk__lte=ends["last"]).order_by("pk")
    while page := list(stored.filter(pk__gt=after)[:PAGE_SIZE]):
        yield page
        after = page[-1].pk
