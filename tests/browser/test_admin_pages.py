"""The admin in a real browser, under a strict Content-Security-Policy."""

import re
from collections.abc import Callable
from colorsys import rgb_to_hsv
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from cellcast_django.factories import HandlerCallFactory
from cellcast_django.models import Message
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from tests.admin_pages import CUSTOMER, Know, url_of
from tests.browser.conftest import tab_stops
from tests.handlers import Calls, connected

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_conversation_opens_at_its_newest_message(browse: Callable[[str], None], page: Any) -> None:
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


def test_bubbles_do_not_look_like_notices(browse: Callable[[str], None], page: Any) -> None:
    WebhookClient().reply()
    reply = Message.objects.get()
    Message.objects.record_sent("answer", receiver=reply.contact, body="See you.")

    browse(url_of("message", "conversation", reply.pk))

    levels = ("warning", "success", "error")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        bubbles = page.locator(".cellcast-bubble").evaluate_all(f"each => each.map({COLOUR_SEEN})")
        notices = [page.evaluate(COLOUR_OF_NOTICE, level) for level in levels]
        assert len(set(bubbles)) == 2
        assert is_yellow(notices[0])
        for colour in bubbles:
            assert not is_yellow(colour)
            assert colour not in notices


def is_yellow(colour: str) -> bool:
    """Whether a colour, written as CSS computes it, has the hue of orange to yellowish green."""
    red, green, blue = (int(each) / 255 for each in re.findall(r"\d+", colour)[:3])
    hue, saturation, _ = rgb_to_hsv(red, green, blue)
    return 30 <= hue * 360 <= 80 and saturation > 0.05


# What lies behind a colour that lets some of it through is painted first.
COLOUR_SEEN = """element => {
    const behind = [];
    for (let each = element; each; each = each.parentElement) {
        behind.unshift(getComputedStyle(each).backgroundColor);
    }
    const paint = new OffscreenCanvas(1, 1).getContext("2d");
    for (const colour of ["white", ...behind]) {
        paint.fillStyle = colour;
        paint.fillRect(0, 0, 1, 1);
    }
    return `rgb(${paint.getImageData(0, 0, 1, 1).data.slice(0, 3).join()})`;
}"""

COLOUR_OF_NOTICE = f"""level => {{
    const notice = document.createElement("p");
    notice.style.background = `var(--message-${{level}}-bg)`;
    document.body.append(notice);
    return ({COLOUR_SEEN})(notice);
}}"""


def test_conversation_prints_whole_without_the_rest_of_the_page(
    browse: Callable[[str], None], page: Any
) -> None:
    for number in range(40):
        WebhookClient().reply(message=f"number {number}")
    browse(url_of("message", "conversation", Message.objects.latest("pk").pk))
    page.set_viewport_size({"width": 794, "height": 1123})  # A4
    page.emulate_media(media="print")

    box = page.get_by_role("region", name="Messages, the newest last")
    height, content_height = box.evaluate("box => [box.clientHeight, box.scrollHeight]")
    assert height == content_height > 1123
    assert box.bounding_box()["width"] > 700
    assert page.get_by_role("navigation", name="Sidebar").is_hidden()
    assert page.get_by_role("button").count() == 0


def test_keyboard_skips_the_menus_and_tabs_to_the_first_customer(
    browse: Callable[[str], None], page: Any
) -> None:
    WebhookClient().reply(sender="+61400000001")
    browse(url_of("message", "to_answer"))

    for key in ("Tab", "Enter", "Tab", "Enter"):  # Django's link to the content, and ours
        page.keyboard.press(key)

    stops = tab_stops(page)
    assert stops[:2] == ["Tick all", "Tick 0400 000 001"]
    assert stops[2] == "0400 000 001"


def test_button_for_ticked_customers_is_at_hand_and_covers_nothing(
    browse: Callable[[str], None], page: Any
) -> None:
    for number in range(40):
        WebhookClient().reply(_id=str(number), sender=f"+614000100{number:02}")
    browse(url_of("message", "to_answer"))
    tick = page.get_by_role("button", name="Mark 1 as done")
    assert tick.count() == 0

    box = page.get_by_role("checkbox", name="Tick 0400 010 003")
    box.check()

    end_of_boxes = box.bounding_box()["x"] + box.bounding_box()["width"]
    assert tick.bounding_box()["x"] > end_of_boxes, "the next click is meant for another box"
    assert 0 <= tick.bounding_box()["y"] < page.viewport_size["height"] - 30
    done = page.locator("button[name=one]").first
    done.focus()
    assert text_on_top_of(done, lower=3).startswith("Done")
    done.click()
    undo = page.get_by_role("button", name="Undo")
    undo.wait_for()
    page.get_by_role("checkbox", name="Tick 0400 010 036").check()
    assert text_on_top_of(tick) == "Mark 1 as done"
    undo.focus()
    assert text_on_top_of(undo).startswith("Undo")


