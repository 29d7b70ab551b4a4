"""The page of a message: what happened to it, with repeats and failing handlers."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from cellcast_django.factories import MessageFactory, WebhookEventFactory
from cellcast_django.models import Message
from cellcast_django.signals import status_changed
from cellcast_django.testing import WebhookClient
from tests.admin_pages import page_of, url_of
from tests.handlers import Calls, Connect
from tests.html import addresses, every, tones, words

pytestmark = pytest.mark.django_db


def steps_of(client: Client, message: Message) -> list[str]:
    """Return the text of each step of the timeline."""
    page = page_of(client, "message", "change", message.pk)
    return [words(step) for step in every(page, "ol[@class='cellcast-timeline']/li")]


def test_events_of_a_message_say_which_handlers_fail(
    reader: Client, client: WebhookClient, connect: Connect
) -> None:
    connect(status_changed, Calls("lucky"))
    connect(status_changed, Calls("unlucky", error=ValueError("<b>no luck</b>")))
    client.status()
    message = Message.objects.get()

    page = page_of(reader, "message", "change", message.pk)

    [event] = every(page, "article[@class='cellcast-event']")
    assert tones(event) == ["open"]
    assert "ValueError: <b>no luck</b> · unlucky" in words(event)
    assert url_of("webhookevent", "change", message.events.get().pk) in addresses(event)


def test_page_shows_the_newest_events_of_hundreds(reader: Client) -> None:
    message = MessageFactory.create()
    WebhookEventFactory.create_batch(25, duplicate=True, message=message)

    page = page_of(reader, "message", "change", message.pk)

    assert len(every(page, "article[@class='cellcast-event']")) == 20
    assert url_of("webhookevent", message__id__exact=message.pk) in addresses(page)


def test_query_count_does_not_grow_with_the_timeline(reader: Client) -> None:
    message = MessageFactory.create()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page_of(reader, "message", "change", message.pk)
        return len(captured)

    WebhookEventFactory.create(message=message, failed=True)
    queries()  # Django keeps the content type
    few = queries()
    for number in range(30):
        MessageFactory.create(receiver=message.receiver)
        WebhookEventFactory.create(message=message, failed=True, history__status=f"odd {number}")

    assert queries() == few
    assert few < 15
