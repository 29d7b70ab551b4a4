"""Skipping a handler: a person decides that it need not run for an event."""

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from cellcast_django.models import WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.admin_pages import page_of, staff, text_of, url_of
from tests.database_faults import just_before
from tests.handlers import Calls, Connect

pytestmark = pytest.mark.django_db


@pytest.fixture
def event(client: WebhookClient, connect: Connect) -> WebhookEvent:
    """An event that one handler has finished with, and another has failed for."""

    finished = Calls("finished")
    unlucky = Calls("unlucky", error=ValueError("no luck"))
    connect(message_received, finished)
    connect(message_received, unlucky)
    client.reply()
    return WebhookEvent.objects.get()


def skip_url(event: WebhookEvent, handler: str) -> str:
    return url_of("webhookevent", "skip", event.pk, handler=handler)


def test_handler_is_skipped_after_a_question(operator: Client, event: WebhookEvent) -> None:
    url = skip_url(event, "unlucky")
    assert f'href="{url}"' in page_of(operator, "webhookevent", "change", event.pk)

    question = text_of(operator.get(url).content.decode())
    assert "unlucky will not run for this event, now or later." in question
    assert not WebhookEvent.objects.done().exists()
    response = operator.post(url, follow=True)

    assert [str(each) for each in response.context["messages"]] == ["unlucky is skipped."]
    words = text_of(response.content.decode())
    assert "✓ done All handlers have finished." in words
    assert "• skipped unlucky" in words
    event.refresh_from_db()
    assert event.state == WebhookEvent.State.DONE
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (
        str(event.pk),
        "Skipped the handler unlucky.",
    )
    assert operator.get(url).status_code == 404  # nothing is left to skip


def test_handler_that_is_not_connected_can_be_skipped(
    operator: Client, event: WebhookEvent
) -> None:
    message_received.disconnect(dispatch_uid="unlucky")

    words = text_of(page_of(operator, "webhookevent", "change", event.pk))
    assert "Not connected in this process: it will not run again from here." in words
    operator.post(skip_url(event, "unlucky"))

    event.refresh_from_db()
    assert event.state == WebhookEvent.State.DONE


def test_handler_that_never_ran_can_be_skipped(
    operator: Client, event: WebhookEvent, connect: Connect
) -> None:
    newcomer = Calls("newcomer")
    connect(message_received, newcomer)

    page = page_of(operator, "webhookevent", "change", event.pk)
    assert "… has not run yet newcomer" in text_of(page)
    operator.post(skip_url(event, "newcomer"))

    event.refresh_from_db()
    assert event.handler_results["newcomer"]["skipped"] is True
    assert event.state == WebhookEvent.State.PENDING


@pytest.mark.parametrize("handler", ["finished", "nobody", ""])
def test_handler_with_nothing_to_skip_is_not_found(
    operator: Client, event: WebhookEvent, handler: str
) -> None:
    assert operator.post(skip_url(event, handler)).status_code == 404


def test_handler_that_finished_meanwhile_is_said_to_have_run(
    operator: Client, event: WebhookEvent
) -> None:
    def run_elsewhere() -> None:
        WebhookEvent.objects.update(attempts=2)

    with just_before("^UPDATE .*webhookevent", run_elsewhere):
        response = operator.post(skip_url(event, "unlucky"), follow=True)

    [sentence] = map(str, response.context["messages"])
    assert sentence == "unlucky was not skipped: it has run in the meantime."
    assert not LogEntry.objects.exists()


def test_skipping_needs_its_permission(reader: Client, event: WebhookEvent) -> None:
    url = skip_url(event, "unlucky")

    assert "/skip/" not in page_of(reader, "webhookevent", "change", event.pk)
    for person in (reader, staff("rerun_webhookevent")):
        assert person.get(url).status_code == 403
        assert person.post(url).status_code == 403
    event.refresh_from_db()
    assert "skipped" not in event.handler_results["unlucky"]
