"""Names and replies: what the host project's two functions let the pages show and do."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from cellcast_django.admin.display.texts import readable_number
from cellcast_django.admin.pages.conversation import segments
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_out
from tests.admin_pages import CUSTOMER, ID, page_of, staff, text_of, url_of
from tests.html import every, hidden_fields

pytestmark = pytest.mark.django_db

sent: list[tuple[str, str, str]] = []
asked: list[list[str]] = []


def names(contacts: list[str]) -> dict[str, str]:
    asked.append(contacts)
    return {CUSTOMER: "Mrs <Smith>"}


def broken(*arguments: Any) -> Any:
    raise ConnectionError("the line is down")


def send(receiver: str, body: str, sender: str) -> str:
    sent.append((receiver, body, sender))
    return ID


def send_without_id(receiver: str, body: str, sender: str) -> str:
    return ""


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    sent.clear()
    asked.clear()


@pytest.fixture
def receptionist(settings: Any) -> Client:
    """A member of staff who may answer, on a site where that is possible."""
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    return staff("view_message", "answer_message")


@pytest.fixture
def question() -> Message:
    message: Message = MessageFactory.create(inbound=True, sender=CUSTOMER, body="Open today?")
    return message


def form_of(client: Client, message: Message) -> dict[str, str]:
    page = page_of(client, "message", "conversation", message.pk)
    forms = every(page, "form[@class='cellcast-reply']")
    return {name: value for form in forms for name, value in hidden_fields(form).items()}


def reply(client: Client, message: Message, text: str, **changes: Any) -> Any:
    form = {**form_of(client, message), "text": text, **changes}
    return client.post(url_of("message", "conversation", message.pk), form, follow=True)


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


# Names


def test_names_stand_beside_the_numbers_and_are_asked_for_once_a_page(
    reader: Client, question: Message, settings: Any
) -> None:
    settings.CELLCAST_CONTACT_NAMES = f"{__name__}.names"
    MessageFactory.create(inbound=True, sender="+61400000002")

    for page in ((), ("to_answer",), ("conversation", question.pk), ("change", question.pk)):
        asked.clear()
        html = page_of(reader, "message", *page)
        assert "Mrs &lt;Smith&gt;" in html
        assert "0400 000 001" in html
        assert len(asked) == 1
    assert sorted(asked[0]) == [CUSTOMER]


def test_page_is_shown_when_the_names_cannot_be_asked_for(
    reader: Client, question: Message, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CELLCAST_CONTACT_NAMES = f"{__name__}.broken"

    assert "0400 000 001" in page_of(reader, "message")
    assert "CELLCAST_CONTACT_NAMES failed: ConnectionError." in caplog.text


@pytest.mark.parametrize(
    ("contact", "written"),
    [
        ("+61400000001", "0400 000 001"),
        ("+61299998888", "(02) 9999 8888"),
        ("+14155552671", "+1 415-555-2671"),
        ("cellcast", "cellcast"),
        ("", ""),
    ],
)
def test_number_is_written_as_people_of_the_region_write_it(contact: str, written: str) -> None:
    assert readable_number(contact) == written


# Replies


def test_reply_is_sent_recorded_and_settles_what_it_answers(
    receptionist: Client, question: Message
) -> None:
    response = reply(receptionist, question, " Yes,\r\nuntil five. ")

    assert sent == [(CUSTOMER, "Yes,\nuntil five.", question.own_number)]
    assert said(response) == ["Sent as 1 SMS."]
    assert response.redirect_chain[0][0] == url_of("message", "conversation", question.pk)
    message = Message.objects.outbound().get()
    assert (message.cellcast_id, message.body) == (ID, "Yes,\nuntil five.")
    question.refresh_from_db()
    assert question.handled_at is not None
    assert question.handled_by == message.sent_by == LogEntry.objects.get().user.get_username()
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (
        str(message.pk),
        "Sent it from the conversation.",
    )


def test_reply_that_came_while_somebody_wrote_still_waits(
    receptionist: Client, question: Message
) -> None:
    form = form_of(receptionist, question)
    later = MessageFactory.create(inbound=True, sender=CUSTOMER, body="And tomorrow?")

    reply(receptionist, question, "Yes", **form)

    assert list(Message.objects.unhandled()) == [later]


@pytest.mark.parametrize("key", ["", "x", "999999"])
def test_message_can_be_sent_that_answers_nothing(
    receptionist: Client, question: Message, key: str
) -> None:
    reply(receptionist, question, "Hello", answers=key)

    assert len(sent) == 1
    assert list(Message.objects.unhandled()) == [question]


def test_second_click_sends_nothing(receptionist: Client, question: Message) -> None:
    form = form_of(receptionist, question)

    reply(receptionist, question, "Yes", **form)
    response = reply(receptionist, question, "Yes", **form)

    assert len(sent) == 1
    assert said(response) == ["Already sent, so it was not sent again."]


@pytest.mark.parametrize("ticket", ["", "x", "é" * 22])
def test_form_without_its_ticket_sends_nothing(
    receptionist: Client, question: Message, ticket: str
) -> None:
    response = reply(receptionist, question, "Yes", ticket=ticket)

    assert sent == []
    assert said(response) == ["Not sent: the form was incomplete. Try again."]


def test_empty_reply_is_not_sent(receptionist: Client, question: Message) -> None:
    assert said(reply(receptionist, question, "  \n")) == ["Not sent: write something first."]
    assert sent == []


def test_customer_who_opted_out_is_not_written_to(receptionist: Client, question: Message) -> None:
    form = form_of(receptionist, question)
    opt_out(CUSTOMER)

    response = reply(receptionist, question, "Yes", **form)

    assert sent == []
    assert said(response) == ["Not sent: this customer has opted out."]
    page = page_of(receptionist, "message", "conversation", question.pk)
    assert "This customer has opted out, so no message may be sent." in page
    assert "<textarea" not in page
    assert "✕ opted out" in text_of(page)


def test_error_of_the_host_is_shown_and_nothing_recorded(
    receptionist: Client, question: Message, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"

    response = reply(receptionist, question, "Yes & no")

    [sentence] = said(response)
    assert "ConnectionError: the line is down" in sentence
    assert "Yes &amp; no</textarea>" in response.content.decode()  # it need not be written again
    assert not Message.objects.outbound().exists()
    assert not LogEntry.objects.exists()
    assert list(Message.objects.unhandled()) == [question]
    assert "CELLCAST_SEND_WITH failed: ConnectionError." in caplog.text
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    reply(receptionist, question, "Yes & no")
    assert len(sent) == 1


def test_message_that_was_sent_without_an_id_is_said_to_be_unrecorded(
    receptionist: Client, question: Message, settings: Any
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.send_without_id"

    [sentence] = said(reply(receptionist, question, "Yes"))

    assert "may have gone" in sentence
    assert list(Message.objects.all()) == [question]


def test_reply_needs_its_permission_and_the_setting(
    receptionist: Client, reader: Client, question: Message, settings: Any
) -> None:
    url = url_of("message", "conversation", question.pk)

    assert "<textarea" not in reader.get(url).content.decode()
    assert reader.post(url, {"text": "Yes"}).status_code == 403
    settings.CELLCAST_SEND_WITH = ""
    assert "<textarea" not in receptionist.get(url).content.decode()
    assert receptionist.post(url, {"text": "Yes"}).status_code == 403


def test_nobody_is_written_to_who_has_no_number(receptionist: Client) -> None:
    message = MessageFactory.create(inbound=True, sender="")

    assert "<textarea" not in page_of(receptionist, "message", "conversation", message.pk)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("x" * 160, 1),
        ("x" * 161, 2),
        ("x" * 306, 2),
        ("x" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("é" * 160, 1),
        ("ê" * 70, 1),
        ("ê" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
    ],
)
def test_how_many_sms_a_text_takes(text: str, count: int) -> None:
    assert segments(text) == count
