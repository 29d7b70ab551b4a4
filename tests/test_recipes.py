"""The recipes of the pages, with tables, customers as people type them, and each way to fail."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, models
from django.test.utils import isolate_apps
from django.utils import timezone

from cellcast_django.api import ApiError
from cellcast_django.models import HandlerCall, Message, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_out
from cellcast_django.sending import NotSentError, OptedOutError, send
from cellcast_django.simulator import STOP_HINT, Simulator
from cellcast_django.testing import WebhookClient, fail_next, reset, sent
from tests.handlers import Calls, reply
from tests.pages import Block, blocks

pytestmark = pytest.mark.django_db

TYPED = "0491 570 006"
CONTACT = "+61491570006"

PAGES = ("handlers", "recipes", "sending", "opt-outs", "privacy-and-spam", "admin")

FAILURES: dict[str, Exception | None] = {
    "sent": None,
    "refused": NotSentError("Your balance is too low."),
    "timed out": ApiError("Cellcast's API gave no complete response."),
    "opted out": OptedOutError("unsubscribed"),
}


def blocks_of(*files: str) -> list[Block]:
    found = [each for page in PAGES for each in blocks(f"docs/{page}.md", "python")]
    return [each for each in found if each.first_line.removeprefix("# ") in files]


# The tables


@pytest.fixture(scope="module")
def tables(django_db_setup: None, django_db_blocker: Any) -> Iterator[ModuleType]:
    """``shop.models``, as the pages define it, with its tables."""
    module = ModuleType("shop.models")
    vars(module)["Task"] = MagicMock()
    with isolate_apps(), pytest.MonkeyPatch.context() as patched:
        config = SimpleNamespace(label="shop")
        patched.setattr(apps, "get_containing_app_config", lambda name: config)
        for block in blocks_of("shop/models.py"):
            block.run(vars(module))
    for name in ("name", "folded_name"):  # which the page on the admin supposes
        models.CharField(max_length=100).contribute_to_class(vars(module)["Customer"], name)
    vars(module)["Customer"].get_absolute_url = lambda customer: f"/customers/{customer.pk}/"
    shops = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, models.Model)
    ]
    with django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            for model in shops:
                editor.create_model(model)
        yield module
        with connection.schema_editor() as editor:
            for model in shops:
                editor.delete_model(model)


@pytest.fixture
def shop(
    tables: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    disconnected_afterwards: None,
) -> SimpleNamespace:
    """The names of the recipes, their handlers connected; what they send is in ``sent``."""
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    reset()
    sms = {"book": MagicMock(), "BookingsAreClosedError": OSError, "send_sms": MagicMock()}
    # The task is a plain function here: which package has the decorator depends on Django.
    modules: dict[str, dict[str, Any]] = {
        "shop": {},
        "shop.sms": sms,
        "django.tasks": {"task": as_task},
    }
    for name, values in modules.items():
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        vars(sys.modules[name]).update(values)
    monkeypatch.setitem(sys.modules, "shop.models", tables)
    names = dict(vars(tables))
    for file in (
        *("shop/bookings.py", "shop/tasks.py", "shop/campaigns.py"),
        *("shop/handlers.py", "shop/offers.py", "shop/names.py", "shop/questions.py"),
    ):
        name = file.removesuffix(".py").replace("/", ".")
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        for block in blocks_of(file):
            # Each file has its own names, so that an import that the page forgets fails here.
            block.run(vars(sys.modules[name]))
        names |= vars(sys.modules[name])
    return SimpleNamespace(**names)


def as_task(function: Any) -> Any:
    function.enqueue = function
    return function


def fail(failure: Exception | None) -> None:
    if failure is not None:
        fail_next(failure)


# Handlers that send


@pytest.fixture
def cellcast(shop: SimpleNamespace) -> WebhookClient:
    """A client that sees what Cellcast sees: 200, whatever a handler raises."""
    return WebhookClient(raise_handler_errors=False)


def at_hour(monkeypatch: pytest.MonkeyPatch, hour: int) -> None:
    at = datetime(2026, 11, 10, hour)
    clock = SimpleNamespace(localtime=lambda _received: at, now=timezone.now)
    monkeypatch.setattr(sys.modules["shop.handlers"], "timezone", clock)


def call_again(event: WebhookEvent) -> None:
    call_command("cellcast_run_handlers", "--event", str(event.pk), stdout=StringIO())


ENDS = {  # the event; what has been sent; the event once more; what has been sent by then
    "sent": ("done", 1, "done", 1),
    "refused": ("pending", 0, "done", 1),
    "timed out": ("pending", 0, "done", 0),
    "opted out": ("done", 0, "done", 0),
}


@pytest.mark.django_db(transaction=True)  # in a test's own, what a failed call wrote is rolled back
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("text", "hour"), [(" Hours", 12), ("Hello?", 20)])
def test_answering_handler_ends_as_the_page_says(
    cellcast: WebhookClient, monkeypatch: pytest.MonkeyPatch, text: str, hour: int, failure: str
) -> None:
    at_hour(monkeypatch, hour)
    sys.modules["shop.models"].Answered.objects.all().delete()
    state, first, state_later, later = ENDS[failure]
    fail(FAILURES[failure])

    cellcast.reply(sender=TYPED, message=text)

    event = WebhookEvent.objects.get()
    assert (event.state, len(sent)) == (state, first)
    call_again(event)
    event = WebhookEvent.objects.get()
    assert (event.state, len(sent)) == (state_later, later)
    assert {each.receiver for each in sent} == ({CONTACT} if later else set())
    is_answered = bool(later) and text == " Hours"
    assert Message.objects.unhandled().exists() is not is_answered
    assert is_opted_out(TYPED) == (failure == "opted out")


def test_handlers_find_a_customer_however_the_number_was_typed(
    shop: SimpleNamespace, cellcast: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hour(monkeypatch, 12)
    numbers = (TYPED, "0491 570 156")
    customer, other = (shop.Customer.objects.create(phone_number=each) for each in numbers)
    for number, text in enumerate(("Yes", "STOP")):
        cellcast.reply(sender=CONTACT, message=text, _id=str(number))
    assert (reload(customer).phone_number, customer.replies) == (TYPED, 2)
    assert customer.newsletter_ended_at is not None
    assert not WebhookEvent.objects.pending().exists()
    assert (reload(other).replies, other.newsletter_ended_at) == (0, None)


def test_past_replies_are_given_once_to_who_remembers_how_far_it_came(
    first: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        reply(message=str(number))
    WebhookEvent.objects.filter(pk=reply(message="a test").pk).update(is_test=True)
    WebhookEvent.objects.earliest("pk").delete()
    connected_at = timezone.now()
    reply(message="told by itself")
    new = Calls()
    names: dict[str, Any] = {}
    [block] = blocks_of("shop/past.py")
    block.run(names)

    new.errors["2"] = ConnectionError("no")
    with pytest.raises(ConnectionError):
        names["give_past_replies"](new, connected_at)
    new.errors.clear()
    *_, last = capsys.readouterr().out.split()
    names["give_past_replies"](new, connected_at, after=int(last))

    assert new.finished == ["0", "1", "2"]
    assert [call["event"] is None for call in new.arguments] == [True, False, False, False]
    assert len(first) == HandlerCall.objects.count() + 1 == 5, "they are no rows"


# Code that sends


@pytest.fixture
def booking(shop: SimpleNamespace) -> Any:
    return shop.Booking.objects.create(phone_number=TYPED, time="nine")


def reload(row: Any) -> Any:
    row.refresh_from_db()
    return row


@pytest.mark.parametrize("failure", FAILURES)
def test_task_texts_once_and_again_only_after_a_refusal(
    shop: SimpleNamespace, booking: Any, failure: str
) -> None:
    raised = FAILURES[failure] if failure in ("refused", "timed out") else None
    fail(FAILURES[failure])

    with suppress(NotSentError, ApiError) if raised else nullcontext():
        shop.send_reminder(booking.pk)
        assert raised is None

    assert (reload(booking).reminded_at is None) == (failure == "refused")
    assert booking.needs_a_call == (failure == "opted out")
    shop.send_reminder(booking.pk)
    assert len(sent) == (failure in ("sent", "refused"))
    assert is_opted_out(TYPED) == (failure == "opted out")


@pytest.mark.parametrize("failure", FAILURES)
def test_all_are_texted_once_however_often_it_is_started(
    shop: SimpleNamespace, failure: str
) -> None:
    numbers = [TYPED, "0491 570 156", "(04) 9157 0157", "0491570158"]
    bookings = [shop.Booking.objects.create(phone_number=each, time="nine") for each in numbers]
    opt_out("+61491570158")
    fail(FAILURES[failure])
    for _ in range(3):
        with suppress(NotSentError, ApiError):
            shop.remind_all(bookings)
    texted = sorted(each.receiver for each in sent)
    assert texted[-2:] == ["+61491570156", "+61491570157"]
    assert len(texted) == (3 if failure in ("sent", "refused") else 2)


def test_loop_confirms_what_was_asked_about(
    shop: SimpleNamespace, cellcast: WebhookClient, booking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hour(monkeypatch, 12)
    shop.remind(booking)
    [text] = sent
    assert (text.receiver, text.reference) == (CONTACT, f"booking-{booking.pk}")
    message_id = Message.objects.get().cellcast_id
    cellcast.reply(sender=TYPED, message="perhaps", _id="1")
    cellcast.reply(sender="+61400000002", message="no", _id="2")  # who was never asked
    cellcast.reply(sender="+61400000002", message="no", _id=message_id)  # a stranger
    assert reload(booking).is_confirmed is None
    cellcast.reply(sender=TYPED, message=" yes ", _id="3")
    assert reload(booking).is_confirmed is True
    assert Message.objects.unhandled().with_contact(TYPED).get().body == "perhaps"
    cellcast.status(_id=message_id, status="expired")
    assert reload(booking).needs_a_call
    assert not WebhookEvent.objects.pending().exists()


def test_documented_test_goes_round_the_loop(
    shop: SimpleNamespace, cellcast_account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hour(monkeypatch, 12)
    [block] = [each for each in blocks("docs/testing.md", "python") if "account" in each.code]
    names: dict[str, Any] = {}
    block.run(names)
    names["test_booking_goes_round_the_loop"](cellcast_account)


def test_reply_to_two_texts_may_be_about_both(
    shop: SimpleNamespace, cellcast: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(reference: str, to: str = TYPED, sender: str = "+61480000001") -> None:
        send(to, "Nine?", sender=sender, reference=reference)

    now = timezone.now()
    with monkeypatch.context() as earlier:
        earlier.setattr(timezone, "now", lambda: now - timedelta(days=3))
        ask("too long ago")
    ask("from another number", sender="+61480000002")
    ask("to somebody else", to="+61400000002")
    for reference in ("booking-1", "booking-2", ""):
        ask(reference)
    for text in ("Who is this?", "Yes, both"):
        cellcast.reply(sender=TYPED, receiver="+61480000001", message=text, _id=text)
    ask("later")

    reply = Message.objects.inbound().get(body="Yes, both")
    assert shop.asked_about(reply) == {"booking-1", "booking-2"}


def test_offer_needs_consent_in_any_spelling(
    shop: SimpleNamespace, cellcast: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hour(monkeypatch, 12)
    shop.send_offer(TYPED, "Sale!")
    assert sent == []
    consent = shop.Consent.objects.create(
        contact=CONTACT, purpose="offers", given_at=timezone.now()
    )
    shop.send_offer(TYPED, "Sale!")
    assert [each.receiver for each in sent] == [CONTACT]
    cellcast.reply(sender=TYPED, message="STOP")
    assert reload(consent).ended_at is not None


def test_directory_knows_customers_however_they_were_typed(shop: SimpleNamespace) -> None:
    kim, lee = (
        shop.Customer.objects.create(phone_number=number, name=name, folded_name=name.lower())
        for number, name in ((TYPED, "Kim"), ("(04) 9157 0006", "Lee"))
    )
    shop.Customer.objects.create(phone_number="0491 570 156", name="Ann", folded_name="ann")
    directory = shop.Customers()
    assert directory.names([CONTACT]) == {CONTACT: ("Kim / Lee", f"/customers/{kim.pk}/")}
    assert lee.contact == CONTACT
    assert list(directory.search("LEE")) == [CONTACT]
    shop.Booking.objects.create(phone_number=CONTACT, time="nine")
    assert [("nine" in text) for text in directory.answers(CONTACT)] == [True, False]


# The function that sends


@pytest.mark.parametrize("switch", [True, False])
def test_function_of_your_own_asks_for_stop_and_can_be_switched_off(
    fake_cellcast: Any, settings: Any, switch: bool
) -> None:
    names: dict[str, Any] = {}
    [block] = blocks_of("shop/sms.py")
    block.run(names)
    settings.SHOP_SENDS_SMS = switch
    with suppress(NotSentError) if not switch else nullcontext():
        names["send_with_stop"](CONTACT, "Hi", "", reference="order-7")
    assert [each.body for each in fake_cellcast.sent] == [f"Hi{STOP_HINT}"] * switch
