"""``cellcast_reprocess``: what could not be understood is read again."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from cellcast_django.factories import WebhookEventFactory
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient, reply_payload

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("cellcast_reprocess", *arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue().strip()


def old_picture() -> WebhookEvent:
    """A reply without a text, which once was a status report on a reply that was not there."""
    payload = json.dumps(reply_payload(message=None, status="delivered"))
    return WebhookEventFactory.create(
        invalid=True, endpoint="receive", body=payload, error="There is no inbound message …"
    )


def test_event_understood_now_is_stored_and_runs_handlers(listen: Any) -> None:
    calls = listen(message_received)
    event = old_picture()
    assert run() == ("1 understood, 0 still invalid.", "")
    event.refresh_from_db()
    assert (event.outcome, event.state) == ("stored", "done")
    message = Message.objects.inbound().get()
    assert (message.body, message.status) == ("", "delivered")
    assert [call["message"] for call in calls] == [message]


def test_event_still_not_understood_stays_invalid() -> None:
    response = WebhookClient().webhook(b"{}", "status")
    event = WebhookEvent.objects.get(pk=response.json()["events"][0]["id"])
    assert event.error
    assert run() == ("0 understood, 1 still invalid.", f"event {event.pk}: {event.error}")


def test_dismissed_event_is_undismissed_once_understood() -> None:
    understood = old_picture()
    broken = WebhookEventFactory.create(invalid=True, body="{broken")
    WebhookEvent.objects.update(dismissed_at=timezone.now())

    assert run()[0] == "1 understood, 1 still invalid."

    assert WebhookEvent.objects.get(dismissed_at__isnull=False) == broken
    understood.refresh_from_db()
    assert (understood.outcome, understood.dismissed_at) == ("stored", None)


def test_event_option_reads_only_that_event() -> None:
    event = old_picture()
    WebhookClient().webhook(b"{}", "status")
    assert run("--event", str(event.pk)) == ("1 understood, 0 still invalid.", "")


def test_unknown_or_valid_event_is_an_error() -> None:
    assert run() == ("0 understood, 0 still invalid.", "")
    WebhookClient().status()
    for pk in (999_999, int("9" * 23), WebhookEvent.objects.get().pk):
        with pytest.raises(CommandError, match=rf": {pk}\."):
            run("--event", str(pk))
