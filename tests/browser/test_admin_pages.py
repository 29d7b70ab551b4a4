"""The admin in a real browser, under a strict Content-Security-Policy."""

from collections.abc import Callable
from typing import Any

import pytest

from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient
from tests.admin_pages import url_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_person_finds_what_became_of_a_message(browse: Callable[[str], None], page: Any) -> None:
    WebhookClient().status(receiver="+61400000007")
    WebhookClient().status(_id="another", receiver="+61400000008")

    browse(url_of("message"))
    page.get_by_role("textbox", name="Search").fill("0400 000 007")
    page.get_by_role("button", name="Search").click()
    page.locator("#result_list tbody th a").click()

    timeline = page.get_by_role("region", name="Status history").get_by_role("listitem")
    assert "submitted" in timeline.first.inner_text()
    assert "delivered" in timeline.last.inner_text()
    assert timeline.count() == 2
    assert page.get_by_role("region", name="Events").get_by_role("article").count() == 1


def test_person_reads_the_conversation_from_its_newest_message_back(
    browse: Callable[[str], None], page: Any
) -> None:
    for number in range(60):
        WebhookClient().reply(message=f"number {number}")

    browse(url_of("message", "change", Message.objects.latest("pk").pk))
    page.get_by_role("link", name="Open conversation").click()

    newest = page.get_by_text("number 59", exact=True)
    newest.wait_for()
    assert newest.evaluate(IS_IN_VIEW)
    assert not page.get_by_text("number 10", exact=True).evaluate(IS_IN_VIEW)
    page.get_by_role("link", name="Show older").click()
    oldest_of_page = page.get_by_text("number 9", exact=True)
    oldest_of_page.wait_for()
    assert oldest_of_page.evaluate(IS_IN_VIEW)
    page.get_by_role("link", name="Jump to latest").click()
    newest.wait_for()


IS_IN_VIEW = """element => {
    const box = element.closest(".cellcast-scroll").getBoundingClientRect();
    const { top, bottom } = element.getBoundingClientRect();
    return top >= box.top && bottom <= box.bottom;
}"""


def test_person_takes_the_filtered_list_away(browse: Callable[[str], None], page: Any) -> None:
    WebhookClient().reply(message="=1+1")
    WebhookClient().status()

    browse(f"{url_of('message')}?direction=inbound")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()

    assert download.value.suggested_filename.startswith("messages-")
    lines = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 2
    assert '"\'=1+1"' in lines[1]
