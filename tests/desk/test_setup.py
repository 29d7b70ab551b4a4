"""The setup page: who may open it, what it says, and what Test Send does."""

from operator import attrgetter
from typing import Any
from unittest.mock import MagicMock

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import Client
from django.urls import path, reverse

from cellcast_django.desk import setup
from cellcast_django.diagnostics.test_send import Response
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.signals import message_received
from cellcast_django.testing import WebhookClient
from cellcast_django.webhooks import WEBHOOKS, Webhook
from tests.admin_pages import staff
from tests.handlers import Calls, connected
from tests.html import every, only, section, words

pytestmark = pytest.mark.django_db

SETUP = "admin:cellcast_django_setup"
PASSWORD = "a-long-enough-password"  # noqa: S105
STORED = b'{"events": [{"id": 1, "outcome": "stored"}]}'


@pytest.fixture
def operator(db: None) -> Client:
    """A member of staff who may set webhooks up, and nothing else."""
    return staff("set_up_webhookevent")


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch, settings: Any) -> MagicMock:
    """Stands for the network: it responds that all is stored."""
    settings.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    send = MagicMock(return_value=response_of(STORED))
    monkeypatch.setattr(setup, "post_as_cellcast", send)
    return send


def response_of(body: bytes = b"", status: int = 200, **values: Any) -> Response:
    return Response(url="https://sms.example.com/", status=status, body=body, **values)


