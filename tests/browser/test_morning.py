"""A receptionist's day, with 4,000 messages and 300 customers who wait: alone, and two at once."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_out
from cellcast_django.testing import WebhookClient, sent
from tests.admin_pages import staff, url_of
from tests.browser.clinic import OWN_NUMBERS, WAITING, number_of
from tests.browser.conftest import SignIn, log_in
from tests.browser.person import RECEPTIONIST, Person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def receptionist(clinic: None, sign_in: SignIn) -> Person:
    return sign_in(*RECEPTIONIST)


def texts_sent() -> list[str]:
    return [each.body for each in sent]


def open_list(person: Person) -> None:
    person.click("link", "To answer", exact=True)
    person.page.wait_for_url("**/to-answer/")


def address(number: int) -> str:
    """Return where the conversation with a customer is."""
    return url_of("message", "conversation", Message.objects.get(cellcast_id=f"id-{number}").pk)


def box(page: Any) -> Any:
    """Return where an answer is typed."""
    return page.locator("#cellcast-answer-text")


def send(page: Any) -> None:
    page.locator(".cellcast-answer button").first.click()


def waiting() -> int:
    return Message.objects.unhandled().count()


def test_marking_twenty_replies_done_keeps_the_place(receptionist: Person) -> None:
    page = receptionist.page
    open_list(receptionist)
    receptionist.clicks = 0
    boxes = page.locator(".cellcast-to-answer tbody [type=checkbox]")
    for number in range(10, 30):
        boxes.nth(number).check()
        receptionist.clicks += 1
    receptionist.click("button", "Mark 20 as done")

    page.locator(".cellcast-undo").wait_for()
    assert receptionist.clicks <= 25
    assert waiting() == WAITING - 20
    following = Message.objects.get(cellcast_id="id-30")
    page.locator(f"#cellcast-waiting-{following.pk}:focus").wait_for()
    assert page.evaluate(IS_FOCUS_IN_VIEW)
    receptionist.clicks = 0
    receptionist.click("button", "Undo")
    page.locator(".messagelist .success").wait_for()
    assert waiting() == WAITING
    assert receptionist.clicks == 1


def test_tabs_stand_at_the_same_place_on_each_page(receptionist: Person) -> None:
    section, places = reverse("admin:app_list", args=["cellcast_django"]), []
    for path in (section, url_of("message", "to_answer"), url_of("message", "new"), address(0)):
        receptionist.goes_to(path)
        places.append(receptionist.page.locator(".cellcast-tabs").bounding_box()["y"])
    assert max(places) - min(places) < 5


def test_done_and_send_lead_from_customer_to_customer(receptionist: Person) -> None:
    page = receptionist.page
    open_list(receptionist)
    receptionist.click("link", "Mr Ng 0")
    places = []

    for number in range(6):
        page.wait_for_url(f"**{address(number)}*")
        if number:
            assert f"Mr Ng {number - 1}" in page.locator("main, .messagelist").all_inner_texts()[0]
        buttons = page.locator(".cellcast-tools [name=back]")
        places.append([buttons.nth(each).bounding_box()["x"] for each in range(2)])
        if number % 2:
            receptionist.press(buttons.first)
        else:
            box(page).fill(f"Answer {number}")
            receptionist.press(page.locator("button[name=then]"))

    page.wait_for_url(f"**{address(6)}*")
    assert receptionist.clicks == 8
    assert texts_sent() == ["Answer 0", "Answer 2", "Answer 4"]
    assert waiting() == WAITING - 6
    assert places == places[:1] * 6


IS_FOCUS_IN_VIEW = """() => {
    const { top, bottom } = document.activeElement.getBoundingClientRect();
    return top >= 0 && bottom <= innerHeight;
}"""


IS_WHOLE_BUTTON_HIT = """button => {
    const { left, top, right, bottom } = button.getBoundingClientRect();
    for (let x = left + 4; x < right - 4; x += 4)
        for (let y = top + 1; y < bottom - 1; y += 1)
            if (!button.contains(document.elementFromPoint(x, y))) return false;
    return true;
}"""


def test_nothing_covers_send_after_done_and_next(receptionist: Person) -> None:
    page = receptionist.page
    receptionist.goes_to(address(0))
    receptionist.click("button", "Done and next")
    page.locator(".cellcast-undo").wait_for()
    button = page.locator(".cellcast-answer button").first

    for width, height in ((1280, 720), (1366, 650), (375, 667), (640, 360)):
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("scrollTo(0, 0)")
        if width < 1280:  # a phone, or a laptop at 200 %, has to scroll
            box(page).focus()
            button.scroll_into_view_if_needed()
        assert button.evaluate(IS_WHOLE_BUTTON_HIT), width


SIZES = [(1280, 800), (1366, 768), (1440, 900)]


@pytest.mark.parametrize("wrote_to_both", [False, True])
def test_send_is_in_sight_at_each_customer(receptionist: Person, *, wrote_to_both: bool) -> None:
    """Below what the last click has left there, and below your numbers if there are several."""
    page = receptionist.page
    if wrote_to_both:
        Message.objects.outbound().filter(contact=number_of(1)).update(own_number=OWN_NUMBERS[0])
    for leave, left in (("then", ".messagelist .success"), ("back", ".cellcast-undo")):
        receptionist.goes_to(address(0))
        box(page).fill("Of course" if leave == "then" else "")
        page.locator(f"button[name={leave}][value=next]").click()

        page.wait_for_url(f"**{address(1)}*")
        assert page.locator(left).is_visible()
        assert page.locator("#cellcast-numbers").count() == wrote_to_both
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            for button in page.locator(".cellcast-answer button").all():
                assert button.evaluate(IS_WHOLE_BUTTON_HIT), width
        Message.objects.filter(contact=number_of(0)).update(handled_at=None)


# What has been typed


def test_what_was_typed_is_kept_until_it_is_sent(receptionist: Person) -> None:
    page = receptionist.page
    receptionist.goes_to(address(0))
    box(page).fill("Of course")
    receptionist.click("link", "Next")
    page.wait_for_url(f"**{address(1)}*")
    assert box(page).input_value() == ""
    box(page).fill("Sorry, no")
    page.go_back()
    page.wait_for_url(f"**{address(0)}*")
    assert box(page).input_value() == "Of course"
    cookies = page.context.cookies()
    page.context.clear_cookies(name=settings.SESSION_COOKIE_NAME)

    send(page)
    page.wait_for_url("**/login/**")
    page.context.add_cookies(cookies)
    receptionist.goes_to(address(0))

    assert box(page).input_value() == "Of course"
    send(page)
    page.locator(".messagelist .success").wait_for()
    assert box(page).input_value() == ""
    receptionist.goes_to(address(0))
    assert box(page).input_value() == ""
    receptionist.goes_to(address(1))
    assert box(page).input_value() == "Sorry, no"
    box(page).fill("")
    page.reload()
    assert box(page).input_value() == ""
    assert texts_sent() == ["Of course"]


def test_done_beside_a_typed_text_asks(receptionist: Person) -> None:
    page, answers, asked = receptionist.page, [False, True], []

    def reply(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept() if answers.pop(0) else dialog.dismiss()

    page.on("dialog", reply)
    receptionist.goes_to(address(0))
    box(page).fill("Of course")

    receptionist.click("button", "Done and next")
    assert (box(page).input_value(), waiting(), len(asked)) == ("Of course", WAITING, 1)
    receptionist.click("button", "Done and next")
    page.wait_for_url(f"**{address(1)}*")
    assert (waiting(), len(asked)) == (WAITING - 1, 2)
    receptionist.click("button", "Done and next")
    page.wait_for_url(f"**{address(2)}*")

    assert (texts_sent(), len(asked)) == ([], 2), "with nothing in the box"
    receptionist.goes_to(address(0))
    assert box(page).input_value() == "Of course"


def test_note_goes_with_done_and_is_shown_to_a_colleague(receptionist: Person) -> None:
    page = receptionist.page
    receptionist.goes_to(address(0))
    box(page).fill("Of course")
    receptionist.click("button", "Note")
    page.keyboard.type("Phoned her, comes on Friday")
    page.keyboard.press("Escape")
    page.once("dialog", lambda dialog: dialog.dismiss())
    send(page)
    page.reload()
    assert (box(page).input_value(), texts_sent()) == ("Of course", [])
    box(page).fill("")
    assert page.get_by_role("button", name="typed").is_visible()
    receptionist.click("button", "Note")
    page.keyboard.press("Enter")

    page.locator("[data-note]").wait_for()
    assert page.locator("[data-note]").inner_text() == "Phoned her, comes on Friday"
    assert receptionist.clicks == 2
    receptionist.click("button", "Reopen")
    page.locator(".messagelist .success").wait_for()
    assert page.locator("[name=note]").input_value() == "", "the tab has dropped it"


def test_note_and_text_come_back_without_scripts(clinic: None, plain_page: Any) -> None:
    plain_page.goto(address(0))
    box(plain_page).fill("Of course")
    plain_page.get_by_role("button", name="Note").click()
    plain_page.keyboard.type("Phoned her")
    plain_page.keyboard.press("Escape")
    plain_page.locator(".cellcast-send-line button").first.click()

    plain_page.locator(".messagelist .warning").wait_for()
    assert box(plain_page).input_value() == "Of course"
    plain_page.get_by_role("button", name="typed").click()
    plain_page.keyboard.press("Enter")
    assert plain_page.locator("[data-note]").inner_text() == "Phoned her"


def test_text_whose_response_was_lost_is_asked_about(receptionist: Person, server: str) -> None:
    page, url = receptionist.page, f"**{address(0)}"
    receptionist.goes_to(address(0))
    box(page).fill("Of course")
    page.route(url, lambda route: (route.fetch(max_redirects=0), route.abort()))
    send(page)
    page.wait_for_url("chrome-error:**")
    page.unroute(url)
    Message.objects.filter(sent_by__gt="").update(created_at=timezone.now() - timedelta(hours=1))

    page.goto(server + address(0))
    assert box(page).input_value() == "Of course"
    send(page)

    page.locator(".messagelist .warning").wait_for()
    assert texts_sent() == ["Of course"]


def test_line_about_the_length_of_an_sms_is_shown_when_it_matters(receptionist: Person) -> None:
    page = receptionist.page
    receptionist.goes_to(address(0))
    line = page.locator(".cellcast-answer output + span")

    for length, is_shown in ((0, False), (160, False), (161, True), (3, False)):
        box(page).fill("x" * length)
        assert line.is_visible() == is_shown, length
        count = page.locator(".cellcast-answer output").text_content()
        assert bool(count) == bool(length), "nothing is sent of nothing"


def test_what_is_typed_before_the_script_has_come_is_kept(receptionist: Person) -> None:
    page, held = receptionist.page, []
    page.route("**/answer.js", lambda route: held.append(route))
    page.goto(page.url.partition("/admin/")[0] + address(0), wait_until="commit")
    box(page).fill("Of course")

    held[0].continue_()
    page.wait_for_load_state()

    assert box(page).input_value() == "Of course"


def test_new_conversation_keeps_its_number_and_leads_to_a_draft_without_losing_it(
    receptionist: Person,
) -> None:
    page, number = receptionist.page, receptionist.page.locator("[name=number]")
    receptionist.goes_to(address(0))
    box(page).fill("Of course")
    receptionist.goes_to(url_of("message", "new"))
    number.fill(number_of(0))
    box(page).fill("We have moved")
    page.reload()
    assert number.input_value() == number_of(0)

    send(page)
    page.wait_for_url("**/conversation/*")

    assert box(page).input_value() == "Of course\n\nWe have moved"
    receptionist.goes_to(url_of("message", "new"))
    assert [number.input_value(), box(page).input_value()] == ["", ""]


def test_what_was_typed_is_seen_in_no_other_tab_and_by_nobody_else(
    receptionist: Person, server: str
) -> None:
    page = receptionist.page
    receptionist.goes_to(address(0))
    box(page).fill("Of course")
    other_tab = page.context.new_page()
    other_tab.goto(server + address(0))
    assert box(other_tab).input_value() == ""

    log_in(page.context, server, staff(*RECEPTIONIST))
    receptionist.goes_to(address(0))
    assert box(page).input_value() == ""


def test_text_that_was_sent_is_not_in_the_box_after_back(receptionist: Person) -> None:
    page = receptionist.page
    open_list(receptionist)
    receptionist.click("link", "Mr Ng 0")
    box(page).fill("Of course")
    send(page)
    page.locator(".messagelist .success").wait_for()

    page.go_back()
    page.wait_for_load_state("networkidle")
    page.go_forward()
    assert box(page).input_value() == ""
    box(page).fill("Of course")
    send(page)

    page.locator(".messagelist .warning").wait_for()
    assert texts_sent() == ["Of course"]
    send(page)
    page.locator(".messagelist .success").wait_for()
    assert texts_sent() == ["Of course"] * 2


def test_double_click_sends_once_and_goes_on(receptionist: Person) -> None:
    page = receptionist.page
    receptionist.goes_to(address(0))
    box(page).fill("Of course")

    page.locator("button[name=then]").dblclick()

    page.wait_for_url(f"**{address(1)}*")
    assert texts_sent() == ["Of course"]


# Two at once


def test_two_people_at_one_customer(receptionist: Person, browser: Any, server: str) -> None:
    page = receptionist.page
    with browser.new_context(base_url=server) as context:
        log_in(context, server, staff(*RECEPTIONIST))
        other = context.new_page()
        for each, text in ((page, "Of course"), (other, "Sorry, no")):
            each.goto(server + address(0))
            box(each).fill(text)
        WebhookClient().reply(sender=number_of(0), message="And on Sunday?")

        send(page)
        page.locator(".messagelist .success").wait_for()
        assert waiting() == WAITING  # the new one
        send(other)
        other.locator(".messagelist .warning").wait_for()
        other.get_by_text("Of course").first.wait_for()
        assert (texts_sent(), box(other).input_value()) == (["Of course"], "Sorry, no")
        send(other)
        other.locator(".messagelist .success").wait_for()
        assert texts_sent() == ["Of course", "Sorry, no"]

        other.goto(server + address(1))
        page.goto(server + address(1))
        box(page).fill("Of course")
        opt_out(number_of(1))
        send(page)
        page.locator(".messagelist .error").wait_for()
        assert len(texts_sent()) == 2

        other.goto(server + address(2))
        page.goto(server + address(2))
        page.locator(".cellcast-tools button").last.click()
        page.locator(".cellcast-undo").wait_for()
        other.locator(".cellcast-tools button").last.click()
        other.locator(".messagelist .info").wait_for()
        assert other.locator(".cellcast-undo").count() == 0
        other.locator("#cellcast-reopen button").click()
        other.locator(".messagelist .success").wait_for()
        page.locator(".cellcast-undo button").click()
        page.locator(".messagelist .warning").wait_for()
    assert Message.objects.unhandled().filter(contact=number_of(2)).exists()


# What is new


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

    receptionist.press(page.locator(".cellcast-tools button").last)
    page.locator(".cellcast-undo").wait_for()
    assert waiting() == WAITING - 1
    page.reload()  # so that nothing can be undone
    assert page.locator(".cellcast-undo").count() == 0
    receptionist.click("button", "Reopen")
    page.locator(".messagelist .success").wait_for()
    assert waiting() == WAITING


# By keyboard and by ear


def go(page: Any, name: str) -> None:
    """Press the tabulator key until something of this name has the focus, and then Enter."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()").startswith(name):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"The keyboard does not reach {name}.")


