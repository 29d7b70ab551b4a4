"""The night of the developer on call: webhooks have stopped, and handlers fail or are gone."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from cellcast_django.admin import confirmation
from cellcast_django.factories import WebhookEventFactory
from cellcast_django.models import CommandRun, HandlerCall, WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from cellcast_django.webhooks import WEBHOOKS
from tests.admin_pages import make_invalid, url_of
from tests.browser.conftest import SignIn
from tests.browser.person import ON_CALL, Person
from tests.handlers import Calls, connected
from tests.many import add_copies

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FAILURES, MAILS, WAITING, INVALID = 50, 20, 3, 25


@pytest.fixture
def renamed() -> Calls:
    """What ``sync`` is called since tonight."""
    return Calls("sync_patients")


@pytest.fixture
def mail() -> Calls:
    return Calls("mail")


@pytest.fixture
def night(settings: Any, mail: Calls, renamed: Calls) -> Iterator[None]:
    """Reports every ten minutes until 20 hours ago; since then a handler has another name.

    It failed under its old one, and for some of these events another handler failed too. Three
    replies wait for a worker, 25 bodies could not be understood, and the credit is known.
    """
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    last = timezone.now() - timedelta(hours=20)
    event = WebhookEventFactory.create(received_at=last)
    times = [last - timedelta(minutes=10 * number) for number in range(4_000)]
    add_copies(event, len(times), lambda number: {"received_at": times[number], "message_id": None})
    with connected(message_received, mail=mail, sync=Calls("sync", error=KeyError("patient_id"))):
        for number in range(FAILURES):
            mail.error = OSError(f"no mail server ({number})") if number < MAILS else None
            WebhookClient(raise_handler_errors=False).reply(message=str(number))
    waiting = WebhookEventFactory.create(reply=True, pending=True)
    others = add_copies(waiting, WAITING - 1, lambda number: {"message_id": None})
    add_copies(waiting.calls.get(), WAITING - 1, lambda number: {"event_id": others[number]})
    add_copies(make_invalid(), INVALID - 1)
    WebhookEvent.objects.exclude(kind="status").update(received_at=last)
    credit = {"sms": 320, "mms": 4, "read_at": timezone.now().isoformat()}
    CommandRun.objects.create(command=CommandRun.Command.RECOVER, summary={"credit": credit})
    mail.error = None
    with connected(message_received, mail=mail, sync_patients=renamed):
        yield


@pytest.fixture
def on_call(night: None, sign_in: SignIn) -> Person:
    return sign_in(*ON_CALL)


def confirm(on_call: Person, count: int) -> None:
    """Press the button of the question, which leads to the list of events."""
    page = on_call.page
    page.locator(f"#cellcast-affected[data-count='{count}']").wait_for()
    on_call.press(page.locator("button.cellcast-button-primary"))
    page.locator(".messagelist .success").first.wait_for()


def test_one_page_says_what_is_wrong(on_call: Person) -> None:
    page = on_call.page

    on_call.click("link", "Cellcast", exact=True)

    light = page.locator("#cellcast-light-status")
    light.wait_for()
    assert on_call.clicks == 1
    assert page.locator("[data-light]").count() == len(WEBHOOKS)
    assert "20 h ago" in light.inner_text()
    mail, sync = (page.locator(f"tr[data-handler='{name}']") for name in ("mail", "sync"))
    assert f"no mail server ({MAILS - 1})" in mail.locator(".cellcast-error > bdi").inner_text()
    assert sync.get_attribute("data-missing") is not None
    # What waits for a worker has not failed.
    handlers = page.locator("tr[data-handler]")
    assert {each.get_attribute("data-handler") for each in handlers.all()} == {"mail", "sync"}
    waiting = page.locator("a.cellcast-value[href*='state=waiting']")
    assert waiting.get_attribute("data-count") == str(WAITING)
    on_call.press(mail.locator("a").first)
    page.wait_for_url(f"**{url_of('handlercall')}?*")
    on_call.reads("no mail server")
    assert on_call.clicks == 2
    on_call.goes_to(reverse("admin:cellcast_django_overview"))
    credit = page.get_by_role("region", name="Credit")
    assert credit.locator("strong").all_inner_texts() == ["320", "4"]
    assert page.locator("#cellcast-slowest").count() == 0


def test_developer_clears_the_night(on_call: Person, mail: Calls, renamed: Calls) -> None:
    page = on_call.page
    on_call.click("link", "Cellcast", exact=True)
    on_call.press(page.locator("tr[data-handler=sync] [data-action=skip]"))
    confirm(on_call, FAILURES)

    on_call.click("link", "Overview")
    page.locator("tr[data-handler=mail]").wait_for()
    assert page.locator("tr[data-handler=sync]").count() == 0
    on_call.press(page.locator("tr[data-handler=mail] [data-action=run_again]"))
    confirm(on_call, MAILS)
    assert len(mail) == FAILURES + MAILS
    assert not renamed, "nor is it owed what its old name was"
    assert not WebhookEvent.objects.failed().exists()

    on_call.click("link", "Overview")
    on_call.press(page.locator("a.cellcast-value[href*='outcome=invalid']"))
    page.wait_for_url("**outcome=invalid**")  # with its scripts
    on_call.press(page.locator("#action-toggle"))
    page.locator("select[name=action]").select_option("dismiss")
    on_call.press(page.locator("button[name=index]"))
    confirm(on_call, INVALID)
    assert not WebhookEvent.objects.invalid().exists()
    assert on_call.clicks == 11

    skipped = LogEntry.objects.earliest("pk")
    username = str(skipped.user)
    assert HandlerCall.objects.filter(handler="sync", skipped_by=username).count() == FAILURES
    on_call.goes_to(reverse("admin:cellcast_django_activity"))
    told = page.locator(f"tr[data-activity='{skipped.pk}']").inner_text()
    assert username in told
    assert f"{FAILURES} calls" in told


def test_more_than_a_page_can_run_begins_with_the_oldest(
    on_call: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "MAX_SELECTED", FAILURES - 1)
    page = on_call.page
    on_call.goes_to(url_of("webhookevent", outcome="failed"))

    page.locator("#action-toggle").click()
    page.locator("select[name=action]").select_option("run_again")
    page.locator("button[name=index]").click()

    page.locator("#cellcast-has-more").wait_for()
    asked = page.locator("#cellcast-affected").get_attribute("data-count")
    assert asked == str(FAILURES - 1)
    assert WebhookEvent.objects.failed().count() == FAILURES
