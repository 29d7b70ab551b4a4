"""A handler fails, a person sees it, and lets the event be run again."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cellcast_django.models import WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.admin_pages import url_of
from tests.browser.conftest import tab_stops

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def calls(settings: Any) -> Iterator[list[str]]:
    """The calls of two handlers: one that finishes, and one that fails at its first call."""
    settings.CELLCAST_HANDLER_MAX_ATTEMPTS = 1
    calls: list[str] = []

    def lucky(**arguments: Any) -> None:
        calls.append("lucky")

    def moody(**arguments: Any) -> None:
        calls.append("moody")
        if calls.count("moody") == 1:
            raise ValueError("no luck")

    for handler in (lucky, moody):
        message_received.connect(handler, weak=False, dispatch_uid=handler.__name__)
    yield calls
    for handler in (lucky, moody):
        message_received.disconnect(dispatch_uid=handler.__name__)


def test_user_runs_a_done_call_again_from_its_event(
    browse: Callable[[str], None], page: Any, calls: list[str]
) -> None:
    WebhookClient(raise_handler_errors=False).reply()
    browse(url_of("webhookevent", "change", WebhookEvent.objects.get().pk))
    handlers = page.get_by_role("region", name="Handlers")
    assert "ValueError: no luck" in handlers.inner_text()

    again = page.locator("tr[data-handler=lucky] [data-action=run_again]")
    again.click()
    page.locator(".cellcast-warning").wait_for()
    page.get_by_role("link", name="Cancel").click()
    assert calls == ["lucky", "moody"]

    browse(url_of("webhookevent", "change", WebhookEvent.objects.get().pk))
    again.click()
    page.get_by_role("button", name="Run again").click()
    page.locator(".messagelist .success").wait_for()
    assert calls == ["lucky", "moody", "lucky"]


def test_user_retries_a_failed_event_with_the_keyboard_only(
    browse: Callable[[str], None], page: Any, calls: list[str]
) -> None:
    WebhookClient(raise_handler_errors=False).reply()
    browse(url_of("webhookevent", "change", WebhookEvent.objects.get().pk))
    page.get_by_role("link", name="Run again", exact=True).press("Enter")
    page.get_by_text("1 event.").wait_for()

    assert tab_stops(page) == ["Run again", "Cancel"]
    page.get_by_role("button", name="Run again").press("Enter")
    page.locator(".messagelist .success").wait_for()
    assert calls == ["lucky", "moody", "moody"]


def test_user_retries_a_failed_event_without_javascript(plain_page: Any, calls: list[str]) -> None:
    WebhookClient(raise_handler_errors=False).reply()
    plain_page.goto(url_of("webhookevent", "change", WebhookEvent.objects.get().pk))
    plain_page.get_by_role("link", name="Run again", exact=True).click()
    plain_page.get_by_role("button", name="Run again").click()
    plain_page.locator(".messagelist .success").wait_for()
    assert calls == ["lucky", "moody", "moody"]
