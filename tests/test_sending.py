"""Sending through the host project's function: refused in time, recorded, never sent twice."""

import pickle
from collections.abc import Callable
from typing import Any

import phonenumbers
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.utils.translation import gettext_lazy

from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_out
from cellcast_django.sending import NotRecordedError, NotSentError, OptedOutError, send
from cellcast_django.signals import opt_out_received
from tests.database_faults import refusing

pytestmark = pytest.mark.django_db

ID = "66b5b93b1e2c012dfe964000"
CUSTOMER = "+61400000001"


class Api:
    """What ``CELLCAST_SEND_WITH`` names; keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.references: list[str] = []
        self.respond: Callable[[], Any] = lambda: ID

    def __call__(self, receiver: str, body: str, sender: str, *, reference: str) -> Any:
        self.calls.append((receiver, body, sender))
        self.references.append(reference)
        return self.respond()


send_sms = Api()


@pytest.fixture(autouse=True)
def api(settings: Any) -> Api:
    settings.CELLCAST_SEND_WITH = f"{__name__}.send_sms"
    send_sms.calls.clear()
    send_sms.references.clear()
    send_sms.respond = lambda: ID
    return send_sms


def test_send_calls_the_function_and_records_what_was_sent(api: Api) -> None:
    question = MessageFactory.create(inbound=True, sender=CUSTOMER)
    text, mine = "Yes, until five", "+61400000009"
    options: dict[str, Any] = {"sender": mine, "reference": "order-7", "answers": question}

    message = send("0400 000 001", text, **options, username="kim")

    assert (api.calls, api.references) == ([(CUSTOMER, text, mine)], ["order-7"])
    assert message == Message.objects.outbound().get()
    assert message.receiver == "0400 000 001"
    assert (message.cellcast_id, message.contact, message.body) == (ID, CUSTOMER, text)
    assert (message.own_number, message.reference) == (mine, "order-7")
    question.refresh_from_db()
    assert question.handled_by == message.sent_by == "kim"


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("(04) 0000-0001", CUSTOMER),
        ("+1 212 555 0100", "+12125550100"),
        ("12", "12"),
        ("BrightTeeth", "BrightTeeth"),
        (phonenumbers.parse(CUSTOMER), CUSTOMER),
    ],
)
def test_function_gets_phone_numbers_in_e164(api: Api, given: Any, passed: str) -> None:
    message = send(given, "Hello")
    assert (api.calls, api.references) == ([(passed, "Hello", "")], [""])
    assert (message.sender, message.reference, message.sent_by) == ("", "", "")
    assert message.receiver == (given if isinstance(given, str) else CUSTOMER)


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
        *(({"receiver": number}, ValueError) for number in ("", "1" * 65)),
        *(({"body": text}, ValueError) for text in ("", " \n", "\0", gettext_lazy(""))),
        *(({"body": text}, TypeError) for text in (None, b"Hello", 7)),
        *(({"reference": text}, TypeError) for text in (None, 7)),
        ({"receiver": None}, TypeError),
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


@pytest.mark.parametrize(
    "raised", [ConnectionError("the line is down"), NotSentError("Your balance is too low.")]
)
def test_exception_from_the_function_propagates_unchanged(api: Api, raised: Exception) -> None:
    refuse(api, raised)
    with pytest.raises(type(raised)) as caught:
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


def test_message_refused_by_the_database_raises_not_recorded(api: Api) -> None:
    error = DatabaseError(f"failing row contains {CUSTOMER}, Hello")

    with refusing("INSERT", error=error), pytest.raises(NotRecordedError) as raised:
        send(CUSTOMER, "Hello")

    assert len(api.calls) == 1
    assert "DatabaseError" in str(raised.value)
    assert raised.value.__context__ is raised.value.__cause__ is None
    assert CUSTOMER not in str(raised.value)


# A contact whom Cellcast knows as opted out


def refuse(api: Api, error: Exception) -> None:
    def fail() -> None:
        raise error

    api.respond = fail


def test_opt_out_that_cellcast_knows_is_learned(api: Api, listen: Any) -> None:
    signals = listen(opt_out_received)
    refuse(api, OptedOutError("Listed as unsubscribed."))

    with pytest.raises(OptedOutError) as raised:
        send("0400 000 001", "Hello")

    assert raised.value.reason == str(raised.value) == "Listed as unsubscribed."
    assert is_opted_out(CUSTOMER)
    stored = OptOut.objects.get()
    assert (stored.contact, stored.source) == (CUSTOMER, OptOut.Source.LIST)
    [change] = stored.history.values_list("kind", "source", "text", "username")
    assert change == ("begun", "list", "Listed as unsubscribed.", "")
    assert stored.event is stored.history.get().event is None
    assert signals == []
    assert not WebhookEvent.objects.exists() and not Message.objects.exists()


def test_opt_out_refused_by_the_database_is_still_not_sent(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(api, OptedOutError())
    error = DatabaseError(f"failing row contains {CUSTOMER}")
    with refusing("INSERT", error=error), pytest.raises(OptedOutError):
        send(CUSTOMER, "Hello")
    assert "DatabaseError" in caplog.text
    assert CUSTOMER not in caplog.text


@pytest.mark.parametrize(
    "error", [OptedOutError(), OptedOutError("a"), NotSentError("b"), NotSentError("")]
)
def test_exceptions_survive_pickling(error: OptedOutError | NotSentError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), copy.reason) == (type(error), str(error), error.reason)
    assert str(copy)
