"""From a customer to the host project's own pages, and back."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import AnonymousUser, User
from django.template import RequestContext, Template
from django.test import Client, RequestFactory
from phonenumbers import PhoneNumber, parse

from cellcast_django.admin import register
from cellcast_django.admin.customers import url_or_nothing
from cellcast_django.desk.links import conversation_url
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from tests.admin_pages import CUSTOMER, Know, page_of, staff, text_of, url_of
from tests.html import every, only, words
from tests.pages import blocks

pytestmark = pytest.mark.django_db

PAGE = "/customers/7/"
HOST_PAGE = "a[@data-host-page='']"
asked: list[list[str]] = []


def references(wanted: list[str]) -> dict[str, Any]:
    asked.append(wanted)
    return {"booking-7": ("Booking <7>", "/bookings/7/"), "booking-8": ("Booking 8", "//evil")}


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    asked.clear()


@pytest.fixture
def reminder() -> Message:
    return Message.objects.record_sent("id", receiver=CUSTOMER, body="?", reference="booking-7")


@pytest.mark.parametrize("page", ["conversation", "change"])
@pytest.mark.parametrize(
    ("said", "shown", "links"),
    [
        (("Mrs <Lee>", PAGE), "Mrs <Lee>", [PAGE]),
        (("Mrs <Lee>", "javascript:alert(1)"), "Mrs <Lee>", []),
        ((None, PAGE), "", []),
    ],
)
def test_name_is_a_link_to_the_customers_own_page(
    reader: Client,
    reminder: Message,
    know: Know,
    page: str,
    said: Any,
    shown: str,
    links: list[str],
) -> None:
    know(names=lambda contacts: {CUSTOMER: said})

    html = page_of(reader, "message", page, reminder.pk)

    assert [link.get("href") for link in every(html, HOST_PAGE)] == links
    assert shown in text_of(html)
    assert shown or "(" not in words(only(html, "h1"))
    assert "javascript:alert(1)" not in html


def test_references_are_links_and_asked_for_once_a_page(
    reader: Client, reminder: Message, know: Know
) -> None:
    know(references=references)
    for number in (8, 9):
        reference = f"booking-{number}"
        Message.objects.record_sent(reference, receiver=CUSTOMER, body="?", reference=reference)

    html = page_of(reader, "message", "conversation", reminder.pk)

    assert asked == [["booking-7", "booking-8", "booking-9"]]
    assert {link.get("href") for link in every(html, HOST_PAGE)} == {"/bookings/7/"}
    assert {words(link) for link in every(html, HOST_PAGE)} == {"Booking <7>"}
    assert "Booking 8" in text_of(html)
    assert "booking-9" in text_of(html)
    reply = MessageFactory.create(inbound=True, sender="+61400000002")
    page_of(reader, "message", "conversation", reply.pk)
    assert len(asked) == 1  # where there is none, nothing is asked


@pytest.mark.parametrize(
    ("address", "is_link"),
    [
        ("/customers/7/", True),
        ("/", True),
        ("/?next=//x", True),
        ("https://crm.example.com/7", True),
        ("http://crm.example.com/7", True),
        ("//evil.example", False),
        ("/\\evil.example", False),
        ("/\t/evil.example", False),
        ("\n//evil.example", False),
        ("javascript:alert(1)", False),
        ("JaVaScript:alert(1)", False),
        ("data:text/html,x", False),
        ("ftp://crm.example.com", False),
        ("customers/7/", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_only_the_web_and_paths_are_linked(address: object, *, is_link: bool) -> None:
    assert url_or_nothing(address) == (address if is_link else "")


# And back


def request_of(*permissions: str, **values: Any) -> Any:
    request = RequestFactory().get("/customers/7/")
    client = staff(*permissions)
    request.user = User.objects.get(pk=client.session["_auth_user_id"])
    for name, value in values.items():
        setattr(request, name, value)
    return request


@pytest.mark.parametrize("number", [CUSTOMER, "0400 000 001", parse(CUSTOMER)])
def test_number_leads_to_its_newest_message_by_one_query(
    number: str | PhoneNumber, django_assert_num_queries: Any
) -> None:
    MessageFactory.create(receiver=CUSTOMER)
    newest = MessageFactory.create(inbound=True, sender=CUSTOMER)
    MessageFactory.create(inbound=True, sender="+61400000002")
    request = request_of("view_message")
    request.user.has_perm("x")  # Django asks once for what a person may do

    with django_assert_num_queries(1):
        url = conversation_url(number, request=request)

    assert url == url_of("message", "conversation", newest.pk)
    assert "0000001" not in url


@pytest.mark.parametrize("number", ["", "+61400000002", "cellcast"])
def test_number_without_messages_leads_nowhere(number: str) -> None:
    MessageFactory.create(inbound=True, sender="")

    assert conversation_url(number, request=request_of("view_message")) is None


def test_conversation_is_for_those_who_may_view_it() -> None:
    MessageFactory.create(receiver=CUSTOMER)
    request = request_of("view_webhookevent")
    assert conversation_url(CUSTOMER, request=request) is None
    request.user = AnonymousUser()
    assert conversation_url(CUSTOMER, request=request) is None
    person = request_of("view_message")
    person.user.is_staff = False
    assert conversation_url(CUSTOMER, request=person) is None


def test_site_without_the_desk_has_no_conversations() -> None:
    message = MessageFactory.create(receiver=CUSTOMER)
    other = AdminSite(name="elsewhere")
    register(other)
    request = request_of("view_message", current_app="elsewhere")

    url = conversation_url(CUSTOMER, request=request)

    assert url == url_of("message", "conversation", message.pk)


def rendered(request: Any, number: object) -> str:
    template = Template("{% load cellcast_pages %}[{% cellcast_conversation_url number %}]")
    return template.render(RequestContext(request, {"number": number}))


def test_template_tag_is_empty_where_there_is_none() -> None:
    message = MessageFactory.create(receiver=CUSTOMER)
    request = request_of("view_message")

    assert rendered(request, CUSTOMER) == f"[{url_of('message', 'conversation', message.pk)}]"
    for number in ("+61400000002", "", None):
        assert rendered(request, number) == "[]"
    assert rendered(request_of(), CUSTOMER) == "[]"


LINK, BUTTON = blocks("docs/admin.md", "html")


@pytest.mark.parametrize("number", [CUSTOMER, "+61400000002"])
def test_documented_link_leads_to_the_conversation(number: str) -> None:
    message = MessageFactory.create(receiver=CUSTOMER)
    customer = {"phone_number": number}
    request = request_of("view_message")

    html = Template(LINK.code).render(RequestContext(request, {"customer": customer}))

    url = url_of("message", "conversation", message.pk)
    assert (f'href="{url}"' in html) == ("href" in html) == (number == CUSTOMER)


def test_documented_template_adds_a_link(reader: Client, tmp_path: Path, settings: Any) -> None:
    message = MessageFactory.create(receiver=CUSTOMER)
    url = url_of("message", "conversation", message.pk)
    assert '/bookings/add/"' not in reader.get(url).text
    template = tmp_path / "admin/cellcast_desk/conversation.html"
    template.parent.mkdir(parents=True)
    template.write_text(BUTTON.code)
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]

    assert '/bookings/add/"' in reader.get(url).text
