"""Authentication: only the right header is let in; everybody else costs and learns nothing.

Most tests here may not touch the database: that they pass shows that nobody asked it.
"""

import base64
import hmac
import json
import logging
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib import auth
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.test import Client, RequestFactory, override_settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from cellcast_django.authentication import WebhookAuthentication
from cellcast_django.models import WebhookEvent
from cellcast_django.payloads import Endpoint
from cellcast_django.testing import WebhookClient, authorization, reply_payload
from cellcast_django.views import WebhookView
from cellcast_django.webhooks import WEBHOOKS
from tests.clock import Clock
from tests.logs import logged

URLS = [webhook.path() for webhook in WEBHOOKS]
CHALLENGE = 'Basic realm="Cellcast webhook", charset="UTF-8"'
RIGHT = "cellcast:a-long-enough-password"


def encoded(secret: str, encoding: str = "utf-8") -> str:
    return base64.b64encode(secret.encode(encoding)).decode()


def username(header: str | None) -> str | None:
    """Return the username that the header lets in, or ``None``."""
    headers = {} if header is None else {"Authorization": header}
    request = Request(RequestFactory().post(URLS[0], headers=headers))
    try:
        sender, _ = WebhookAuthentication().authenticate(request)
    except AuthenticationFailed:
        return None
    assert sender.is_authenticated
    return sender.username


BAD_HEADERS = {
    "missing": None,
    "empty": "",
    "scheme alone": "Basic",
    "scheme and a space": "Basic ",
    "other scheme": f"Bearer {encoded(RIGHT)}",
    "longer scheme": f"Basics {encoded(RIGHT)}",
    "no scheme": encoded(RIGHT),
    "not encoded": f"Basic {RIGHT}",
    "no base64": "Basic %%%",
    "base64 without padding": f"Basic {encoded(RIGHT).rstrip('=')[:-1]}",
    "base64 with rubbish in it": f"Basic !{encoded(RIGHT)}",
    "non-ASCII": "Basic é",
    "two values": f"Basic {encoded(RIGHT)}, Basic {encoded(RIGHT)}",
    "wrong password": f"Basic {encoded('cellcast:wrong')}",
    "wrong username": f"Basic {encoded('somebody:a-long-enough-password')}",
    "other case": f"Basic {encoded(RIGHT.upper())}",
    "no UTF-8": f"Basic {base64.b64encode(bytes([0xFF]) + RIGHT.encode()).decode()}",
    "very long": "Basic " + "A" * 100_000,
}
bad_headers = pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)


# Who is let in


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
@pytest.mark.parametrize("space", [" ", "   "])
def test_right_secret_is_accepted(scheme: str, space: str) -> None:
    assert username(f"{scheme}{space}{encoded(RIGHT)}") == "cellcast"


def test_each_configured_secret_is_accepted() -> None:
    secrets = ["new:with:colons", "old:пароль-🔑-é", "old: spaces "]
    with override_settings(CELLCAST_WEBHOOK_SECRETS=secrets):
        assert [username(f"Basic {encoded(each)}") for each in secrets] == ["new", "old", "old"]
        assert username(f"Basic {encoded('new:пароль-🔑-é')}") is None


@pytest.mark.parametrize(
    "configured",
    [[], (), None, "cellcast:a-long-enough-password", [""], [":"], ["cellcast"], [None]],
)
def test_missing_secrets_setting_refuses_everybody(configured: Any) -> None:
    with override_settings(CELLCAST_WEBHOOK_SECRETS=configured):
        for given in ("", ":", "cellcast", "cellcast:", RIGHT):
            assert username(f"Basic {encoded(given)}") is None
        assert username(None) is None


# The response to everybody else


class UnreadableStream:
    """A body that must not be read."""

    def read(self, *size: int) -> bytes:
        raise AssertionError("The body was read.")

    readline = read


def post_unread(url: str, header: str | None) -> Any:
    headers = {} if header is None else {"Authorization": header}
    extra: dict[str, Any] = {"wsgi.input": UnreadableStream(), "CONTENT_LENGTH": "150"}
    return Client(enforce_csrf_checks=True).generic(
        "POST", url, b"", "application/json", headers=headers, **extra
    )


