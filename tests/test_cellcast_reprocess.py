"""``cellcast_reprocess``: what could not be understood is read again."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import status_changed
from cellcast_django.testing import WebhookClient

pytestmark = pytest.mark.django_db


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The statuses that a handler has heard of."""
    heard: list[str] = []

    def handler(status_change: Any, **kwargs: Any) -> None:
        heard.append(status_change.status)

    status_changed.connect(handler)
    yield heard
    status_changed.disconnect(handler)


def run(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("cellcast_reprocess", *arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue().strip()


def report_before_its_reply() -> WebhookEvent:
    client = WebhookClient()
    assert client.reply(message=None, status="delivered").status_code == 400
    client.reply(message="YES", status="received")
    return WebhookEvent.objects.invalid().get()


def test_says_when_there_is_nothing_to_do() -> None:
    assert run() == ("0 understood, 0 still invalid.", "")


def test_report_that_came_before_its_reply_is_understood_and_announced(heard: list[str]) -> None:
    event = report_before_its_reply()
    assert run() == ("1 understood, 0 still invalid.", "")
    event.refresh_from_db()
    assert (event.outcome, event.announced_at is not None) == ("stored", True)
    assert heard == ["delivered"]
    assert Message.objects.get().status == "delivered"


def test_what_is_still_not_understood_keeps_its_place_and_its_reason() -> None:
    response = WebhookClient().send("webhook-status", b"{}")
    [pk] = [event["id"] for event in response.json()["events"]]
    assert run() == (
        "0 understood, 1 still invalid.",
        f"event {pk}: A status report without a status.",
    )


def test_event_option_processes_only_that_one() -> None:
    event = report_before_its_reply()
    WebhookClient().send("webhook-status", b"{}")
    assert run("--event", str(event.pk)) == ("1 understood, 0 still invalid.", "")


def test_event_that_is_not_invalid_is_an_error() -> None:
    WebhookClient().status()
    pk = WebhookEvent.objects.get().pk
    with pytest.raises(CommandError, match=f"There is no invalid event {pk}"):
        run("--event", str(pk))
