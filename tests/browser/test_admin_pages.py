"""The admin in a real browser, under a strict Content-Security-Policy."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from cellcast_django.models import Message, StatusChange, WebhookEvent
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
    lists += [f"{url_of('message', 'conversation')}?contact=%2B61400000000"]
    lists += [f"{url_of('message')}?answer=none", f"{url_of('message')}?q=window"]
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
    page.get_by_role("link", name="The whole conversation").click()

    newest = page.get_by_text("number 59", exact=True)
    newest.wait_for()
    assert newest.evaluate(IS_IN_VIEW)
    assert not page.get_by_text("number 10", exact=True).evaluate(IS_IN_VIEW)
    page.get_by_role("link", name="Load older").click()
    oldest_of_page = page.get_by_text("number 9", exact=True)
    oldest_of_page.wait_for()
    assert oldest_of_page.evaluate(IS_IN_VIEW)
    page.get_by_role("link", name="Back to the newest").click()
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
        page.get_by_role("link", name="Export these as CSV").click()

    assert download.value.suggested_filename.startswith("messages-")
    lines = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 2
    assert '"\'=1+1"' in lines[1]
