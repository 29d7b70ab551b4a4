"""What people come for, and the clicks it takes: pressing Enter is one, typing is none."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.testing import WebhookClient
from cellcast_django.webhooks import WEBHOOKS
from tests.admin_pages import url_of
from tests.browser.person import Person
from tests.handlers import Calls

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CUSTOMER = "+61400000000"
REMINDER = "66b5b93b1e2c012dfe964001"


def send(receiver: str, body: str, sender: str, *, reference: str) -> str:
    """Send as a host project would: ``CELLCAST_SEND_WITH``."""
    return "66b5b93b1e2c012dfe964002"


@pytest.fixture
def person(browse: Callable[[str], None], page: Any) -> Person:
    """Somebody who has signed in, and looks at the admin's index."""
    browse(reverse("admin:index"))
    return Person(page)


def send_reminder_and_reply() -> None:
    Message.objects.record_sent(REMINDER, receiver=CUSTOMER, body="See you at nine?")
    WebhookClient().status(_id=REMINDER, receiver=CUSTOMER, status="delivered")
    WebhookClient().reply(_id=REMINDER, sender=CUSTOMER, message="May I come later?")


def test_reminder_and_its_answer_take_two_clicks(person: Person) -> None:
    send_reminder_and_reply()

    person.click("link", "Messages", exact=True)
    person.search("0400 000 000")

    person.reads("See you at nine?")
    person.reads("delivered")
    person.reads("May I come later?")
    assert person.clicks == 2


def test_replies_to_answer_take_one_click(person: Person) -> None:
    send_reminder_and_reply()

    person.click("link", "To answer", exact=True)

    person.reads("May I come later?")
    assert person.clicks == 1


def test_answering_takes_two_clicks_and_conversation_one(person: Person, settings: Any) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    send_reminder_and_reply()
    person.page.goto(person.page.url + url_of("message").removeprefix(reverse("admin:index")))

    person.click("link", "0400 000 000")
    person.reads("See you at nine?")
    assert person.clicks == 1
    person.page.get_by_label("Your answer").fill("Of course")
    person.click("button", "Send")

    person.reads("Of course")
    assert person.clicks == 2
    assert not Message.objects.unhandled().exists()


def test_webhook_light_takes_one_click(person: Person) -> None:
    WebhookClient().reply()

    person.click("link", "Cellcast", exact=True)

    person.reads("received")
    assert person.clicks == 1


def test_failing_handler_and_its_error_take_two_clicks(person: Person, first: Calls) -> None:
    first.error = KeyError("channel")
    WebhookClient().reply(message="Yes please")

    person.click("link", "Cellcast", exact=True)
    person.reads("KeyError: 'channel'")
    person.click("link", "first", within="tr[data-handler=first]", exact=True)

    person.page.wait_for_url(f"**{url_of('handlercall')}?*")
    person.reads("KeyError: 'channel'")
    assert person.clicks == 2


def test_retrying_a_handlers_failures_takes_three_clicks(
    person: Person, first: Calls, settings: Any
) -> None:
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    first.error = ConnectionError("The calendar is down")
    for number in range(57):
        WebhookClient().reply(message=f"number {number}")
    first.error = None

    person.click("link", "Cellcast", exact=True)
    person.click("link", "Run again…", within="tr[data-handler=first]")
    person.click("button", "Run again")

    person.page.get_by_text("57 done").wait_for()
    assert not WebhookEvent.objects.failed().exists()
    assert person.clicks == 3


def test_setting_up_and_testing_three_urls_takes_nine_clicks(
    person: Person, server: str, settings: Any
) -> None:
    settings.CELLCAST_PUBLIC_URL = server
    person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    person.click("link", "Cellcast", exact=True)
    person.click("link", "Setup", exact=True)
    for webhook in WEBHOOKS:
        person.click("button", f"Copy the {webhook.label}")
    person.click("button", "Copy the username")
    for webhook in WEBHOOKS:
        person.click("button", f"Send test to the {webhook.label}")
        person.page.get_by_role("region", name=f"Response from the {webhook.label}").wait_for()

    assert person.clicks == 9