def text_on_top_of(element: Any, lower: float | None = None) -> str:
    """Return what a click in the middle would reach, or so far below the upper edge."""
    box = element.bounding_box()
    below = box["height"] / 2 if lower is None else lower
    found: str = element.page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y)?.textContent",
        [box["x"] + box["width"] / 2, box["y"] + below],
    )
    return found.strip()


def test_failing_handlers_are_cards_on_a_phone(browse: Callable[[str], None], page: Any) -> None:
    failing = Calls("clinic.handlers.of_a_long_name", error=ConnectionError("y" * 100))
    with connected(message_received, **{"clinic.handlers.of_a_long_name": failing}):
        WebhookClient(raise_handler_errors=False).reply()
    page.set_viewport_size({"width": 375, "height": 800})
    table = page.locator(".cellcast-failing")

    section = reverse("admin:app_list", args=["cellcast_django"])
    for path in (section, reverse("admin:cellcast_django_overview")):
        browse(path)
        assert table.evaluate(BEYOND_THE_EDGE) == []
        assert table.locator("[data-label]").count() == 3


BEYOND_THE_EDGE = """table => [...table.querySelectorAll("td, th, a, code, bdi")]
    .filter(each => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth)
    .map(each => each.textContent.trim())"""


def test_links_of_a_list_leave_its_title_alone(browse: Callable[[str], None], page: Any) -> None:
    for model in ("message", "webhookevent", "optout"):
        browse(url_of(model))
        for width in (1030, 1100, 1250, 1300, 1320, 1400):
            page.set_viewport_size({"width": width, "height": 800})
            overlaps = page.locator(".object-tools").evaluate(OVERLAPS_THE_TITLE)
            assert overlaps is False, (model, width)


OVERLAPS_THE_TITLE = """tools => {
    const words = document.createRange();
    words.selectNodeContents(document.querySelector("#content h1"));
    const title = words.getBoundingClientRect(), links = tools.getBoundingClientRect();
    return links.top < title.bottom && links.left < title.right;
}"""


def test_lists_print_up_to_their_last_column(browse: Callable[[str], None], page: Any) -> None:
    WebhookClient().reply(message="It is a long way to the edge of the sheet " * 4)
    WebhookClient().status()
    page.set_viewport_size({"width": 794, "height": 1123})  # A4
    page.emulate_media(media="print")

    for model in ("message", "webhookevent", "statuschange"):
        browse(url_of(model))
        # Nobody knows when "ago" was.
        assert page.locator("#result_list time bdi").first.is_hidden()
        assert page.locator("#result_list .cellcast-exact").first.bounding_box()["width"] > 20
        table = page.locator("#result_list").bounding_box()
        assert 650 < table["x"] + table["width"] <= 794, model
        assert page.locator("#changelist-filter").is_hidden()


def test_reopen_is_whole_beside_the_longest_row(browse: Callable[[str], None], page: Any) -> None:
    client = WebhookClient()
    client.reply(
        sender=CUSTOMER, message="I shall certainly come to my appointment on Wednesday " * 3
    )
    reason = "Absent subscriber in that network"
    client.status(_id="1", receiver=CUSTOMER, status="expired", reason=reason)
    Message.objects.inbound().get().mark_handled()
    Message.objects.update(created_at=timezone.now() - timedelta(days=20))
    browse(url_of("message", q=CUSTOMER))

    for width in (1280, 1366):
        page.set_viewport_size({"width": width, "height": 800})
        text = page.get_by_text("I shall certainly").bounding_box()
        assert text["height"] < 40, "is cut after two lines"
        reopen = page.get_by_role("button", name="Reopen").bounding_box()
        box = page.locator("#result_list").locator("xpath=..").bounding_box()
        assert reopen["x"] + reopen["width"] <= box["x"] + box["width"], width


def test_names_in_lists_break_between_words_alone(
    browse: Callable[[str], None], page: Any, know: Know
) -> None:
    know(names=lambda numbers: dict.fromkeys(numbers, "Alexandra Konstantinopoulou-Lee"))
    WebhookClient().reply(message="I shall certainly come to my appointment on Wednesday " * 3)
    error = "ConnectionError: the calendar did not answer in time " * 3
    handler = "appointments.confirm_booking_of_the_day"
    HandlerCallFactory.create(handler=handler, failed=True, error=error)
    names = page.locator("#result_list .field-contact bdi, #result_list .field-name code")
    results = page.locator("#changelist .results")

    for model in ("message", "handlercall"):
        browse(url_of(model))
        assert names.count()
        for width in (375, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert names.evaluate_all(BROKEN_WORDS) == []
            assert results.evaluate("box => box.scrollWidth - box.clientWidth") < 2, (model, width)


BROKEN_WORDS = r"""names => names.flatMap(name => [...name.childNodes])
    .filter(node => node.nodeType === Node.TEXT_NODE)
    .flatMap(text => [...text.data.matchAll(/[^\s-]+-?/g)].filter(word => {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        return range.getClientRects().length > 1;
    }).map(String))"""