def page_of(client: Client, **headers: Any) -> str:
    response = client.get(reverse(SETUP), headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def post(client: Client, endpoint: str = "receive", body: str = "{}", **values: Any) -> str:
    response = client.post(reverse(SETUP), {"endpoint": endpoint, "body": body}, **values)
    assert response.status_code == 200
    return response.content.decode()


# Who may open it


@pytest.mark.parametrize("method", ["get", "post"])
def test_page_requires_its_own_permission(send: MagicMock, method: str) -> None:
    viewer = staff("view_message", "view_webhookevent", "rerun_webhookevent")
    assert getattr(viewer, method)(reverse(SETUP)).status_code == 403
    assert getattr(Client(), method)(reverse(SETUP)).status_code == 302
    assert not send.called


def test_sending_requires_a_form_of_the_page(send: MagicMock, operator: Client) -> None:
    page_of(operator)
    operator.handler.enforce_csrf_checks = True
    response = operator.post(reverse(SETUP), {"endpoint": "receive", "body": "{}"})
    assert response.status_code == 403
    assert not send.called


def obstacle_of(page: str) -> bool:
    """Whether the page says why nothing can be sent, and offers no form for it."""
    part = section(page, "send")
    return bool(every(part, "p[@class='cellcast-warning']")) and not every(part, "textarea")


# What to paste where


def test_page_without_credentials_explains_how_to_create_them(
    operator: Client, settings: Any
) -> None:
    settings.CELLCAST_WEBHOOK_SECRETS = []
    page = page_of(operator)
    assert not every(page, "code[@id='cellcast-username']")
    assert "manage.py cellcast_setup" in words(section(page, "paste"))
    assert obstacle_of(page)


# The checks


def test_page_marks_passed_and_failed_checks(operator: Client, settings: Any) -> None:
    settings.CELLCAST_PUBLIC_URL = "http://sms.example.com"
    settings.CELLCAST_DEFAULT_REGION = "Australia"
    checks = every(section(page_of(operator), "checks"), "dl/div")
    said = {words(only(check, "dt")): words(only(check, "dd")) for check in checks}
    assert said["Time"].startswith("✓") and "(cellcast_django." not in said["Time"]
    assert said["Encryption"].startswith("⚠")
    [region] = [each for each in said.values() if "(cellcast_django.E001)" in each]
    assert region.startswith("✕")
    settings.SILENCED_SYSTEM_CHECKS = ["cellcast_django.W007"]
    assert "Encryption ✓ OK" in words(only(page_of(operator), "details[@class='cellcast-folded']"))
    assert not every(page_of(operator), "details[@open]")


# Test Send


def test_forms_warn_and_name_the_handlers_that_will_run(operator: Client, send: MagicMock) -> None:
    with connected(message_received, **{"shop.confirm": Calls()}):
        part = section(page_of(operator), "send")
    assert every(part, "p[@class='cellcast-warning']")
    for endpoint, handlers in (("receive", ["shop.confirm"]), ("status", [])):
        form = only(part, f"form[@aria-labelledby='cellcast-send-{endpoint}-heading']")
        assert [code.text for code in every(form, "code")] == handlers


@pytest.mark.parametrize("webhook", WEBHOOKS, ids=attrgetter("endpoint.slug"))
def test_form_is_sent_to_the_sites_own_url(
    operator: Client, send: MagicMock, webhook: Webhook
) -> None:
    body = '{"message": "Grüße 👋"}'
    page = post(operator, webhook.endpoint, body)
    send.assert_called_once_with(
        webhook.url("https://sms.example.com"),
        body.encode(),
        f"cellcast:{PASSWORD}",
        setup.TIMEOUT_SECONDS,
    )
    assert webhook.label in words(only(page, "h2[@id='cellcast-response-heading']"))
    assert "Grüße 👋" in page  # to be changed, and sent again
    assert PASSWORD not in page
    entry = LogEntry.objects.get()
    assert entry.user.username == "staff-0"
    assert str(webhook.endpoint.label) in entry.change_message


@pytest.mark.parametrize(
    ("host", "codenames", "is_linked"),
    [
        ("sms.example.com", ["view_webhookevent"], True),
        ("sms.example.com", [], False),
        ("office.example.com", ["view_webhookevent"], False),
    ],
)
def test_event_is_linked_only_if_this_site_has_it_and_user_may_view_it(
    send: MagicMock, host: str, codenames: list[str], is_linked: bool
) -> None:
    client = staff("set_up_webhookevent", *codenames)
    page = post(client, headers={"Host": host}, secure=True)
    url = reverse("admin:cellcast_django_webhookevent_change", args=[1])
    assert (f'href="{url}"' in page) == is_linked


@pytest.mark.parametrize(
    ("endpoint", "body", "would"),
    [
        ("receive", '{"message": "Stop.", "sender": "+61400000001", "_id": "1"}', True),
        ("receive", '{"message": "Stop.", "sender": " ", "_id": "1"}', False),
        ("receive", '{"message": "YES", "sender": "+61400000001", "_id": "1"}', False),
        ("opt_out", '{"contact": "404000000", "type": "optout"}', True),
        ("status", '{"status": "delivered", "_id": "1"}', False),
    ],
)
def test_page_says_that_a_real_one_would_have_opted_out(
    operator: Client, send: MagicMock, endpoint: str, body: str, would: bool
) -> None:
    page = post(operator, endpoint, body)
    assert bool(every(page, "p[@id='cellcast-would-opt-out']")) == would
    send.return_value = response_of(status=503)
    assert not every(post(operator, endpoint, body), "p[@id='cellcast-would-opt-out']")


@pytest.fixture
def tester() -> WebhookClient:
    """Our own Test Send."""
    return WebhookClient(headers={"Cellcast-Test-Send": "1"})


def test_deleting_test_data_deletes_only_what_tests_made(
    operator: Client, client: WebhookClient, tester: WebhookClient
) -> None:
    client.reply(message="a real one")
    assert every(page_of(operator), "*[@name='delete_tests']") == []
    tester.status(_id="made-up")
    tester.reply(message="a test")
    assert every(page_of(operator), "*[@name='delete_tests']")

    operator.post(reverse(SETUP), {"delete_tests": "yes"})

    assert Message.objects.get().body == "a real one"
    assert WebhookEvent.objects.get().is_test is False
    assert "2 events" in LogEntry.objects.get().change_message


def test_invalid_or_missing_response_is_not_a_success(operator: Client, send: MagicMock) -> None:
    body = b'{"events": [{"id": 1, "outcome": "invalid"}], "detail": "There is no message id."}'
    send.return_value = response_of(body, status=400)
    part = section(post(operator), "response")
    diagnosis = only(part, "p[@data-diagnosis]")
    assert diagnosis.get("data-diagnosis") == "invalid"
    assert "There is no message id." in words(diagnosis)
    assert "Event 1" not in words(part)
    send.return_value = response_of(status=0, error=TimeoutError("timed out"))
    part = section(post(operator), "response")
    assert only(part, "p[@data-diagnosis]").get("data-diagnosis") == "timed-out"
    assert len(every(part, "dd")) == 2
    send.return_value = response_of(b"<b>Who are you?</b>" * 1_000, status=401)
    page = post(operator)
    assert "&lt;b&gt;Who are you?&lt;/b&gt;" in page and "<b>Who" not in page
    assert page.count("Who are you?") < 120


ADMIN_ALONE = (path("admin/", admin.site.urls),)


@pytest.mark.parametrize("endpoint", ["", "http://169.254.169.254/", "unknown"])
def test_form_sends_only_to_the_webhook_urls(
    operator: Client, send: MagicMock, endpoint: str
) -> None:
    data = {"endpoint": endpoint, "body": "{}", "url": "http://169.254.169.254/"}
    assert operator.post(reverse(SETUP), data).status_code == 400
    assert not send.called


@pytest.mark.parametrize(
    "changes",
    [
        {"CELLCAST_PUBLIC_URL": "sms.example.com"},
        {"ROOT_URLCONF": ADMIN_ALONE},
        {"CELLCAST_WEBHOOK_SECRETS": []},
    ],
)
def test_nothing_is_sent_while_something_is_missing(
    operator: Client, send: MagicMock, settings: Any, changes: dict[str, Any]
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert obstacle_of(post(operator))
    assert not send.called


@pytest.mark.parametrize("host", ["127.0.0.1:11211", "evil.localhost", "testserver"])
def test_password_is_never_sent_to_a_host_from_the_request(
    operator: Client, send: MagicMock, settings: Any, host: str
) -> None:
    settings.CELLCAST_PUBLIC_URL = ""
    settings.ALLOWED_HOSTS = [".localhost", "127.0.0.1", "testserver"]
    assert obstacle_of(post(operator, headers={"Host": host}))
    assert not send.called


def test_page_opens_no_transaction_while_it_sends() -> None:
    [pattern] = [
        pattern
        for pattern in admin.site.get_model_admin(WebhookEvent).get_urls()
        if pattern.name == "cellcast_django_setup"
    ]
    assert set(connections) <= pattern.callback._non_atomic_requests  # type: ignore[attr-defined]