@bad_headers
def test_any_other_header_is_refused_without_a_look_at_body_or_database(
    header: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert username(header) is None
    for url in URLS:
        response = post_unread(url, header)
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == CHALLENGE
        assert response["Content-Type"] == "application/json"
        assert list(response.json()) == ["detail"]
    assert "a-long-enough-password" not in caplog.text
    assert "YS1sb25nLWVub3VnaC1wYXNzd29yZ" not in caplog.text
    assert not header or len(header) < 10 or header not in caplog.text
    assert "django.request" not in {each.name for each in caplog.records}, "a line for each"


def test_refusal_is_the_same_for_every_cause() -> None:
    responses = set()
    for header in BAD_HEADERS.values():
        response = post_unread(URLS[0], header)
        responses.add((response.content, *sorted(response.headers.items())))
    with override_settings(CELLCAST_WEBHOOK_SECRETS=[], CELLCAST_MAX_BODY_BYTES=1):
        response = post_unread(URLS[0], f"Basic {encoded(RIGHT)}")
        responses.add((response.content, *sorted(response.headers.items())))
    assert len(responses) == 1


@pytest.mark.parametrize("given", [RIGHT, RIGHT[:-1] + "?", "cellcast:wrong", "x", ""])
def test_each_secret_is_compared_whole_whatever_is_right_of_it(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the time of a response tells nothing: digests of one length, in constant time."""
    compare = Mock(wraps=hmac.compare_digest)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    with override_settings(CELLCAST_WEBHOOK_SECRETS=[RIGHT, "old:password"]):
        username(f"Basic {encoded(given)}")
    assert [[len(each) for each in call.args] for call in compare.call_args_list] == [[32, 32]] * 2


@pytest.mark.django_db
def test_no_user_or_session_is_looked_up_and_no_password_hashed(
    client: WebhookClient, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    must_not_be_called = Mock(side_effect=AssertionError)
    for module, name in [
        (auth, "authenticate"),
        (auth, "get_user"),
        (hashers, "check_password"),
        (hashers, "make_password"),
    ]:
        monkeypatch.setattr(module, name, must_not_be_called)
    client.cookies = admin_client.cookies
    for secret, status, stored in (("cellcast:wrong", 401, 0), (RIGHT, 400, 1)):
        headers = {"Authorization": f"Basic {encoded(secret)}"}
        response = client.generic("POST", URLS[1], b"{}", "application/json", headers=headers)
        assert (response.status_code, WebhookEvent.objects.count()) == (status, stored)


# Which secret it was


@pytest.mark.django_db
def test_very_long_username_is_truncated() -> None:
    secret = "u" * 1_000 + ":a-long-enough-password"
    with override_settings(CELLCAST_WEBHOOK_SECRETS=[secret]):
        WebhookClient().status()
    assert WebhookEvent.objects.get().received_as == "u" * 255


# Another authentication class


class OwnAuthentication(BaseAuthentication):
    """A host's own: it believes any name."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        name = request.META.get("HTTP_X_NAME")
        return (User(username=name), None) if name else None


def post_to_view_with(*classes: type[BaseAuthentication], **environ: Any) -> Any:
    class OwnView(WebhookView):
        authentication_classes = list(classes)

    request = RequestFactory().post(
        URLS[0], json.dumps(reply_payload()), "application/json", **environ
    )
    return OwnView.as_view(endpoint=Endpoint.RECEIVE)(request)


@pytest.mark.django_db
def test_subclassed_view_uses_only_its_own_authentication_class() -> None:
    assert post_to_view_with(OwnAuthentication, HTTP_X_NAME="host").status_code == 200
    assert WebhookEvent.objects.get().received_as == "host"
    right = authorization()["Authorization"]
    assert post_to_view_with(OwnAuthentication, HTTP_AUTHORIZATION=right).status_code == 403


@pytest.mark.django_db
def test_first_authentication_class_to_accept_names_the_sender() -> None:
    right = authorization()["Authorization"]
    classes = (OwnAuthentication, WebhookAuthentication)
    assert post_to_view_with(*classes, HTTP_AUTHORIZATION=right).status_code == 200
    assert WebhookEvent.objects.get().received_as == "cellcast"


def test_view_without_an_authentication_class_refuses_everybody() -> None:
    assert post_to_view_with().status_code == 403


# What is logged about strangers


@pytest.fixture
def clock(clock: Clock, caplog: pytest.LogCaptureFixture) -> Clock:
    """The clock, long after the last refusal, so that the next one is logged."""
    caplog.clear()
    return clock


def lines_about_refusals(caplog: pytest.LogCaptureFixture, *, times: int) -> int:
    caplog.clear()
    for _ in range(times):
        assert username(f"Basic {encoded('stranger:guess')}") is None
    lines = logged(caplog)
    assert set(lines) <= {("WARNING", ())}  # nothing varies: nothing of what was sent is in it
    return len(lines)


def test_flood_of_refusals_logs_one_line_in_five_seconds(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert username(f"Basic {encoded(RIGHT)}") is not None
    assert not caplog.records
    assert lines_about_refusals(caplog, times=1_000) == 1
    clock.now += 4.9
    assert lines_about_refusals(caplog, times=1) == 0
    clock.now += 0.1
    assert lines_about_refusals(caplog, times=1_000) == 1
