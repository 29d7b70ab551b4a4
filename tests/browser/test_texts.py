"""Texts to choose from in a conversation: by mouse, keyboard, on a phone, and without scripts."""

from typing import Any

import pytest

from cellcast_django.testing import sent
from tests.browser import clinic as clinics
from tests.browser.conftest import SignIn
from tests.browser.inspection import LOOKS, dress, problems_of
from tests.browser.person import RECEPTIONIST, Person
from tests.browser.test_morning import IS_WHOLE_BUTTON_HIT, SIZES, address, box

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

TEXTS = ["Yes, see you then.", "We close at <5>.\nShall we say Monday?", *["نعم! " * 15] * 18]


class Customers(clinics.Customers):
    def answers(self, contact: str) -> list[str]:
        return TEXTS


@pytest.fixture
def receptionist(clinic: None, settings: Any, sign_in: SignIn) -> Person:
    settings.CELLCAST_DIRECTORY = f"{__name__}.Customers"
    person = sign_in(*RECEPTIONIST)
    person.goes_to(address(0))
    return person


def opener(page: Any) -> Any:
    return page.get_by_role("button", name="Texts")


def choose(person: Person, place: int) -> None:
    person.press(opener(person.page))
    person.press(person.page.locator("#cellcast-texts button").nth(place))


def test_five_customers_are_answered_by_chosen_texts(receptionist: Person) -> None:
    for customer in range(5):
        receptionist.page.wait_for_url(f"**{address(customer)}*")
        choose(receptionist, customer % 2)
        receptionist.press(receptionist.page.locator("button[name=then]"))

    receptionist.page.wait_for_url(f"**{address(5)}*")
    assert [each.body for each in sent] == [TEXTS[customer % 2] for customer in range(5)]
    assert receptionist.clicks == 15


def test_chosen_text_joins_what_was_typed(receptionist: Person) -> None:
    """At the cursor, even while a part is selected; can be undone, counts, and the tab keeps it."""
    page = receptionist.page
    choose(receptionist, 0)
    page.keyboard.type(" Bye")
    box(page).evaluate("box => box.setSelectionRange(0, 3)")
    choose(receptionist, 2)
    page.keyboard.press("Control+z")
    choose(receptionist, 1)
    page.reload()
    choose(receptionist, 2)

    text = f"Yes {TEXTS[1]} , see you then. Bye {TEXTS[2].strip()}"
    assert box(page).input_value() == text
    assert page.locator("output").inner_text() == f"{-(-len(text) // 67)} SMS"
    assert page.locator("#cellcast-texts").is_hidden()
    assert not sent


def test_text_is_chosen_by_keyboard_alone(receptionist: Person) -> None:
    keyboard = receptionist.page.keyboard
    box(receptionist.page).focus()
    keyboard.type("Hi")
    for key in ("Shift+Tab", "Enter", "Escape", "Enter", "Tab", "Tab", "Enter"):
        keyboard.press(key)
    keyboard.type(" Bye")
    keyboard.press("Tab")
    keyboard.press("Enter")

    receptionist.page.locator(".messagelist .success").wait_for()
    assert [each.body for each in sent] == [f"Hi {TEXTS[1]} Bye"]


@pytest.mark.parametrize("name", ["texts", "note"])
@pytest.mark.parametrize("look", LOOKS)
def test_what_opens_is_for_everybody(receptionist: Person, look: str, name: str) -> None:
    dress(receptionist.page, look)
    receptionist.page.locator(f"[popovertarget=cellcast-{name}]").click()

    assert problems_of(receptionist.page, name, look) == []
    assert receptionist.page.locator(f"#cellcast-{name}").evaluate(IS_IN_SIGHT)


IS_IN_SIGHT = """list => {
    const { left, top, right, bottom } = list.getBoundingClientRect();
    return left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
}"""


def test_texts_cost_no_height(receptionist: Person, settings: Any) -> None:
    page, places = receptionist.page, []
    for directory in (clinics.Customers, Customers):
        settings.CELLCAST_DIRECTORY = f"{directory.__module__}.Customers"
        page.reload()
        for width, height in (*SIZES, (375, 667)):
            page.set_viewport_size({"width": width, "height": height})
            places.append(box(page).bounding_box()["y"])
    assert places[:4] == places[4:]
    assert opener(page).evaluate(IS_WHOLE_BUTTON_HIT)


def test_texts_can_be_copied_without_scripts(clinic: None, plain_page: Any, settings: Any) -> None:
    settings.CELLCAST_DIRECTORY = f"{__name__}.Customers"
    plain_page.goto(address(0))
    opener(plain_page).click()
    plain_page.get_by_text(TEXTS[0]).click(click_count=3)
    assert plain_page.evaluate("getSelection().toString()").strip() == TEXTS[0]
