"""The receptionist's morning: 20,000 messages, 300 customers who wait, and the clicks it takes."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import Direction, Message
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.testing import WebhookClient
from tests.admin_pages import url_of
from tests.browser.conftest import log_in
from tests.browser.test_clicks import Person
from tests.many import add_copies

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MESSAGES, WAITING = 20_000, 300
NEWEST = "+61400000000"
NAMES = {f"+61400000{number:03}": f"Mrs Lee {number}" for number in range(1_000)}

sent: list[str] = []


def names_of(contacts: list[str]) -> dict[str, str]:
    return {contact: NAMES[contact] for contact in contacts if contact in NAMES}


def numbers_of(words: str) -> Iterator[str]:
    return (number for number, name in NAMES.items() if name == words)


def send(receiver: str, body: str, sender: str) -> str:
    sent.append(body)
    return f"answer-{len(sent)}"


@pytest.fixture
def clinic(settings: Any) -> None:
    """A site that has run for months, and 300 customers who wrote this morning."""
    settings.CELLCAST_CONTACT_NAMES = f"{__name__}.names_of"
    settings.CELLCAST_CONTACT_SEARCH = f"{__name__}.numbers_of"
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    sent.clear()
    now = timezone.now()

    def message_of(number: int) -> dict[str, Any]:
        contact = f"+61400000{number % 1_000:03}"
        waits = number < WAITING
        is_reply = waits or number % 3 == 0
        at = now - timedelta(minutes=number + 1)
        return {
            "cellcast_id": f"id-{number}",
            "direction": Direction.INBOUND if is_reply else Direction.OUTBOUND,
            "contact": contact,
            "sender": contact if is_reply else "+61480000000",
            "receiver": "+61480000000" if is_reply else contact,
            "own_number": "+61480000000",
            "body": f"May I come later? ({number})",
            "status": "received" if is_reply else "delivered",
            "created_at": at,
            "handled_at": at if is_reply and not waits else None,
        }

    with transaction.atomic():
        add_copies(Message(), MESSAGES, message_of)


@pytest.fixture
def receptionist(clinic: None, browse: Callable[[str], None], page: Any) -> Person:
    """Somebody who has signed in, and looks at the admin's index."""
    browse(reverse("admin:index"))
    return Person(page)


def open_list(person: Person) -> None:
    person.click("link", "Cellcast", exact=True)
    person.click("link", "To answer")
    person.page.wait_for_url("**/to-answer/")


def waiting() -> int:
    return Message.objects.unhandled().count()


def test_user_reaches_the_newest_reply_in_two_clicks_and_answers_in_three(
    receptionist: Person,
) -> None:
    open_list(receptionist)
    receptionist.reads("May I come later? (0)")
    assert receptionist.clicks == 2
    assert receptionist.page.title().startswith(f"({WAITING}) ")

    receptionist.click("link", "Mrs Lee 0")
    receptionist.page.get_by_label("Your answer").fill("Of course")
    receptionist.click("button", "Send")

    receptionist.reads("Of course")
    assert sent == ["Of course"]
    assert receptionist.clicks - 1 == 3  # the first of them leads to the section
    assert waiting() == WAITING - 1


def test_marking_twenty_replies_done_keeps_the_place(receptionist: Person) -> None:
    page = receptionist.page
    open_list(receptionist)
    receptionist.clicks = 0
    boxes = page.locator(".cellcast-to-answer tbody [type=checkbox]")
    for number in range(10, 30):
        boxes.nth(number).check()
        receptionist.clicks += 1
    receptionist.click("button", "Done: all that are ticked")

    page.locator(".cellcast-undo").wait_for()
    assert receptionist.clicks <= 25
    assert waiting() == WAITING - 20
    following = Message.objects.get(cellcast_id="id-30")
    page.locator(f"#cellcast-waiting-{following.pk}:focus").wait_for()
    assert page.evaluate(IS_FOCUS_IN_VIEW)
    receptionist.click("button", "Undo")
    page.locator(".messagelist .success").wait_for()
    assert waiting() == WAITING


def test_done_in_a_row_moves_focus_to_the_next(receptionist: Person) -> None:
    page = receptionist.page
    open_list(receptionist)
    for number in range(20, 23):
        reply = Message.objects.get(cellcast_id=f"id-{number}")
        page.locator(f"button[name=one][value='{reply.pk}']").click()
        following = Message.objects.get(cellcast_id=f"id-{number + 1}")
        page.wait_for_url(f"**#cellcast-waiting-{following.pk}")
        page.locator(f"#cellcast-waiting-{following.pk}:focus").wait_for()
        assert page.evaluate(IS_FOCUS_IN_VIEW)
    assert waiting() == WAITING - 3


def test_done_and_next_walks_from_customer_to_customer(receptionist: Person) -> None:
    open_list(receptionist)
    receptionist.click("link", "Mrs Lee 0")

    for number in range(20):
        wait_for_conversation(receptionist.page, number)
        receptionist.click("button", "Done and next")

    wait_for_conversation(receptionist.page, 20)
    assert receptionist.clicks <= 25
    assert waiting() == WAITING - 20


def wait_for_conversation(page: Any, number: int) -> None:
    """Wait until the whole page is there; the list that leads to it shows its text too."""
    reply = Message.objects.get(cellcast_id=f"id-{number}")
    page.wait_for_url(f"**{url_of('message', 'conversation', reply.pk)}*")


IS_FOCUS_IN_VIEW = """() => {
    const { top, bottom } = document.activeElement.getBoundingClientRect();
    return top >= 0 && bottom <= innerHeight;
}"""


