"""The night of the developer on call: handlers fail or are gone, and events are run again."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from cellcast_django.models import HandlerCall, WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.admin_pages import make_invalid, url_of
from tests.browser.conftest import SignIn, tab_stops
from tests.browser.person import ON_CALL, Person
from tests.handlers import Calls, connected, reply
from tests.many import add_copies

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FAILURES, MAILS, INVALID = 50, 20, 25


@pytest.fixture
def renamed() -> Calls:
    """What ``sync`` is called since tonight."""
    return Calls("sync_patients")


@pytest.fixture
def mail() -> Calls:
    return Calls("mail")


@pytest.fixture
def night(settings: Any, mail: Calls, renamed: Calls) -> Iterator[None]:
    """A handler has another name since it failed, and 25 bodies could not be understood.

    For some of the events that it failed for, another handler failed too.
    """
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    with connected(message_received, mail=mail, sync=Calls("sync", error=KeyError("patient_id"))):
        for number in range(FAILURES):
            mail.error = OSError(f"no mail server ({number})") if number < MAILS else None
            WebhookClient(raise_handler_errors=False).reply(message=str(number))
    add_copies(make_invalid(), INVALID - 1)
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


# Without a mouse, without scripts


@pytest.fixture
def failed(first: Calls, second: Calls, settings: Any) -> str:
    """Where the page of an event is that the first handler failed for; it is mended since."""
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    first.error = ValueError("no luck")
    event = reply()
    first.error = None
    return url_of("webhookevent", "change", event.pk)


def test_user_runs_a_failed_event_again_with_the_keyboard_only(
    browse: Callable[[str], None], page: Any, failed: str, first: Calls, second: Calls
) -> None:
    browse(failed)
    page.get_by_role("link", name="Run again", exact=True).press("Enter")
    page.get_by_text("1 event.").wait_for()

    assert tab_stops(page) == ["Run again", "Cancel"]
    page.get_by_role("button", name="Run again").press("Enter")
    page.locator(".messagelist .success").wait_for()
    assert (len(first), len(second)) == (2, 1)


def test_user_runs_a_failed_event_again_without_javascript(
    plain_page: Any, failed: str, first: Calls, second: Calls
) -> None:
    plain_page.goto(failed)
    plain_page.get_by_role("link", name="Run again", exact=True).click()
    plain_page.get_by_role("button", name="Run again").click()
    plain_page.locator(".messagelist .success").wait_for()
    assert (len(first), len(second)) == (2, 1)
