"""The page about sending: its two files run, against a fake of Cellcast's API and real webhooks."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, call

import httpx
import pytest

from cellcast_django.models import Message
from cellcast_django.sending import NotRecordedError, OptedOutError, send
from cellcast_django.signals import message_received, status_changed
from cellcast_django.testing import WebhookClient
from tests.fake_cellcast import GATEWAY, KEY, FakeCellcast, Fault, serving
from tests.pages import Block, blocks

pytestmark = pytest.mark.django_db

CUSTOMER = "+61400000001"


@pytest.fixture
def cellcast(settings: Any) -> Iterator[FakeCellcast]:
    settings.CELLCAST_API_KEY = KEY
    with serving() as server:
        yield server


@pytest.fixture
def shop(
    monkeypatch: pytest.MonkeyPatch, settings: Any, cellcast: FakeCellcast
) -> Iterator[dict[str, ModuleType]]:
    """The modules of the page; ``shop.models.Booking`` is a mock of a model with one row."""
    models = ModuleType("shop.models")
    monkeypatch.setattr(models, "Booking", MagicMock(), raising=False)
    modules = {"shop": ModuleType("shop"), "shop.models": models}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    before = [(signal, list(signal.receivers)) for signal in (message_received, status_changed)]
    for block in files():
        name = block.first_line.removeprefix("# ").removesuffix(".py").replace("/", ".")
        modules[name] = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, modules[name])
        block.run(vars(modules[name]))
    assert vars(modules["shop.sms"])["GATEWAY"].endswith(GATEWAY)
    settings.CELLCAST_SEND_WITH = "shop.sms.send_sms"
    monkeypatch.setattr(modules["shop.sms"], "GATEWAY", f"{cellcast.url}{GATEWAY}")
    monkeypatch.setattr(modules["shop.sms"], "TIMEOUT", 0.2)
    yield modules
    for signal, receivers in before:
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()


def files() -> list[Block]:
    """Return what the page puts into modules, but for the model, which takes a whole project."""
    found = blocks("docs/sending.md", "python")
    return [each for each in found if each.first_line in {"# shop/sms.py", "# shop/bookings.py"}]


def refused_error(shop: dict[str, ModuleType]) -> type[Exception]:
    error: type[Exception] = vars(shop["shop.sms"])["RefusedError"]
    return error


def test_message_is_sent_and_recorded_with_its_id(
    shop: dict[str, ModuleType], cellcast: FakeCellcast
) -> None:
    message = send(CUSTOMER, "Hello", sender="+61400000009")

    assert cellcast.sent == [
        {
            "message": "Hello",
            "contacts": [CUSTOMER],
            "sender": "+61400000009",
            "MessageId": message.cellcast_id,
        }
    ]


def test_message_without_a_sender_uses_a_shared_number(
    shop: dict[str, ModuleType], cellcast: FakeCellcast
) -> None:
    send(CUSTOMER, "Hello")
    assert cellcast.sent[0]["sender"] == "#SharedNum#"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(status=400, body=b'{"status": false}'),
        Fault(hangs=True),
        Fault(body=b'{"status": true', breaks_off=True),
    ],
    ids=["500", "503", "400", "hangs", "breaks off"],
)
def test_failed_request_is_not_retried(
    shop: dict[str, ModuleType], cellcast: FakeCellcast, fault: Fault
) -> None:
    cellcast.faults.append(fault)

    with pytest.raises(httpx.HTTPError):
        send(CUSTOMER, "Hello")

    assert len(cellcast.requests) == 1
    assert not Message.objects.exists()


def test_refusal_in_a_200_response_is_an_error(
    shop: dict[str, ModuleType], cellcast: FakeCellcast
) -> None:
    body = b'{"status": false, "message": "Your sender id is not registered.", "data": []}'
    cellcast.faults.append(Fault(body=body))
    with pytest.raises(refused_error(shop), match="not registered"):
        send(CUSTOMER, "Hello")


@pytest.mark.parametrize("number", ["123", "+61400000002"])
def test_unserved_number_is_an_error(
    shop: dict[str, ModuleType], cellcast: FakeCellcast, number: str
) -> None:
    cellcast.add_opt_out("+61400000002")
    with pytest.raises(refused_error(shop)):
        send(number, "Hello")
    assert not Message.objects.exists()


def test_returning_the_whole_response_raises_not_recorded(
    shop: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop["shop.sms"], "send_sms", lambda *_: {"MessageId": "1"})
    with pytest.raises(NotRecordedError):
        send(CUSTOMER, "Hello")


def test_documented_loop_sends_and_handles_the_answer(
    shop: dict[str, ModuleType], cellcast: FakeCellcast, client: WebhookClient
) -> None:
    booking_class = vars(shop["shop.models"])["Booking"]
    booking = MagicMock(pk=7, phone_number=CUSTOMER, time="nine")
    found = booking_class.objects.filter.return_value
    booking_class.objects.none.return_value.update.return_value = 0
    remind = vars(shop["shop.bookings"])["remind"]

    remind(booking)
    [sent] = cellcast.sent
    client.reply(sender=CUSTOMER, message="perhaps")
    assert Message.objects.unhandled().count() == 1
    client.reply(sender=CUSTOMER, message=" yes ")

    booking_class.objects.filter.assert_called_with(pk="7")
    found.update.assert_called_once_with(is_confirmed=True)
    assert not Message.objects.unhandled().exists()
    client.reply(sender="+61400000002", message="no")  # who was never asked
    found.update.assert_called_once()

    needs_a_call = call(needs_a_call=True)
    client.status(_id=sent["MessageId"], status="expired")
    assert found.update.mock_calls.count(needs_a_call) == 1
    client.status(_id=sent["MessageId"], status="delivered")
    assert found.update.mock_calls.count(needs_a_call) == 1

    client.reply(sender=CUSTOMER, message="STOP")
    remind(booking)
    assert found.update.mock_calls.count(needs_a_call) == 2
    assert len(cellcast.sent) == 1
    with pytest.raises(OptedOutError):
        send(CUSTOMER, "Hello")
