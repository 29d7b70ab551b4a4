"""New conversation: a number and a text, for a customer who has never written."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from cellcast_django.directory import Directory
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Claim, Message
from cellcast_django.opt_outs import opt_out
from tests.admin_pages import CUSTOMER, levels, page_of, staff, url_of
from tests.desk.conftest import Show
from tests.html import addresses, every, hidden_fields, only, words

pytestmark = pytest.mark.django_db

FORM = "form[@id='cellcast-new']"
OTHER = "+61400000002"
sent: list[tuple[str, str, str]] = []


def send(receiver: str, body: str, sender: str, *, reference: str) -> str:
    sent.append((receiver, body, sender))
    return f"new-{len(sent)}"


def broken(*arguments: str, reference: str) -> str:
    raise ConnectionError


@pytest.fixture(autouse=True)
def sending(settings: Any) -> None:
    sent.clear()
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"


@pytest.fixture
def receptionist() -> Client:
    return staff("view_message", "write_message", "answer_message")


@pytest.fixture
def writer() -> Client:
    """Somebody who may write, and look at nothing."""
    return staff("write_message")


def write(client: Client, number: str = "0400 000 001", text: str = "Hello", **changes: Any) -> Any:
    form = hidden_fields(only(page_of(client, "message", "new"), FORM))
    form |= {"number": number, "text": text} | changes
    return client.post(url_of("message", "new"), form, follow=True)


def is_at(response: Any, *place: Any) -> bool:
    addresses = [url.partition("#")[0] for url, _status in response.redirect_chain]
    return addresses[-1:] == [url_of(*place)]


def values_of(response: Any) -> tuple[str, str]:
    form = only(response.text, FORM)
    number = only(form, "input[@name='number']").get("value", "")
    return number, words(only(form, "textarea"))


def test_first_message_is_sent_and_leads_to_the_conversation(receptionist: Client) -> None:
    response = write(receptionist)

    message = Message.objects.get()
    assert sent == [(CUSTOMER, "Hello", "")]
    assert levels(response) == ["success"]
    assert is_at(response, "message", "conversation", message.pk)
    assert message.sent_by == "staff-0"
    assert LogEntry.objects.get().object_id == str(message.pk)


def test_who_may_not_view_messages_stays_on_the_page(writer: Client) -> None:
    response = write(writer)

    assert len(sent) == 1
    assert levels(response) == ["success"]
    assert is_at(response, "message", "new")
    assert values_of(response) == ("", "")
    assert url_of("message") not in addresses(response.text)
    index = reverse("admin:app_list", args=["cellcast_django"])
    assert index in addresses(response.text)
    assert writer.get(index).status_code == 200


def test_who_does_not_see_the_message_stays_on_the_page(receptionist: Client, show: Show) -> None:
    show(Message, lambda rows: rows.none())

    assert is_at(write(receptionist), "message", "new")


@pytest.mark.parametrize("number", ["", "cellcast", "000", "+61 400", "x" * 300])
def test_what_is_no_phone_number_is_not_written_to(receptionist: Client, number: str) -> None:
    response = write(receptionist, number)

    assert sent == []
    assert levels(response) == ["error"]
    assert values_of(response) == (number[:64], "Hello")


@pytest.mark.parametrize("number", ["0400 000 001", "Lee"])
def test_existing_conversation_is_led_to_with_the_text(
    receptionist: Client, settings: Any, number: str
) -> None:
    search_by_name(settings)
    MessageFactory.create(inbound=True, sender=CUSTOMER)
    newest = MessageFactory.create(inbound=True, sender=CUSTOMER)
    other = MessageFactory.create(inbound=True, sender=OTHER)

    response = write(receptionist, number)

    assert (sent, levels(response)) == ([], ["warning"])
    assert is_at(response, "message", "conversation", newest.pk)
    assert response.redirect_chain[-1][0].partition("#")[2].startswith("cellcast-moved-")
    for message in (newest, other):  # only once, and for that conversation alone
        page = page_of(receptionist, "message", "conversation", message.pk)
        assert words(only(page, "textarea")) == ""


@pytest.mark.parametrize("may_view", [True, False])
def test_hidden_conversation_is_refused_without_saying_why(show: Show, *, may_view: bool) -> None:
    person = staff("write_message", *(["view_message"] if may_view else []))
    MessageFactory.create(inbound=True, sender=CUSTOMER)
    if may_view:
        show(Message, lambda rows: rows.exclude(contact=CUSTOMER))

    response = write(person)

    assert sent == []
    assert levels(response) == ["error"]
    assert not response.redirect_chain
    assert values_of(response) == ("0400 000 001", "Hello")
    [said] = map(str, response.context["messages"])
    opt_out(CUSTOMER)
    assert list(map(str, write(person).context["messages"])) == [said]


def test_used_form_tells_nothing_of_what_others_were_sent(writer: Client) -> None:
    """Otherwise a known text could be tried for each number, and nothing would be sent."""
    MessageFactory.create(receiver=OTHER, body="See you at 10", sent_by="mia")
    used = hidden_fields(only(page_of(writer, "message", "new"), FORM))
    write(writer, **used)
    said = [
        [str(each) for each in write(writer, OTHER, text, **used).context["messages"]]
        for text in ("See you at 10", "See you at 11")
    ]
    assert said[0] == said[1]
    assert len(sent) == 1


def test_second_click_sends_nothing(receptionist: Client, writer: Client) -> None:
    for person, number in ((receptionist, CUSTOMER), (writer, "+61400000002")):
        form = hidden_fields(only(page_of(person, "message", "new"), FORM))
        write(person, number, **form)

        response = write(person, number, **form)

        assert levels(response) == ["warning"]
        assert response.redirect_chain
    assert len(sent) == 2


def test_failure_keeps_the_form_and_is_logged(writer: Client, settings: Any) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"

    response = write(writer)

    assert levels(response) == ["error"]
    assert values_of(response) == ("0400 000 001", "Hello")
    entry = LogEntry.objects.get()
    assert "ConnectionError" in entry.change_message
    form = "form[@id='cellcast-new']//button"
    assert words(only(response.text, form)) != words(only(page_of(writer, "message", "new"), form))
    assert every(response.text, "p[@id='cellcast-doubt']")  # where to look before
    assert "Hello" not in f"{entry.change_message} {entry.object_repr}"


# Who may, and where it is


def test_writing_requires_its_permission_and_setting(
    reader: Client, writer: Client, settings: Any
) -> None:
    url = url_of("message", "new")

    assert reader.get(url).status_code == 403
    assert reader.post(url, {"number": CUSTOMER, "text": "Hello"}).status_code == 403
    assert writer.get(url).status_code == 200
    settings.CELLCAST_SEND_WITH = ""
    assert writer.get(url).status_code == 403


class Clinic(Directory):
    """Knows two customers by name, and somebody else who has no number."""

    def search(self, words: str) -> list[str]:
        return {"lee": [CUSTOMER], "ng": [CUSTOMER, OTHER, "MYBANK"]}.get(words.lower(), [])


def search_by_name(settings: Any) -> None:
    settings.CELLCAST_DIRECTORY = f"{__name__}.Clinic"


def test_customer_is_found_by_name_and_confirmed_first(receptionist: Client, settings: Any) -> None:
    search_by_name(settings)
    MessageFactory.create(receiver=OTHER)

    response = write(receptionist, number="Lee")

    assert (sent, levels(response)) == ([], ["info"])
    box = only(response.text, "fieldset[@id='cellcast-found']//input")
    assert (box.get("value"), box.get("checked") is not None) == (CUSTOMER, True)
    write(receptionist, number="Lee", contact=CUSTOMER)
    assert sent == [(CUSTOMER, "Hello", "")]


def test_name_of_several_customers_asks_which(receptionist: Client, settings: Any) -> None:
    search_by_name(settings)

    for chosen in ({}, {"contact": "+61400999999"}):
        response = write(receptionist, number="Ng", **chosen)
        boxes = every(response.text, "fieldset[@id='cellcast-found']//input")
        assert {box.get("value") for box in boxes} == {CUSTOMER, OTHER}
        assert sent == []
    write(receptionist, number="Ng", contact=OTHER)
    assert sent == [(OTHER, "Hello", "")]


def test_names_are_not_searched_for_who_may_not_view_messages(
    writer: Client, settings: Any
) -> None:
    search_by_name(settings)

    response = write(writer, number="Lee")

    assert not every(response.text, "fieldset[@id='cellcast-found']")
    assert levels(response) == ["error"]


@pytest.mark.parametrize("is_known", [True, False])
def test_customer_who_has_opted_out_is_refused_as_that(
    receptionist: Client, *, is_known: bool
) -> None:
    known = MessageFactory.create(inbound=True, sender=CUSTOMER if is_known else OTHER)
    opt_out(CUSTOMER)

    response = write(receptionist)

    assert levels(response) == ["error"]
    assert "opted out" in str(next(iter(response.context["messages"])))
    assert sent == []
    assert not Claim.objects.exists()
    assert is_at(response, "message", "conversation", known.pk) == is_known


@pytest.mark.parametrize(
    ("configured", "chosen", "sender"),
    [
        ([], "", ""),
        (["+61480000001"], "", "+61480000001"),
        (["+61480000001", "BrightTeeth"], "", "+61480000001"),
        (["+61480000001", "BrightTeeth"], "BrightTeeth", "BrightTeeth"),
        (["+61480000001", "BrightTeeth"], "+61499999999", "+61480000001"),
    ],
)
def test_page_says_what_the_text_goes_out_from(
    receptionist: Client, settings: Any, configured: list[str], chosen: str, sender: str
) -> None:
    settings.CELLCAST_OWN_NUMBERS = configured
    page = page_of(receptionist, "message", "new")

    said = only(page, "p[@id='cellcast-sender']")
    assert [each.get("value") for each in every(said, "select/option")] == (
        configured if len(configured) > 1 else []
    )
    assert ("0480 000 001" in words(said)) == bool(configured)
    write(receptionist, sender=chosen)
    assert sent == [(CUSTOMER, "Hello", sender)]
