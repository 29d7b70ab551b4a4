"""Every page of the admin, in every look, with texts that customers might write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from time import time
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings
from django.urls import resolve, reverse
from django.utils import timezone

from cellcast_django.admin.lists.paging import CappedPaginator
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.desk import marking, to_answer
from cellcast_django.directory import Directory
from cellcast_django.models import (
    CommandRun,
    HandlerCall,
    Message,
    OptOut,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.signals import message_received
from cellcast_django.statuses import Status
from cellcast_django.testing import WebhookClient, mms_payload
from tests.admin_pages import url_of
from tests.browser.conftest import complaints_of, log_in, serving
from tests.browser.inspection import LOOKS, dress, problems_of
from tests.desk.every_page import addresses

pytestmark = pytest.mark.browser

CUSTOMER = "+61400000000"
TEXTS = {
    "markup": "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>",
    "right-to-left": "مرحبا! نعم، سأحضر غدا في الساعة 9:30",
    "emoji": "👍🏽 See you 👩‍👩‍👧‍👦🎉",
    "five thousand characters": "y" * 5_000,
    "five thousand characters in words": "I shall come, if only the bus is on time. " * 119,
}
MMS = "Here are all the forms, as you asked me to send them"
REASONS = {"failed": "no such number", "blocked": "z" * 1_000}
LONG_NAME = "shop.handlers." + "of_a_long_name_" * 10


def page_url(name: str) -> str:
    return reverse(f"admin:cellcast_django_{name}")


def message_url(**values: Any) -> str:
    return url_of("message", "change", Message.objects.filter(**values).latest("pk").pk)


def conversation_url(**values: Any) -> str:
    return url_of("message", "conversation", Message.objects.filter(**values).latest("pk").pk)


def event_url(page: str = "change", *arguments: str, **values: Any) -> str:
    event = WebhookEvent.objects.filter(**values).latest("pk")
    return url_of("webhookevent", page, event.pk, *arguments)


def failing_call() -> int:
    """The key of a call that a person has to look at."""
    return HandlerCall.objects.failing().latest("pk").pk


WRITER, DONE, WISHER = "+61400000007", "+61400000008", "+61400000009"
"""Customers who have not opted out: one waits, one does not, and one wants no more texts."""

OWN_NUMBERS = ["+61480000000", "+61480000009"]


@dataclass
class Sight:
    """An address that is known when everything is stored; and a button that leads on from there."""

    url: Callable[[], str]
    press: str = ""
    action: str = ""
    """What is chosen for all rows of the list."""
    is_capped: bool = False
    """Whether there are many pages of the list, and more rows than it counts."""

    def open(self, page: Any, server: str) -> str:
        """Let the browser go there, and return the source of the page as the server sent it."""
        with few_rows_a_page() if self.is_capped else nullcontext():
            response = page.goto(server + self.url())
            if self.press:
                button = page.get_by_role("button", name=self.press)
                with page.expect_navigation() as navigation:
                    button.or_(page.get_by_role("link", name=self.press)).click()
                response = navigation.value
            if self.action:
                page.locator("#action-toggle").click()
                page.locator("select[name=action]").select_option(self.action)
                with page.expect_navigation() as navigation:
                    page.locator("button[name=index]").click()
                response = navigation.value
        source: str = response.text()
        return source


@contextmanager
def few_rows_a_page() -> Iterator[None]:
    """Let lists count to 20, and show one row a page."""
    with (
        patch.object(CappedPaginator, "MAX_COUNT", 20),
        patch.object(ReadOnlyAdmin, "list_per_page", 1),
        patch.object(to_answer, "PER_PAGE", 1),
    ):
        yield


SIGHTS = {
    "section": Sight(lambda: reverse("admin:app_list", args=["cellcast_django"])),
    "overview": Sight(lambda: page_url("overview")),
    "figures": Sight(lambda: page_url("figures")),
    "activity": Sight(lambda: page_url("activity")),
    "setup": Sight(lambda: page_url("setup")),
    "setup, after a test": Sight(lambda: page_url("setup"), "Send test to the Status URL"),
    "messages": Sight(lambda: url_of("message")),
    "messages, of one customer": Sight(
        lambda: url_of(
            "message", customer_of=Message.objects.filter(contact=WRITER).latest("pk").pk
        )
    ),
    "messages, nothing found": Sight(lambda: url_of("message", q="nobody wrote this")),
    "messages, more than are counted": Sight(lambda: url_of("message", p=10), is_capped=True),
    "to answer": Sight(lambda: url_of("message", "to_answer")),
    "conversation": Sight(lambda: conversation_url(contact=CUSTOMER)),
    "conversation, to be answered": Sight(lambda: conversation_url(contact=WRITER)),
    "new conversation": Sight(lambda: url_of("message", "new")),
    "message sent": Sight(lambda: message_url(body="See you at nine?")),
    "message, pictures": Sight(lambda: message_url(body=MMS)),
    "message, failed": Sight(lambda: message_url(status="failed")),
    "message, long reason": Sight(lambda: message_url(status="blocked")),
    "message, markup": Sight(lambda: message_url(body=TEXTS["markup"])),
    "message, five thousand characters": Sight(lambda: message_url(body="y" * 5_000)),
    "status history": Sight(lambda: url_of("statuschange")),
    "status change": Sight(
        lambda: url_of("statuschange", "change", StatusChange.objects.latest("pk").pk)
    ),
    "opt-outs": Sight(lambda: url_of("optout")),
    "opt-out": Sight(lambda: url_of("optout", "change", OptOut.objects.latest("pk").pk)),
    "opt-out, to be added": Sight(lambda: url_of("optout", "add")),
    "opt-out, to be ended": Sight(lambda: url_of("optout", "end", OptOut.objects.latest("pk").pk)),
    "events": Sight(lambda: url_of("webhookevent")),
    "calls": Sight(lambda: url_of("handlercall")),
    "call": Sight(lambda: url_of("handlercall", "change", failing_call())),
    "call, to be skipped": Sight(lambda: url_of("handlercall", "act", failing_call(), "skip")),
    "event, failed": Sight(lambda: event_url(kind="reply", body__contains="window.ran")),
    "event, five thousand characters": Sight(lambda: event_url(body__contains="y" * 5_000)),
    "event, opt-out": Sight(lambda: event_url(kind="opt_out")),
    "event, invalid": Sight(lambda: event_url(outcome="invalid")),
    "confirmation": Sight(
        lambda: event_url("act", "run_again", kind="reply", body__contains="window.ran")
    ),
    "confirmation, invalid": Sight(lambda: event_url(outcome="invalid"), "Read again"),
    "confirmation, to be skipped": Sight(
        lambda: (
            reverse("admin:cellcast_django_handlercall_of_handler", args=["skip"])
            + f"?handler={LONG_NAME}"
        )
    ),
    "confirmation, done": Sight(lambda: url_of("message", handled="new"), action="mark_done"),
    "conversation, one number": Sight(
        lambda: conversation_url(contact=WRITER) + "?own=%2B61480000009"
    ),
    "conversation, done": Sight(lambda: conversation_url(contact=DONE)),
    "conversation, nothing there": Sight(lambda: url_of("message", "conversation", 10**9)),
    "messages, done": Sight(lambda: url_of("message", handled="done")),
    "to answer, one row a page": Sight(lambda: url_of("message", "to_answer", p=2), is_capped=True),
    "to answer, nothing found": Sight(lambda: url_of("message", "to_answer", q="nobody")),
    "opt-out, to be added from a reply": Sight(
        lambda: url_of(
            "optout", "add", message=Message.objects.filter(contact=WRITER).latest("pk").pk
        )
    ),
    "figures of one number": Sight(lambda: page_url("figures") + "?own=%2B61480000009"),
    "history of a message": Sight(
        lambda: url_of("message", "history", Message.objects.latest("pk").pk)
    ),
}


class Customers(Directory):
    """One customer, and one booking."""

    def names(self, contacts: list[str]) -> dict[str, tuple[str, str]]:
        return {contact: ("Mrs Lee", "/customers/7/") for contact in contacts if contact == WRITER}

    def references(self, references: list[str]) -> dict[str, tuple[str, str]]:
        return dict.fromkeys(references, ("Booking 7", "/bookings/7/"))

    def answers(self, contact: str) -> list[str]:
        return list(TEXTS.values())


def store_everything() -> None:
    client = WebhookClient(raise_handler_errors=False)
    ids = [f"{int(time()) - 20:08x}2e1c012dfe{number:06x}" for number in range(16)]
    Message.objects.record_sent(ids[0], receiver=CUSTOMER, body="See you at nine?")
    for status in ("failed", "delivered", "expired", "delivered"):
        client.status(_id=ids[0], receiver=CUSTOMER, status=status)
    for cellcast_id, status in zip(ids[1:], [*Status.values, "paused"], strict=True):
        client.status(_id=cellcast_id, receiver=CUSTOMER, status=status, reason=REASONS.get(status))
    client.reply(**mms_payload(message=""))
    for text in TEXTS.values():
        client.reply(reply=text, message=f"You wrote: {text}")
    pictures = [f"https://media.example.com/{number}.jpg" for number in range(20)]
    client.reply(**mms_payload(message=MMS, media=pictures))
    client.opt_out()
    Message.objects.record_sent("7", receiver=WRITER, body="See you?", reference="booking-7")
    client.reply(sender=WRITER, receiver="+61480000009", message="May I come at ten?")
    client.reply(sender=DONE, receiver=OWN_NUMBERS[1], message="Thank you")
    done = Message.objects.get(contact=DONE)
    done.mark_handled(username="ruth")
    LogEntry.objects.log_actions(
        User.objects.create_user("ruth").pk,
        Message.objects.filter(pk=done.pk),
        CHANGE,
        change_message="Marked as done.",
    )
    client.reply(sender=WISHER, receiver=OWN_NUMBERS[0], message="Please take me off your list")
    client.webhook(b"{broken " + b"y" * 5_000, "status")
    credit = {"sms": 320, "mms": 4, "read_at": timezone.now().isoformat()}
    CommandRun.objects.create(
        command=CommandRun.Command.RECOVER, ran_at=timezone.now(), summary={"credit": credit}
    )


@pytest.fixture(scope="module")
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Pages are only looked at here, so the database is emptied once, after the last."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="module")
def everything(transactional_db: None) -> Iterator[str]:
    """A server where something of everything is stored, and a handler raises; at its URL."""

    def bookkeeper(**arguments: Any) -> None:
        raise ValueError(arguments["message"].body)

    message_received.connect(bookkeeper, dispatch_uid=LONG_NAME)
    with (
        serving() as url,
        patch.object(marking, "MAX_UNASKED", 0),
        override_settings(
            CELLCAST_HANDLER_MAX_ATTEMPTS=1,
            CELLCAST_PUBLIC_URL=url,
            CELLCAST_OWN_NUMBERS=OWN_NUMBERS,
            CELLCAST_SEND_WITH="cellcast_django.testing.pretend_to_send",
            CELLCAST_DIRECTORY=f"{__name__}.Customers",
        ),
    ):
        store_everything()
        yield url
    message_received.disconnect(dispatch_uid=LONG_NAME)


@pytest.fixture(scope="module")
def visitor(browser: Any, everything: str) -> Iterator[Any]:
    """A page of a browser where an administrator has logged in."""
    client = Client()
    client.force_login(User.objects.create_superuser("visitor"))  # pytest-django's is "admin"
    with browser.new_context() as context:
        log_in(context, everything, client)
        yield context.new_page()


@pytest.mark.parametrize("name", SIGHTS)
def test_every_page_is_accessible(
    name: str, visitor: Any, everything: str, sources: dict[str, str]
) -> None:
    complaints = complaints_of(visitor)
    problems: dict[str, list[str]] = {}

    for language, looks in groupby(LOOKS, lambda look: LOOKS[look].language):
        with override_settings(LANGUAGE_CODE=language):
            sources[f"{name} {language}"] = SIGHTS[name].open(visitor, everything)
        for look in looks:
            dress(visitor, look)
            problems[look] = problems_of(visitor, name, look)

    assert {look: found for look, found in problems.items() if found} == {}
    assert complaints == []


def test_no_page_is_left_out(everything: str, client: Client) -> None:
    admin = User.objects.filter(username="admin").first()
    client.force_login(admin or User.objects.create_superuser("admin"))
    looked_at = {resolve(urlsplit(sight.url()).path).url_name for sight in SIGHTS.values()}
    shown = {resolve(each).url_name for each in addresses() if client.get(each).status_code == 200}
    histories = {
        name for name in shown if str(name).endswith("_history")
    }  # one template of Django's

    assert shown - histories - {"cellcast_django_message_news"} <= looked_at
