"""The page about sending: its files run, against a fake of Cellcast's API and real webhooks."""

import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, call

import pytest

from cellcast_django.models import Message
from cellcast_django.opt_outs import opt_out
from cellcast_django.sending import NotSentError, OptedOutError, send
from cellcast_django.testing import WebhookClient
from tests.fake_cellcast import FakeCellcast, Fault
from tests.pages import Block, blocks

pytestmark = pytest.mark.django_db

CUSTOMER = "+61400000001"


def files(*names: str) -> list[Block]:
    found = blocks("docs/sending.md", "python")
    return [each for each in found if each.first_line.removeprefix("# ") in names]


@pytest.fixture
def shop(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    fake_cellcast: FakeCellcast,
    disconnected_afterwards: None,
) -> dict[str, Any]:
    """The names of the page's files; ``Booking`` is a mock of a model with one row."""
    monkeypatch.setenv("CELLCAST_API_KEY", settings.CELLCAST_API_KEY)
    [block] = files("settings.py, at the end")
    read: dict[str, Any] = {"__name__": "settings"}
    block.run(read)
    settings.CELLCAST_API_KEY = read["CELLCAST_API_KEY"]
    settings.CELLCAST_SEND_WITH = read["CELLCAST_SEND_WITH"]

    booking = MagicMock()
    names: dict[str, Any] = {"Booking": booking}
    # The task is a plain function here: which package has the decorator depends on Django.
    modules: dict[str, dict[str, Any]] = {
        "shop": {},
        "shop.models": {"Booking": booking},
        "django.tasks": {"task": identity},
    }
    for name, values in modules.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    for block in files("shop/bookings.py", "shop/tasks.py", "shop/campaigns.py"):
        name = block.first_line.removeprefix("# ").removesuffix(".py").replace("/", ".")
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        block.run(vars(module))
        names |= vars(module)
    return names


def identity(function: Any) -> Any:
    return function


def a_booking(pk: int = 7, number: str = CUSTOMER) -> MagicMock:
    return MagicMock(pk=pk, phone_number=number, time="nine")


def test_documented_loop_sends_and_handles_the_answer(
    shop: dict[str, Any], fake_cellcast: FakeCellcast, client: WebhookClient
) -> None:
    found = shop["Booking"].objects.filter.return_value
    shop["Booking"].objects.none.return_value.update.return_value = 0

    shop["remind"](a_booking())
    [sent] = fake_cellcast.sent
    assert (sent["contacts"], sent["customString"]) == ([CUSTOMER], "booking-7")
    client.reply(sender=CUSTOMER, message="perhaps")
    assert Message.objects.unhandled().count() == 1
    client.reply(sender=CUSTOMER, message=" yes ")

    shop["Booking"].objects.filter.assert_called_with(pk="7")
    found.update.assert_called_once_with(is_confirmed=True)
    assert not Message.objects.unhandled().exists()
    client.reply(sender="+61400000002", message="no")  # who was never asked
    client.reply(sender="+61400000002", message="no", _id=sent["MessageId"])  # a stranger
    found.update.assert_called_once()

    needs_a_call = call(needs_a_call=True)
    client.status(_id=sent["MessageId"], status="expired")
    assert found.update.mock_calls.count(needs_a_call) == 1
    client.status(_id=sent["MessageId"], status="delivered")
    assert found.update.mock_calls.count(needs_a_call) == 1

    client.reply(sender=CUSTOMER, message="STOP")
    shop["remind"](a_booking())
    assert found.update.mock_calls.count(needs_a_call) == 2
    assert len(fake_cellcast.sent) == 1
    with pytest.raises(OptedOutError):
        send(CUSTOMER, "Hello")


def test_documented_task_sends_once_and_again_only_after_a_refusal(
    shop: dict[str, Any], fake_cellcast: FakeCellcast
) -> None:
    bookings = shop["Booking"].objects
    bookings.get.return_value = a_booking()
    bookings.filter.return_value.update.return_value = 1
    fake_cellcast.faults.append(Fault(status=429))
    with pytest.raises(NotSentError):
        shop["send_reminder"](7)
    assert bookings.filter.return_value.update.call_args == call(reminded_at=None)

    fake_cellcast.faults.append(Fault(status=500, is_sent=True))
    with pytest.raises(Exception, match="500"):
        shop["send_reminder"](7)
    assert bookings.filter.return_value.update.call_args != call(reminded_at=None)
    bookings.filter.return_value.update.return_value = 0  # it has been claimed
    shop["send_reminder"](7)
    assert len(fake_cellcast.sent) == 1


def test_documented_bulk_leaves_out_who_has_opted_out(
    shop: dict[str, Any], fake_cellcast: FakeCellcast
) -> None:
    opt_out("+61400000002")
    shop["remind_all"]([a_booking(1), a_booking(2, "0400 000 002"), a_booking(3, "0400 000 003")])
    assert [sent["contacts"] for sent in fake_cellcast.sent] == [[CUSTOMER], ["+61400000003"]]
