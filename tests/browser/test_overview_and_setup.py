"""From an empty database to the first webhook, as a new host goes the way."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from cellcast_django.health import Light
from cellcast_django.models import Message
from cellcast_django.testing import WebhookClient
from cellcast_django.webhooks import WEBHOOKS
from tests.admin_pages import url_of
from tests.browser.conftest import tab_stops
from tests.browser.inspection import LOOKS, dress, problems_of
from tests.browser.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

OVERVIEW = "admin:cellcast_django_overview"
FIGURES = "admin:cellcast_django_figures"


def test_user_sets_up_an_empty_site_until_a_webhook_has_come(
    browse: Callable[[str], None],
    page: Any,
    server: str,
    settings: Any,
) -> None:
    settings.CELLCAST_PUBLIC_URL = server
    page.set_viewport_size({"width": 390, "height": 900})
    browse(reverse("admin:app_list", args=["cellcast_django"]))
    page.get_by_role("main").get_by_role("link", name="Overview").click()
    light = page.locator("#cellcast-light-receive")
    assert light.get_attribute("data-light") == Light.NEVER

    page.get_by_role("link", name="Set up webhooks").click()
    assert f"{server}/sms/webhook-receiver" in page.get_by_role("main").inner_text()
    form = page.get_by_role("form", name="Receive URL")
    body = form.get_by_label("JSON to send")
    body.fill(body.input_value().replace("This is reply message", "See you at nine"))
    form.get_by_role("button", name="Send test to the Receive URL").click()
    response = page.get_by_role("region", name="Response from the Receive URL")
    assert "stored" in response.inner_text()
    assert Message.objects.get().body == "See you at nine"

    page.get_by_role("link", name="Overview").click()
    page.wait_for_url(f"**{reverse(OVERVIEW)}*")
    assert light.get_attribute("data-light") == Light.NEVER  # a test is not Cellcast's webhook
    WebhookClient().reply()
    page.reload()
    assert light.get_attribute("data-light") == Light.RECEIVED
    page.get_by_role("link", name="Figures").click()
    table = page.get_by_role("region", name="Day by day").get_by_role("table")
    table.wait_for()
    assert table.get_by_role("columnheader").all_inner_texts()[1:] == ["REPLIES"]
    last_month = page.get_by_role("navigation", name="Month").get_by_role("link").first
    link = page.get_by_role("link", name=last_month.inner_text())
    link.click()
    link.and_(page.locator("[aria-current=page]")).wait_for()


def test_setting_up_and_testing_three_urls_takes_nine_clicks(
    browse: Callable[[str], None], page: Any, server: str, settings: Any
) -> None:
    settings.CELLCAST_PUBLIC_URL = server
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    browse(reverse("admin:index"))
    person = Person(page)

    person.click("link", "Cellcast", exact=True)
    person.click("link", "Setup", exact=True)
    for webhook in WEBHOOKS:
        person.click("button", f"Copy the {webhook.label}")
        page.get_by_text(f"Copied: {webhook.url(server)}").wait_for()
    person.click("button", "Copy the username")
    page.get_by_text("Copied ✓").first.wait_for()
    for webhook in WEBHOOKS:
        person.click("button", f"Send test to the {webhook.label}")
        page.get_by_role("region", name=f"Response from the {webhook.label}").wait_for()

    assert person.clicks == 9


def test_url_is_selected_if_the_browser_cannot_copy(
    browse: Callable[[str], None],
    page: Any,
    server: str,
    settings: Any,
) -> None:
    settings.CELLCAST_PUBLIC_URL = server
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    browse(reverse("admin:cellcast_django_setup"))
    page.get_by_role("button", name="Copy the Receive URL").click()
    advice = page.locator("[data-selected]").first.get_attribute("data-selected")
    page.get_by_text(advice).wait_for()
    assert page.evaluate("String(getSelection())") == f"{server}/sms/webhook-receiver"


def test_user_sends_a_test_without_javascript(plain_page: Any, server: str, settings: Any) -> None:
    settings.CELLCAST_PUBLIC_URL = server
    plain_page.goto(reverse(OVERVIEW))
    assert plain_page.locator("[data-light=never]").count() == len(WEBHOOKS)
    plain_page.goto(reverse("admin:cellcast_django_setup"))
    assert "/sms/webhook-status" in plain_page.get_by_role("main").inner_text()
    assert plain_page.get_by_role("button", name="Copy").count() == 0
    plain_page.get_by_role("button", name="Send test to the Receive URL").click()
    response = plain_page.get_by_role("region", name="Response from the Receive URL")
    assert "stored" in response.inner_text()


def test_keyboard_walks_the_setup_page_in_reading_order(
    browse: Callable[[str], None], page: Any, server: str, settings: Any
) -> None:
    settings.CELLCAST_PUBLIC_URL = server
    browse(reverse("admin:cellcast_django_setup"))
    stops = ["To answer", "Overview", "Figures", "Activity", "Setup"]
    stops += [f"Copy the {webhook.label}" for webhook in WEBHOOKS]
    passed = page.locator("details summary").inner_text()
    stops += ["Copy the username", passed]
    for webhook in WEBHOOKS:
        stops += [f"JSON to send to the {webhook.label}", f"Send test to the {webhook.label}"]
    assert tab_stops(page) == [*stops, "Privacy and spam"]


def test_empty_pages_are_accessible(
    browse: Callable[[str], str], page: Any, sources: dict[str, str]
) -> None:
    models = ("message", "statuschange", "webhookevent", "optout")
    to_answer = url_of("message", "to_answer")
    for path in (reverse(OVERVIEW), reverse(FIGURES), to_answer, *map(url_of, models)):
        name = f"empty {path}"
        sources[name] = browse(path)
        for look in LOOKS:
            dress(page, look)
            assert problems_of(page, name, look) == []
