"""``cellcast_announce``: what is due, and on request what has failed."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from cellcast_django.models import WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient

pytestmark = pytest.mark.django_db


class Handler:
    """Raises until it is mended."""

    def __init__(self) -> None:
        self.calls = 0
        self.broken = True

    def __call__(self, **kwargs: Any) -> None:
        self.calls += 1
        if self.broken:
            raise ConnectionError("the calendar is down")


@pytest.fixture
def handler() -> Iterator[Handler]:
    """The only handler of ``message_received``."""
    handler = Handler()
    message_received.connect(handler, dispatch_uid="calendar")
    yield handler
    message_received.disconnect(dispatch_uid="calendar")


def failing_event(**changes: Any) -> WebhookEvent:
    WebhookClient().reply(**changes)
    return WebhookEvent.objects.latest("pk")


def give_up(event: WebhookEvent) -> None:
    WebhookEvent.objects.filter(pk=event.pk).update(announce_due_at=None)


def run(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("cellcast_announce", *arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue().strip()


def test_says_when_nothing_is_due(handler: Handler) -> None:
    failing_event()
    assert run() == ("0 announced, 0 to be tried again later, 0 failed.", "")
    assert handler.calls == 1


def test_announces_what_is_due(handler: Handler) -> None:
    failing_event()
    WebhookEvent.objects.update(announce_due_at=timezone.now())
    handler.broken = False
    assert run() == ("1 announced, 0 to be tried again later, 0 failed.", "")


def test_names_the_handler_that_fails_again(handler: Handler) -> None:
    event = failing_event()
    WebhookEvent.objects.update(announce_due_at=timezone.now())
    assert run() == (
        "0 announced, 1 to be tried again later, 0 failed.",
        f"event {event.pk}: calendar: ConnectionError",
    )


def test_event_option_does_not_wait_for_the_pause(handler: Handler) -> None:
    event, other = failing_event(message="one"), failing_event(message="two")
    handler.broken = False
    assert run("--event", str(event.pk))[0].startswith("1 announced")
    other.refresh_from_db()
    assert other.announced_at is None


def test_failed_option_takes_all_that_were_given_up(handler: Handler) -> None:
    waiting = failing_event(message="one")
    for text in ("two", "three"):
        give_up(failing_event(message=text))
    handler.broken = False
    assert run("--failed")[0] == "2 announced, 0 to be tried again later, 0 failed."
    assert WebhookEvent.objects.pending().get() == waiting


def test_event_that_fails_for_good_is_counted(handler: Handler, settings: Any) -> None:
    settings.CELLCAST_ANNOUNCE_MAX_ATTEMPTS = 1
    failing_event()
    assert run("--failed")[0] == "0 announced, 0 to be tried again later, 1 failed."


def test_unknown_event_is_an_error_and_nothing_is_announced(handler: Handler) -> None:
    event = failing_event()
    with pytest.raises(CommandError, match="There is no event 999999"):
        run("--event", str(event.pk), "--event", "999999")
    assert handler.calls == 1


def test_error_of_a_handler_that_is_not_connected_here_is_told_as_well(handler: Handler) -> None:
    event = failing_event()
    message_received.disconnect(dispatch_uid="calendar")
    assert run(f"--event={event.pk}") == (
        "0 announced, 1 to be tried again later, 0 failed.",
        f"event {event.pk}: calendar: ConnectionError",
    )
