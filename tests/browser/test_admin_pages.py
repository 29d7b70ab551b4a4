"""The admin in a real browser, under a strict Content-Security-Policy."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HOSTILE = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
RIGHT_TO_LEFT = "نعم، سأكون هناك"
LONG_WORD = "y" * 5_000


def url_of(model: str, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:cellcast_django_{model}_{page}", args=args)


def every_page() -> list[str]:
    """Store something of everything, and return the addresses of all pages."""
    client = WebhookClient()
    client.status(status="failed")
    client.status(status="received")
    client.status(status="received")
    for text in (HOSTILE, RIGHT_TO_LEFT, LONG_WORD):
        client.reply(reply=text, message=text)
    client.opt_out()
    client.send("webhook-status", b"{broken " + LONG_WORD.encode())
    rows: list[tuple[str, Any]] = [
        ("message", Message),
        ("statuschange", StatusChange),
        ("webhookevent", WebhookEvent),
    ]
    lists = [url_of(name) for name, _ in rows]
    lists += [reverse(f"admin:cellcast_django_{name}") for name in ("overview", "setup")]
    lists += [reverse("admin:app_list", args=["cellcast_django"])]
    return lists + [
        url_of(name, "change", pk)
        for name, model in rows
        for pk in model.objects.values_list("pk", flat=True)
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_fits_can_be_read_and_runs_nothing_that_a_customer_wrote(
    browse: Callable[[str], None], page: Any, theme: str, width: int
) -> None:
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})

    for path in every_page():
        browse(path)
        assert page.evaluate("window.ran") is None
        excess = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(excess) <= 0, path
        for foreground, background in page.locator(".cellcast-badge").evaluate_all(COLOURS):
            assert contrast(foreground, background) >= 4.5, path  # WCAG 2.2 AA


COLOURS = """badges => badges.map(badge => {
    const solid = element => {
        const colour = getComputedStyle(element).backgroundColor;
        return colour === "rgba(0, 0, 0, 0)" ? solid(element.parentElement) : colour;
    };
    return [getComputedStyle(badge).color, solid(badge)].map(c => c.match(/[0-9.]+/g).map(Number));
})"""


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of two colours. Source: www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    darker, lighter = sorted(luminance(colour) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: list[float]) -> float:
    parts = [part / 255 for part in colour[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_person_finds_what_became_of_a_message(browse: Callable[[str], None], page: Any) -> None:
    WebhookClient().status(receiver="+61400000007")
    WebhookClient().status(_id="another", receiver="+61400000008")

    browse(url_of("message"))
    page.get_by_role("textbox", name="Search").fill("0400 000 007")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="+61400000007").click()

    timeline = page.get_by_role("region", name="Status history").get_by_role("listitem")
    assert "delivered" in timeline.inner_text()  # there is exactly one
    assert page.get_by_role("region", name="Events").get_by_role("article").count() == 1


def test_person_announces_a_failed_event_again(
    browse: Callable[[str], None], page: Any, settings: Any
) -> None:
    moods = iter([ValueError("no luck"), None])

    def moody(**arguments: Any) -> None:
        if error := next(moods):
            raise error

    settings.CELLCAST_ANNOUNCE_MAX_ATTEMPTS = 1
    message_received.connect(moody, dispatch_uid="moody")
    try:
        WebhookClient().reply()
        browse(url_of("webhookevent"))
        page.get_by_role("link", name="failed").click()
        page.wait_for_url("**/?outcome=failed")
        page.locator("tr", has_text="moody").get_by_role("checkbox").check()
        page.locator("select[name=action]").select_option("announce_again")
        page.locator("button[name=index]").click()
        page.get_by_text("1 event has been announced.").wait_for()
    finally:
        message_received.disconnect(dispatch_uid="moody")

    assert page.locator("#result_list tbody tr").count() == 0
    page.get_by_role("link", name="announced", exact=True).click()
    page.locator("#result_list tbody tr").wait_for()
