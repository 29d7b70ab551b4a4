"""The receptionist's morning: 20,000 messages, 300 customers who wait, and the clicks it takes."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from cellcast_django.models import Message, OptOutChange
from cellcast_django.testing import WebhookClient, sent
from tests.admin_pages import url_of
from tests.browser.clinic import WAITING, number_of
from tests.browser.conftest import SignIn, log_in
from tests.browser.person import RECEPTIONIST, Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def receptionist(clinic: None, sign_in: SignIn) -> Person:
    return sign_in(*RECEPTIONIST)


def texts_sent() -> list[str]:
    return [each.body for each in sent]


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

    receptionist.click("link", "Mr Ng 0")
    receptionist.page.get_by_label("Your answer").fill("Of course")
    receptionist.click("button", "Send")

    receptionist.reads("Of course")
    assert texts_sent() == ["Of course"]
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
    receptionist.click("button", "Mark ticked as done")

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
    receptionist.click("link", "Mr Ng 0")

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


def test_send_button_is_visible_without_scrolling(receptionist: Person) -> None:
    page = receptionist.page
    page.set_viewport_size({"width": 1366, "height": 768})
    open_list(receptionist)
    receptionist.click("link", "Mr Ng 0")

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
    receptionist: Person, width: int, height: int, *, has_to_scroll: bool
) -> None:
    page = receptionist.page
    page.set_viewport_size({"width": width, "height": height})
    first = Message.objects.get(cellcast_id="id-0")
    receptionist.goes_to(url_of("message", "conversation", first.pk))
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
        assert texts_sent() == ["Of course"]
        assert pages[1].get_by_label("Your answer").input_value() == "Sorry, no"
        pages[1].get_by_role("button", name="Send").click()
        pages[1].locator(".messagelist .success").wait_for()
    assert texts_sent() == ["Of course", "Sorry, no"]


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


def test_receptionist_finds_opens_and_reopens_a_customer(receptionist: Person) -> None:
    page = receptionist.page
    receptionist.click("link", "Messages", exact=True)
    receptionist.search("lee  mrs")
    receptionist.press(page.locator("#result_list a[href*='/conversation/']").first)
    heading = page.locator(".cellcast-page-head h1")

    heading.get_by_role("link").click()  # the clinic's own page about her, and back
    page.wait_for_url("**/customers/007/")
    assert page.title() == "Mrs Grace Lee"
    page.get_by_role("link", name="Texts").click()
    assert "Mrs Grace Lee" in heading.inner_text()

    receptionist.click("button", "Done", exact=True)
    page.locator(".cellcast-undo").wait_for()
    assert waiting() == WAITING - 1
    page.reload()  # so that nothing can be undone
    assert page.locator(".cellcast-undo").count() == 0
    receptionist.click("button", "Reopen")
    page.locator(".messagelist .success").wait_for()
    assert waiting() == WAITING


def test_receptionist_begins_a_conversation_once(receptionist: Person) -> None:
    page = receptionist.page
    open_list(receptionist)

    for text in ("We have found your umbrella.", "It is at the desk."):
        receptionist.goes_to(url_of("message", "to_answer"))
        receptionist.click("link", "New conversation")
        page.get_by_label("The customer’s number").fill("0491 570 156")
        page.get_by_label("Your message").fill(text)
        receptionist.click("button", "Send")
        page.wait_for_url("**/conversation/")

    assert page.locator(".messagelist .warning").count() == 1
    assert page.get_by_label("Your answer").input_value() == "It is at the desk."
    assert texts_sent() == ["We have found your umbrella."]


def test_receptionist_opts_out_who_asks_in_words_of_their_own(receptionist: Person) -> None:
    words = "Please take me off your list"
    WebhookClient().reply(sender=number_of(7), message=words)
    page = receptionist.page
    receptionist.click("link", "Cellcast", exact=True)
    receptionist.click("link", "To answer")
    wishes = page.get_by_role("link", name="may want to stop 1")
    receptionist.press(wishes)
    receptionist.press(page.locator(".cellcast-waiting [data-opt-out]"))
    receptionist.press(page.locator("main [type=submit]").first)

    page.locator(".messagelist .success").wait_for()
    begun = OptOutChange.objects.get(kind=OptOutChange.Kind.BEGUN)
    assert begun.text == words
    assert begun.opt_out.contact == number_of(7)
    assert waiting() == WAITING - 1