def test_day_by_keyboard_alone(receptionist: Person) -> None:
    page = receptionist.page
    go(page, "To answer")
    page.wait_for_url("**/to-answer/")
    go(page, "Skip to the customers")
    go(page, "Mr Ng 0")
    page.wait_for_url(f"**{address(0)}*")
    go(page, "Skip to your answer")
    page.keyboard.type("Of course")
    go(page, "Send and next")
    page.wait_for_url(f"**{address(1)}*")
    go(page, "Done and next")
    page.wait_for_url(f"**{address(2)}*")
    go(page, "Undo")
    page.locator(".messagelist .success").wait_for()

    assert texts_sent() == ["Of course"]
    assert waiting() == WAITING - 1


def test_each_control_says_whose_it_is(receptionist: Person) -> None:
    page = receptionist.page
    Message.objects.unhandled().exclude(contact__in=map(number_of, range(3))).delete()
    open_list(receptionist)
    page.locator("[data-ticks]").wait_for()

    rows = page.locator(".cellcast-to-answer tbody tr")
    for place in range(3):
        tree = rows.nth(place).aria_snapshot()
        names = re.findall(r'(?:button|checkbox|link) "([^"]*)"', tree)
        assert len(names) == 3
        assert [name for name in names if f"Mr Ng {place}" not in name] == []

    receptionist.click("link", "Mr Ng 0")
    page.wait_for_url(f"**{address(0)}*")
    tree = page.locator("#content-main").aria_snapshot()
    names = re.findall(r'(?:button|textbox) "([^"]*)"', tree)
    assert len(names) == 6
    assert [name for name in names if "Mr Ng 0" not in name] == []
