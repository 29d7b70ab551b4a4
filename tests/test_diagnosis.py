"""What each kind of response to a Test Send is taken for."""

import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from cellcast_django.diagnostics.diagnosis import Diagnosis, diagnose
from cellcast_django.diagnostics.test_send import Response, post_as_cellcast
from cellcast_django.models import WebhookEvent
from cellcast_django.webhooks import WEBHOOKS
from tests.scripted_server import SECRET, ScriptedServer

Ask = Callable[..., Diagnosis]


def diagnosed(response: Response) -> Diagnosis:
    found = diagnose(response)
    assert found is not None
    return found


@pytest.fixture
def ask(scripted_server: ScriptedServer) -> Ask:
    """Sends a webhook to a server that answers so, and returns what it is taken for."""

    def ask(status: str, *headers: str, body: str = "", path: str = "/sms/") -> Diagnosis:
        head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close"])
        scripted_server.response = f"{head}\r\n\r\n{body}".encode()
        return diagnosed(post_as_cellcast(f"{scripted_server.url}{path}", b"{}", SECRET, timeout=5))

    return ask


HTML = "Content-Type: text/html; charset=utf-8"
JSON = "Content-Type: application/json"


# The app itself, over a socket


[STATUS] = [each for each in WEBHOOKS if each.endpoint == "status"]
REPORT = STATUS.body


@pytest.mark.parametrize("body", [b"{", b"[%b, {}]" % REPORT], ids=["all", "a part"])
def test_app_reports_why_the_body_is_invalid(live_server: Any, body: bytes) -> None:
    response = post_as_cellcast(STATUS.url(live_server.url), body, SECRET, timeout=5)
    assert not response.is_accepted
    found = diagnosed(response)
    assert found.id == "invalid"
    error = WebhookEvent.objects.invalid().get().error
    assert (error in found.problem) == (body == b"{"), "of several one is looked up in the admin"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("path", "secret", "identity", "remedies"),
    [
        (
            "/sms/webhook-status",
            "cellcast:wrong",
            "secret-refused",
            ["CELLCAST_WEBHOOK_SECRETS", "Authorization"],
        ),
        ("/webhook-status", SECRET, "another-app", []),
        ("/sms/nothing", SECRET, "another-app", []),
        ("/admin/login/", SECRET, "in-front", []),
    ],
)
def test_wrong_password_or_path_is_diagnosed(
    live_server: Any, path: str, secret: str, identity: str, remedies: list[str]
) -> None:
    found = diagnosed(post_as_cellcast(f"{live_server.url}{path}", b"{}", secret, timeout=5))
    assert found.id == identity
    assert all(each in found.remedy for each in remedies)


@pytest.mark.parametrize("debug", [False, True])
def test_django_refuses_an_unknown_host(live_server: Any, settings: Any, debug: bool) -> None:
    settings.ALLOWED_HOSTS = ["sms.example.com"]
    settings.DEBUG = debug
    found = diagnosed(post_as_cellcast(STATUS.url(live_server.url), b"{}", SECRET, timeout=5))
    assert (found.id, "ALLOWED_HOSTS" in found.remedy) == ("in-front", True)


# Other responses


@pytest.mark.parametrize(
    ("status", "header", "body", "identity", "problem"),
    [
        ("200 OK", HTML, "<input type='password'>", "another-app", "(200)"),
        ("200 OK", JSON, '{"ok": true}', "another-app", "(200)"),
        ("200 OK", JSON, "[]", "another-app", "(200)"),
        ("200 OK", JSON, '{"events": [1, {"id": 1}]}', "another-app", "(200)"),
        ("204 No Content", "X-Nothing: 1", "", "another-app", "(204)"),
        ("404 Not Found", JSON, '{"detail": "Not found."}', "another-app", "(404): Not found."),
        ("405 Method Not Allowed", "Allow: GET", "", "another-app", "(405)"),
        ("302 Found", "Location: /login", "", "in-front", "(302 → /login)"),
        ("304 Not Modified", HTML, "", "in-front", "(304)"),
        ("400 Bad Request", JSON, '{"detail": ["no"]}', "in-front", "(400)"),
        ("401 Unauthorized", 'WWW-Authenticate: Basic realm="Staging"', "", "in-front", "(401)"),
        ("403 Forbidden", "Server: cloudflare", "Attention", "in-front", "(403)"),
        ("413 Content Too Large", JSON, '{"detail": "Too large."}', "in-front", "(413): Too large"),
        ("502 Bad Gateway", HTML, "nginx/1.26", "in-front", "(502)"),
        (
            "503 Service Unavailable",
            JSON,
            '{"detail": "Not stored."}',
            "not-stored",
            "(503): Not stored",
        ),
    ],
)
def test_response_of_another_server_is_diagnosed(
    ask: Ask, status: str, header: str, body: str, identity: str, problem: str
) -> None:
    found = ask(status, header, body=body)
    assert found.id == identity
    assert found.problem.rstrip(".").endswith(problem.rstrip("."))
    assert found.remedy


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {}, b"<title>" + b" " * 65_000),
        (200, {}, b"<title>" * 9_000),
        (503, {f"x-{n}": "retry-after: " * 75 for n in range(90)}, b""),
        (302, {"location": "/?next" * 150}, b""),
        (200, {}, b'{"events": ' + b"[" * 65_000),
    ],
)
def test_hostile_response_is_diagnosed_in_few_words(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    response = Response(url="http://example.com/sms", status=status, headers=headers, body=body)
    assert len(diagnosed(response).problem) < 2_000


# No response


@pytest.mark.parametrize(
    ("error", "identity"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no-such-host"),
        (ssl.SSLCertVerificationError("self-signed certificate"), "tls-failed"),
        (ConnectionResetError(104, "Connection reset by peer"), "nothing-listens"),
        (OSError(101, "Network is unreachable"), "nothing-listens"),
    ],
)
def test_failed_connection_is_diagnosed(error: OSError, identity: str) -> None:
    found = diagnosed(Response(url="https://sms.example.com/sms", error=error))
    assert found.id == identity
    assert str(error) in found.problem


@pytest.mark.parametrize(
    "url",
    [
        "sms.example.com",
        "https://me:secret@127.0.0.1",
        "http://127.0.0.1:99999999/",
        "http://two words/",
        f"http://{'x' * 70}.example.com/",
    ],
)
def test_unusable_url_is_diagnosed(url: str) -> None:
    response = post_as_cellcast(url, b"{}", SECRET, timeout=5)
    assert response.status == 0
    found = diagnosed(response)
    assert found.id == "no-such-host"
