"""The mail to those who answer: at most one in 15 minutes, and none without a new reply."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import call_command
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from cellcast_django import reply_mail, tasks
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Claim
from cellcast_django.reply_mail import mail_waiting_replies
from cellcast_django.testing import WebhookClient

pytestmark = pytest.mark.django_db

Mails = list[EmailMessage]


@pytest.fixture(autouse=True)
def _addresses(settings: Any) -> None:
    settings.CELLCAST_MAIL_REPLIES_TO = ["desk@shop.example", "boss@shop.example"]
    settings.CELLCAST_PUBLIC_URL = "https://shop.example"


def later() -> None:
    """Let the pause since the last mail pass."""
    pause = Claim.objects.get().until - timezone.now()
    assert timedelta(minutes=14) < pause <= timedelta(minutes=15)
    Claim.objects.update(until=timezone.now())


def run() -> None:
    call_command("cellcast_run_handlers", verbosity=0)


@pytest.mark.parametrize("run_due", [run, lambda: tasks.run_due_handlers.call()])
def test_run_mails_how_many_replies_wait_and_where(
    client: WebhookClient, mailoutbox: Mails, run_due: Callable[[], None]
) -> None:
    client.reply(sender="+61400000001", message="May I come later?")
    client.reply(sender="+61400000002", message="Thanks!")
    run_due()
    [mail] = mailoutbox
    assert mail.to == ["desk@shop.example", "boss@shop.example"]
    assert str(mail.subject).startswith("2 ")
    assert "https://shop.example/admin/cellcast_django/message/" in mail.body
    assert not any(word in f"{mail.subject}{mail.body}" for word in ("later", "0000001"))


def test_nobody_is_told_without_addresses_or_waiting_replies(
    client: WebhookClient, mailoutbox: Mails, settings: Any
) -> None:
    client.status()
    client.reply(message="STOP")  # done from the start
    run()
    client.reply()
    settings.CELLCAST_MAIL_REPLIES_TO = []
    run()
    assert mailoutbox == []


def test_next_mail_needs_a_newer_reply_and_a_pause(
    client: WebhookClient, mailoutbox: Mails
) -> None:
    client.reply(message="Thanks!")  # nobody ever marks it
    run()
    later()
    run()
    assert len(mailoutbox) == 1
    # One that recovery has found is new as well.
    MessageFactory.create(inbound=True, created_at=timezone.now() - timedelta(days=1))
    run()
    assert len(mailoutbox) == 2
    client.reply(message="Hello?")
    run()
    assert len(mailoutbox) == 2
    later()
    run()
    assert [str(mail.subject)[:2] for mail in mailoutbox] == ["1 ", "2 ", "3 "]


@pytest.mark.parametrize(
    "values", [{"CELLCAST_PUBLIC_URL": ""}, {"ROOT_URLCONF": "cellcast_django.urls"}, {}]
)
def test_mail_without_the_desk_leads_to_the_list_if_its_address_is_known(
    client: WebhookClient,
    mailoutbox: Mails,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, str],
) -> None:
    def reverse_in_the_core(name: str) -> str:
        if name.endswith("to_answer"):
            raise NoReverseMatch
        return reverse(name)

    client.reply()
    for name, value in values.items():
        setattr(settings, name, value)
    monkeypatch.setattr(reply_mail, "reverse", reverse_in_the_core)
    mail_waiting_replies()
    address = "https://shop.example/admin/cellcast_django/message/\n"
    assert (address in mailoutbox[0].body) == ("/" in mailoutbox[0].body) == (not values)


def test_mail_that_fails_is_logged_and_tried_by_the_next_run(
    client: WebhookClient,
    mailoutbox: Mails,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(self: EmailBackend, messages: Any) -> int:
        raise ConnectionRefusedError("desk@shop.example")

    client.reply()
    with monkeypatch.context() as broken:
        broken.setattr(EmailBackend, "send_messages", refuse)
        run()
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.getMessage().endswith("ConnectionRefusedError.")
    run()
    assert len(mailoutbox) == 1


def test_of_two_runs_at_once_one_sends(
    client: WebhookClient, mailoutbox: Mails, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = EmailBackend.send_messages

    def send_while_another_runs(self: EmailBackend, messages: Any) -> int:
        monkeypatch.setattr(EmailBackend, "send_messages", send)
        mail_waiting_replies()
        return send(self, messages)

    monkeypatch.setattr(EmailBackend, "send_messages", send_while_another_runs)
    client.reply()
    mail_waiting_replies()
    assert len(mailoutbox) == 1
