"""What each of four people comes for at a clinic with 4,000 messages, and the clicks it takes.

From the admin's front page, signed in with the permissions of the role alone.
"""

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import Direction, Message, OptOut
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.testing import WebhookClient, sent
from tests.admin_pages import url_of
from tests.browser.clinic import MESSAGES, OWN_NUMBERS, WAITING, number_of
from tests.browser.conftest import SignIn
from tests.browser.person import OFFICER, OWNER, RECEPTIONIST, Person

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("clinic"),
]

LEE = number_of(7)
"""Mrs Grace Lee, whose message of this morning is the eighth newest."""


@pytest.fixture
def receptionist(sign_in: SignIn) -> Person:
    return sign_in(*RECEPTIONIST)


@pytest.fixture
def owner(sign_in: SignIn) -> Person:
    return sign_in(*OWNER)


def open_page(person: Person, title: str) -> None:
    person.click("link", "Cellcast", exact=True)
    person.click("link", title)


def open_list(person: Person) -> None:
    person.click("link", "To answer", exact=True)


def find(person: Person, words: str) -> Any:
    """Search among the messages; return the rows that are found."""
    person.click("link", "Messages", exact=True)
    person.search(words)
    return person.page.locator("#result_list tbody tr")


# The receptionist


def test_customer_who_is_180th_in_line(receptionist: Person) -> None:
    open_list(receptionist)
    receptionist.press(receptionist.page.locator("[data-page='4']"))
    receptionist.click("link", "Mr Ng 179")
    receptionist.page.get_by_label("Your answer").fill("Of course")
    receptionist.click("button", "Send")

    receptionist.reads("Sent to")
    assert [(each.receiver, each.sender) for each in sent] == [(number_of(179), OWN_NUMBERS[1])]
    assert receptionist.clicks == 4


def test_customer_by_name_or_number(receptionist: Person) -> None:
    for words, customer in (
        ("Lee Grace", 7),
        ("chloe", 8),
        ("0400 000 007", 7),
        ("000007", 7),
    ):
        receptionist.goes_to(reverse("admin:index"))
        receptionist.clicks = 0

        rows = find(receptionist, words)

        receptionist.reads(f"May I come later? ({customer})")
        assert rows.count() == MESSAGES // 1_000, words
        assert receptionist.clicks == 2


def test_customer_who_asks_not_to_be_texted(receptionist: Person) -> None:
    WebhookClient().reply(sender=number_of(200), message="Please stop texting me")
    open_list(receptionist)
    receptionist.press(receptionist.page.locator(".cellcast-tabs [href*='stop=1']"))
    receptionist.page.wait_for_url("**stop=1")
    receptionist.press(receptionist.page.locator("[data-opt-out]"))
    receptionist.press(receptionist.page.locator("main [type=submit]").first)

    receptionist.page.locator(".messagelist .success").wait_for()
    assert is_opted_out(number_of(200))
    assert receptionist.page.url.endswith("?stop=1")
    assert receptionist.clicks == 4


def test_wrong_done_of_yesterday(receptionist: Person) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    replies = Message.objects.filter(direction=Direction.INBOUND, handled_by="ruth")
    reply = replies.filter(created_at__lt=yesterday).latest("created_at")

    rows = find(receptionist, reply.contact)
    receptionist.press(rows.filter(has_text=reply.body).get_by_role("button", name="Reopen"))

    receptionist.page.locator(".messagelist .success").wait_for()
    assert "q=" in receptionist.page.url
    assert reply in Message.objects.unhandled()
    assert receptionist.clicks == 3


@pytest.mark.parametrize(("choice", "action"), [("new", "mark_done"), ("done", "mark_new")])
def test_all_replies_of_a_list_are_marked(receptionist: Person, choice: str, action: str) -> None:
    page = receptionist.page
    handled = Message.objects.filter(direction=Direction.INBOUND, handled_at__isnull=False)
    before = handled.count()
    receptionist.click("link", "Messages", exact=True)
    receptionist.press(page.locator(f"#changelist-filter a[href*='handled={choice}']"))
    page.wait_for_url(f"**handled={choice}**")  # with its scripts
    receptionist.press(page.locator("#action-toggle"))
    receptionist.press(page.locator(".actions .question a").first)
    receptionist.press(page.locator("select[name=action]"))
    page.locator("select[name=action]").select_option(action)
    receptionist.press(page.locator("button[name=index]"))
    question = page.locator("#cellcast-customers")
    replies = int(question.get_attribute("data-replies"))
    assert int(question.get_attribute("data-customers")) <= replies
    receptionist.press(page.locator("button.cellcast-button-primary"))

    page.locator(".messagelist .success").wait_for()
    assert abs(handled.count() - before) == replies
    assert replies == WAITING or choice == "done"
    assert receptionist.clicks == 7


# The owner


def test_reasons_of_both_months_for_one_own_number(owner: Person) -> None:
    page = owner.page
    open_page(owner, "Figures")
    page.locator("#cellcast-months tr[data-figure='sent'] td").nth(1).wait_for()
    assert owner.clicks == 2
    owner.press(page.locator("#cellcast-numbers a").nth(2))
    page.wait_for_url("**own=*")

    now = timezone.localtime()
    this_month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    failed = Message.objects.filter(status="failed", own_number=OWN_NUMBERS[1])
    counts = [
        failed.filter(created_at__gte=last_month, created_at__lt=this_month).count(),
        failed.filter(created_at__gte=this_month).count(),
    ]
    cells = page.locator("#cellcast-reasons tr[data-reason=reason]").evaluate_all(READ_FIGURES)
    assert len(cells) == 3
    assert [sum(column) for column in zip(*cells, strict=True)] == counts
    assert counts[0] > 0
    assert owner.clicks == 3


READ_FIGURES = """rows => rows.map(row => [...row.querySelectorAll("td")].map(
    cell => Number(cell.textContent.replace(",", ""))))"""


# The officer


@pytest.fixture
def officer(sign_in: SignIn) -> Person:
    return sign_in(*OFFICER)


def test_proof_of_an_opt_out(officer: Person) -> None:
    WebhookClient().reply(sender=LEE, message="STOP")
    officer.click("link", "Opt-outs", exact=True)
    officer.search("Mrs Lee")
    officer.press(officer.page.locator("#result_list tbody a").first)

    history = officer.page.locator("#cellcast-history li[data-kind=begun]")
    history.wait_for()
    assert "STOP" in history.inner_text()
    assert OptOut.objects.count() == 1
    assert officer.clicks == 3


def test_customers_data_as_a_file(officer: Person) -> None:
    reply = Message.objects.get(cellcast_id="id-7")
    officer.goes_to(url_of("message", "conversation", reply.pk))

    officer.press(officer.page.locator("#cellcast-customer-data summary"))
    with officer.page.expect_download() as download:
        officer.click("button", "Export this customer’s data")

    assert download.value.suggested_filename.endswith(".json")
    assert officer.clicks == 2
