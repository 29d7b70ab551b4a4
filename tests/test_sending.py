"""Sending through the host project's function: refused in time, recorded, never sent twice."""

from collections.abc import Callable
from typing import Any

import phonenumbers
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_out
from cellcast_django.sending import NotRecordedError, OptedOutError, send
from cellcast_django.testing import WebhookClient
from tests.database_faults import refusing

pytestmark = pytest.mark.django_db

ID = "66b5b93b1e2c012dfe964000"
CUSTOMER = "+61400000001"


class Api:
    """What ``CELLCAST_SEND_WITH`` names; keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.respond: Callable[[], Any] = lambda: ID

    def __call__(self, receiver: str, body: str, sender: str) -> Any:
        self.calls.append((receiver, body, sender))
        return self.respond()


send_sms = Api()


@pytest.fixture(autouse=True)
def api(settings: Any) -> Api:
    settings.CELLCAST_SEND_WITH = f"{__name__}.send_sms"
    send_sms.calls.clear()
    send_sms.respond = lambda: ID
    return send_sms


def test_send_calls_the_function_and_records_what_was_sent(api: Api) -> None:
    question = MessageFactory.create(inbound=True, sender=CUSTOMER)

    message = send(
        "0400 000 001",
        "Yes, until five",
        sender="+61400000009",
        reference="order-7",
        answers=question,
        username="kim",
    )

    assert api.calls == [("0400 000 001", "Yes, until five", "+61400000009")]
    assert message == Message.objects.outbound().get()
    assert (message.cellcast_id, message.contact, message.body) == (ID, CUSTOMER, api.calls[0][1])
    assert (message.own_number, message.reference) == ("+61400000009", "order-7")
    question.refresh_from_db()
    assert question.handled_by == message.sent_by == "kim"


def test_send_requires_only_a_receiver_and_a_text(api: Api) -> None:
    message = send(CUSTOMER, "Hello")
    assert api.calls == [(CUSTOMER, "Hello", "")]
    assert (message.sender, message.reference, message.sent_by) == ("", "", "")


def test_receiver_may_be_a_phonenumbers_object(api: Api) -> None:
    send(phonenumbers.parse(CUSTOMER), "Hello")
    assert api.calls == [(CUSTOMER, "Hello", "")]


def test_sent_text_equals_recorded_text(api: Api) -> None:
    message = send(CUSTOMER, "half \ud83d")
    assert api.calls == [(CUSTOMER, message.body, "")]


def test_opted_out_contact_is_not_texted(api: Api) -> None:
    opt_out(CUSTOMER)

    with pytest.raises(OptedOutError) as raised:
        send("0400 000 001", "Hello")

    assert api.calls == []
    assert not Message.objects.exists()
    assert "400" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"receiver": ""}, ValueError),
        ({"receiver": None}, TypeError),
        ({"receiver": "1" * 65}, ValueError),
        ({"sender": "1" * 65}, ValueError),
        ({"sender": 61400000009}, TypeError),
        ({"reference": "x" * 129}, ValueError),
        ({"answers": Message(direction="outbound")}, ValueError),
    ],
)
def test_unrecorded_message_is_not_sent(
    api: Api, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        send(**{"receiver": CUSTOMER, "body": "Hello"} | arguments)
    assert api.calls == []


@pytest.mark.parametrize("path", ["", "no.such.function"])
def test_nothing_is_sent_without_a_function(api: Api, settings: Any, path: str) -> None:
    settings.CELLCAST_SEND_WITH = path
    with pytest.raises((ImproperlyConfigured, ImportError)):
        send(CUSTOMER, "Hello")
    assert api.calls == []


def test_exception_from_the_function_propagates_unchanged(api: Api) -> None:
    raised = ConnectionError("the line is down")

    def fail() -> None:
        raise raised

    api.respond = fail
    with pytest.raises(ConnectionError) as caught:
        send(CUSTOMER, "Hello")

    assert caught.value is raised
    assert len(api.calls) == 1
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "returned", [None, "", " ", {"MessageId": ID}, [ID], b"1", True, "x" * 129]
)
def test_send_without_returned_id_raises_not_recorded(api: Api, returned: Any) -> None:
    api.respond = lambda: returned
    question = MessageFactory.create(inbound=True, sender=CUSTOMER)

    with pytest.raises(NotRecordedError, match="may have gone") as raised:
        send(CUSTOMER, "Hello", answers=question)

    assert len(api.calls) == 1
    assert list(Message.objects.unhandled()) == [question] == list(Message.objects.all())
    assert "400" not in str(raised.value) and "Hello" not in str(raised.value)


def test_integer_is_an_id(api: Api) -> None:
    api.respond = lambda: 10423817
    assert send(CUSTOMER, "Hello").cellcast_id == "10423817"


def test_message_refused_by_the_database_raises_not_recorded(api: Api) -> None:
    error = DatabaseError(f"failing row contains {CUSTOMER}, Hello")

    with refusing("INSERT", error=error), pytest.raises(NotRecordedError) as raised:
        send(CUSTOMER, "Hello")

    assert len(api.calls) == 1
    assert "DatabaseError" in str(raised.value)
    assert raised.value.__context__ is raised.value.__cause__ is None
    assert CUSTOMER not in str(raised.value)


def test_report_before_the_response_finds_the_same_message(api: Api, client: WebhookClient) -> None:
    def report_first() -> str:
        client.status(_id=ID, status="delivered", receiver=CUSTOMER)
        return ID

    api.respond = report_first
    message = send(CUSTOMER, "Hello")
    assert (message.status, message.body) == ("delivered", "Hello")
