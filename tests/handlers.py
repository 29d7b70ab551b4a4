"""Handlers for tests: they keep what they were called with, and fail when told to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.db import connection
from django.dispatch import Signal
from django.utils import timezone

from cellcast_django import signals
from cellcast_django.models import HandlerCall, WebhookEvent
from cellcast_django.signals import FactSignal, exactly_once, in_order, message_received
from cellcast_django.testing import WebhookClient
from cellcast_django.webhooks import WEBHOOKS

SIGNALS = [webhook.signal for webhook in WEBHOOKS]
"""Those that tell of a webhook."""

MARKS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda handler: handler,
    "in order": in_order,
    "exactly once": exactly_once,
    "both": lambda handler: in_order(exactly_once(handler)),
}
"""What a handler may be marked with."""

UPDATE_OF_CALL = "^UPDATE .*handlercall"


@pytest.fixture
def disconnected_afterwards() -> Iterator[None]:
    """Disconnect what the test connects to any of our signals."""
    ours = [value for value in vars(signals).values() if isinstance(value, Signal)]
    before = [list(signal.receivers) for signal in ours]
    yield
    for signal, receivers in zip(ours, before, strict=True):
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()


class Calls:
    """A handler that keeps what it was called with, and raises as long as it is told to."""

    def __init__(self, name: str = "handler", *, error: BaseException | None = None) -> None:
        self.__name__ = name
        self.arguments: list[dict[str, Any]] = []
        self.error = error
        self.errors: dict[str, BaseException] = {}
        """By the text of the message for which it raises them."""
        self.during: Callable[..., Any] = lambda **kwargs: None
        self.finished: list[str] = []
        """The texts of the messages that it has finished with."""

    def __call__(self, **kwargs: Any) -> None:
        self.arguments.append(kwargs)
        self.during(**kwargs)
        text = kwargs["message"].body if "message" in kwargs else ""
        if error := self.errors.get(text, self.error):
            raise error
        self.finished.append(text)

    def __len__(self) -> int:
        return len(self.arguments)

    def heard(self) -> list[str]:
        """The texts of the messages that it was called for."""
        return [call["message"].body for call in self.arguments]


@contextmanager
def connected(signal: Any, **handlers: Callable[..., Any]) -> Iterator[None]:
    for name, handler in handlers.items():
        signal.connect(handler, dispatch_uid=name)
    try:
        yield
    finally:
        for name in handlers:
            signal.disconnect(dispatch_uid=name)


Listen = Callable[[FactSignal], list[dict[str, Any]]]
Connect = Callable[[Any, Callable[..., None]], None]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Connects a handler to a signal until the test ends, and returns the list of its calls."""
    numbers = count(1)
    with ExitStack() as stack:

        def listen(signal: FactSignal) -> list[dict[str, Any]]:
            calls = Calls()
            stack.enter_context(connected(signal, **{f"listener {next(numbers)}": calls}))
            return calls.arguments

        yield listen


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects a handler under its own name until the test ends."""
    with ExitStack() as stack:

        def connect(signal: Any, handler: Callable[..., None]) -> None:
            stack.enter_context(connected(signal, **{handler.__name__: handler}))

        yield connect


@pytest.fixture
def first() -> Iterator[Calls]:
    """A handler of ``message_received`` named "first"."""
    calls = Calls()
    with connected(message_received, first=calls):
        yield calls


@pytest.fixture
def second(first: Calls) -> Iterator[Calls]:
    """Another one, connected later."""
    calls = Calls()
    with connected(message_received, second=calls):
        yield calls


def reply(**changes: Any) -> WebhookEvent:
    response = WebhookClient().reply(**changes)
    assert response.status_code == 200
    return WebhookEvent.objects.latest("pk")


def outcomes(response: Any) -> list[str]:
    """Return what became of each event of a webhook that was stored."""
    assert response.status_code == 200, response.content
    return [event["outcome"] for event in response.json()["events"]]


def call_of(event: WebhookEvent, handler: str = "first") -> HandlerCall:
    """Return the handler's call for the event, as it is now."""
    return HandlerCall.objects.get(event=event.pk, handler=handler)


def state_of(event: WebhookEvent) -> str | None:
    """Return the event's state as it is now."""
    return WebhookEvent.objects.get(pk=event.pk).state


def errors_of(event: WebhookEvent) -> dict[str, str]:
    """Return the errors of the event's calls, by handler."""
    return dict(
        HandlerCall.objects.filter(event=event.pk).failing().values_list("handler", "error")
    )


def pause_of(event: WebhookEvent, handler: str = "first") -> timedelta:
    """Return in how long the handler is called again."""
    call = call_of(event, handler)
    assert call.next_attempt_at is not None
    return call.next_attempt_at - timezone.now()


def make_due(event: WebhookEvent) -> None:
    """Let the pauses and leases of all unfinished calls of the event be over."""
    HandlerCall.objects.filter(event=event.pk).unfinished().update(next_attempt_at=timezone.now())


class Died(BaseException):
    """What no ``except`` of ours sees, as if the process were gone."""


@contextmanager
def dying(handler: Calls) -> Iterator[None]:
    """Let the process die while the handler is called: from then on nothing is saved."""
    has_begun = False

    def begin(**kwargs: Any) -> None:
        nonlocal has_begun
        has_begun = True

    def die(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if has_begun and sql.startswith("UPDATE"):
            raise Died
        return execute(sql, *rest)

    handler.during = begin
    with connection.execute_wrapper(die), suppress(Died):
        yield
    handler.during = lambda **kwargs: None


def ran(run: Callable[..., object], *arguments: Any, **options: Any) -> list[int]:
    """Make calls, and return the keys of their events."""
    pks: list[int] = []
    run(*arguments, **options, progress=lambda call: pks.append(call.event_id))
    return pks