def test_user_finds_a_customer_by_name_in_two_clicks(receptionist: Person) -> None:
    receptionist.click("link", "Messages", exact=True)
    receptionist.search("Mrs Lee 77")

    receptionist.reads("Mrs Lee 77")
    assert receptionist.clicks == 2
    assert receptionist.page.locator("#result_list tbody tr").count() == MESSAGES // 1_000


def test_user_opts_a_customer_out_in_two_clicks(receptionist: Person) -> None:
    reply = Message.objects.get(cellcast_id="id-0")
    receptionist.page.goto(
        receptionist.page.url.partition("/admin/")[0] + url_of("message", "conversation", reply.pk)
    )

    receptionist.click("link", "Opt out…")
    receptionist.page.get_by_role("main").locator("[type=submit]").first.click()
    receptionist.clicks += 1

    receptionist.page.locator(".messagelist .success").wait_for()
    assert is_opted_out(NEWEST)
    assert receptionist.clicks == 2


def test_send_button_is_visible_without_scrolling(receptionist: Person) -> None:
    page = receptionist.page
    page.set_viewport_size({"width": 1366, "height": 768})
    open_list(receptionist)
    receptionist.click("link", "Mrs Lee 0")

    box = page.get_by_role("button", name="Send").bounding_box()

    assert box["y"] + box["height"] <= 768


IS_WHOLE_BUTTON_HIT = """button => {
    const { left, top, right, bottom } = button.getBoundingClientRect();
    for (let x = left + 4; x < right - 4; x += 4)
        for (let y = top + 1; y < bottom - 1; y += 1)
            if (!button.contains(document.elementFromPoint(x, y))) return false;
    return true;
}"""


@pytest.mark.parametrize(
    ("width", "height", "has_to_scroll"),
    [
        pytest.param(1280, 720, False, id="laptop"),
        pytest.param(1366, 650, False, id="low laptop"),
        pytest.param(375, 667, True, id="phone"),
        pytest.param(640, 360, True, id="laptop at 200 %"),
    ],
)
def test_nothing_covers_send_after_done_and_next(
    receptionist: Person, settings: Any, width: int, height: int, *, has_to_scroll: bool
) -> None:
    settings.CELLCAST_OWN_NUMBERS = ["+61480000000", "+61480000001"]  # a line more
    page = receptionist.page
    page.set_viewport_size({"width": width, "height": height})
    first = Message.objects.get(cellcast_id="id-0")
    page.goto(page.url.partition("/admin/")[0] + url_of("message", "conversation", first.pk))
    receptionist.click("button", "Done and next")
    page.locator(".cellcast-undo").wait_for()
    send = page.get_by_role("button", name="Send")

    if has_to_scroll:
        page.get_by_label("Your answer").focus()
        send.scroll_into_view_if_needed()

    assert send.evaluate(IS_WHOLE_BUTTON_HIT)


def test_second_user_answering_the_same_reply_is_asked_first(
    receptionist: Person, browser: Any, server: str
) -> None:
    colleague = Client()
    colleague.force_login(User.objects.create_superuser("colleague"))
    url = server + url_of("message", "conversation", Message.objects.get(cellcast_id="id-0").pk)
    with browser.new_context() as context:
        log_in(context, server, colleague)
        pages = [receptionist.page, context.new_page()]
        for each, text in zip(pages, ["Of course", "Sorry, no"], strict=True):
            each.goto(url)
            each.get_by_label("Your answer").fill(text)

        pages[0].get_by_role("button", name="Send").click()
        pages[0].locator(".messagelist .success").wait_for()
        pages[1].get_by_role("button", name="Send").click()

        pages[1].locator(".messagelist .warning").wait_for()
        pages[1].get_by_text("Of course").first.wait_for()
        assert sent == ["Of course"]
        assert pages[1].get_by_label("Your answer").input_value() == "Sorry, no"
        pages[1].get_by_role("button", name="Send").click()
        pages[1].locator(".messagelist .success").wait_for()
    assert sent == ["Of course", "Sorry, no"]


def stop_clock(page: Any) -> None:
    """Let the page's time pass by ``run_for`` alone."""
    page.clock.install(time=0)
    page.clock.pause_at(1)


def questions_of(page: Any) -> list[str]:
    """Return a list to which the page's questions about what is new are added."""
    page.wait_for_load_state("load")
    page.locator("[data-news]").wait_for(state="attached")
    asked: list[str] = []
    page.on("request", lambda each: asked.append(each.url) if "/news/" in each.url else None)
    return asked


def test_open_page_tells_of_new_replies_without_moving(receptionist: Person) -> None:
    page = receptionist.page
    stop_clock(page)
    open_list(receptionist)
    asked = questions_of(page)
    box = page.locator(".cellcast-to-answer tbody [type=checkbox]").nth(3)
    box.check()
    place = box.bounding_box()
    WebhookClient().reply(sender="+61400000999", message="Are you open?")

    page.clock.run_for(29_000)
    assert asked == []
    page.clock.run_for(2_000)
    page.locator(".cellcast-news a:visible").wait_for()

    assert page.title().startswith(f"({WAITING + 1}) ")
    assert box.bounding_box() == place
    assert box.is_checked()
    page.locator(".cellcast-news a").click()
    receptionist.reads("Are you open?")


def test_open_page_stops_asking_at_the_login_page(receptionist: Person) -> None:
    page = receptionist.page
    stop_clock(page)
    open_list(receptionist)
    asked = questions_of(page)
    page.context.clear_cookies()

    with page.expect_event("requestfailed"):  # so the browser says that it follows no redirect
        page.clock.run_for(31_000)
    page.wait_for_timeout(200)
    page.clock.run_for(120_000)

    assert len(asked) == 1
