"""What each kind of response to a Test Send is taken for."""

import socket
import ssl
from collections.abc import Callable, Iterator
from operator import attrgetter
from threading import Thread
from time import monotonic
from typing import Any

import pytest
from django.db import connection

from cellcast_django.diagnostics.diagnosis import Finding, diagnose
from cellcast_django.diagnostics.test_send import Response, send
from cellcast_django.management.commands.cellcast_test_send import describe
from cellcast_django.models import WebhookEvent
from cellcast_django.webhooks import WEBHOOKS, Webhook
from tests.scripted_server import CREDENTIAL, ScriptedServer

Ask = Callable[..., list[Finding]]


@pytest.fixture
def ask(scripted_server: ScriptedServer) -> Ask:
    """Sends a webhook to a server that answers so, and returns the findings."""

    def ask(status: str, *headers: str, body: str = "", path: str = "/sms/") -> list[Finding]:
        head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close"])
        scripted_server.response = f"{head}\r\n\r\n{body}".encode()
        return diagnose(send(f"{scripted_server.url}{path}", b"{}", CREDENTIAL, timeout=5))

    return ask


HTML = "Content-Type: text/html; charset=utf-8"
JSON = "Content-Type: application/json"


# The app itself, over a socket


[STATUS] = [each for each in WEBHOOKS if each.slug == "status"]
REPORT = STATUS.examples[0].body


@pytest.mark.parametrize(
    "webhook", [each for each in WEBHOOKS if each.endpoint.reader], ids=attrgetter("slug")
)
@pytest.mark.parametrize("position", [0, -1])
def test_app_stores_each_example(live_server: Any, webhook: Webhook, position: int) -> None:
    example = webhook.examples[position].body
    response = send(webhook.url(live_server.url), example, CREDENTIAL, timeout=5)
    assert response.is_accepted
    assert diagnose(response) == []
    event = WebhookEvent.objects.get()
    assert response.events == [{"id": event.pk, "outcome": "stored"}]
    assert event.endpoint == webhook.endpoint
    assert event.body.encode() == example
    assert event.is_test


def test_app_calls_the_same_again_a_duplicate(live_server: Any) -> None:
    url = STATUS.url(live_server.url)
    send(url, REPORT, CREDENTIAL, timeout=5)
    response = send(url, REPORT, CREDENTIAL, timeout=5)
    assert [event["outcome"] for event in response.events] == ["duplicate"]
    assert diagnose(response) == []


def test_app_says_why_it_did_not_understand(live_server: Any) -> None:
    url = STATUS.url(live_server.url)
    [finding] = diagnose(send(url, b"{", CREDENTIAL, timeout=5))
    assert finding.problem.startswith(
        "The app received it, but could not understand it: The body is not JSON"
    )


def test_app_did_not_understand_a_part(live_server: Any) -> None:
    body = b"[%b, {}]" % REPORT
    response = send(STATUS.url(live_server.url), body, CREDENTIAL, timeout=5)
    assert not response.is_accepted
    [finding] = diagnose(response)
    assert finding.problem == "The app received it, but could not understand all of it."


@pytest.mark.django_db(transaction=True)
def test_app_refuses_another_password(live_server: Any) -> None:
    url = STATUS.url(live_server.url)
    [finding] = diagnose(send(url, b"{}", "cellcast:wrong", timeout=5))
    assert finding.problem == "The app refused the username and password."
    assert "CELLCAST_WEBHOOK_SECRETS" in finding.remedy
    assert "Authorization" in finding.remedy


def test_app_refuses_a_large_body(live_server: Any, settings: Any) -> None:
    settings.CELLCAST_MAX_BODY_BYTES = 10
    url = STATUS.url(live_server.url)
    [finding] = diagnose(send(url, REPORT, CREDENTIAL, timeout=5))
    assert finding.problem == "The body is too large."


@pytest.fixture
def _without_table(live_server: Any) -> Iterator[None]:
    """The database of a site that was not migrated."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cellcast_django_webhookevent RENAME TO not_there")
        yield
        cursor.execute("ALTER TABLE not_there RENAME TO cellcast_django_webhookevent")


@pytest.mark.usefixtures("_without_table")
def test_apps_database_refuses(live_server: Any) -> None:
    url = STATUS.url(live_server.url)
    [finding] = diagnose(send(url, b"{}", CREDENTIAL, timeout=5))
    assert finding.problem == "The app responded, but its database failed: nothing was stored."
    assert "migrate" in finding.remedy


@pytest.mark.parametrize("debug", [False, True])
def test_django_does_not_know_the_host(live_server: Any, settings: Any, debug: bool) -> None:
    settings.ALLOWED_HOSTS = ["sms.example.com"]
    settings.DEBUG = debug
    url = STATUS.url(live_server.url)
    [finding] = diagnose(send(url, b"{}", CREDENTIAL, timeout=5))
    assert "ALLOWED_HOSTS" in finding.remedy


def test_django_redirects_to_www(live_server: Any, settings: Any) -> None:
    settings.PREPEND_WWW = True
    url = STATUS.url(live_server.url)
    [finding] = diagnose(send(url, b"{}", CREDENTIAL, timeout=5))
    assert finding.problem.startswith("It redirects to http://www.localhost:")
    assert "www." in finding.remedy


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/webhook-status", "There is nothing at this path."),
        ("/sms/nothing", "There is nothing at this path."),
        ("/admin/login/", "Django's CSRF protection refused it."),
    ],
)
def test_another_path_of_the_project(live_server: Any, path: str, problem: str) -> None:
    [finding] = diagnose(send(f"{live_server.url}{path}", b"{}", CREDENTIAL, timeout=5))
    assert finding.problem == problem


# Redirects


@pytest.mark.parametrize(
    ("location", "remedy"),
    [
        pytest.param("/sms/", "It redirects to itself", id="itself"),
        pytest.param("/sms", "with or without a trailing slash", id="slash"),
        pytest.param("/accounts/login/?next=/sms/", "asks for a login", id="login"),
        pytest.param("https://login.example.com/", "asks for a login", id="single sign-on"),
        pytest.param("/?next=%2Fsms%2F", "asks for a login", id="next"),
        pytest.param("/en/sms/", "If that is one of the app's URLs", id="language"),
        pytest.param("/lessons/", "If that is one of the app's URLs", id="no login"),
    ],
)
def test_redirect_has_a_cause(ask: Ask, location: str, remedy: str) -> None:
    finding = ask("302 Found", f"Location: {location}")[-1]
    assert location in finding.problem
    assert "loses the webhook" in finding.problem
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("location", "remedies"),
    [
        ("https://example.com/sms", ["https://"]),
        ("https://www.example.com/sms/", ["https://", "www.", "slash"]),
    ],
)
def test_redirect_has_several_causes(location: str, remedies: list[str]) -> None:
    response = Response(url="http://example.com/sms", status=301, headers={"location": location})
    findings = diagnose(response)
    assert len(findings) == len(remedies)
    for finding, remedy in zip(findings, remedies, strict=True):
        assert remedy in finding.remedy


# Other responses

LOGIN_PAGE = "<html><form><input name=p type='password'></form></html>"
PROXY = "nginx/1.26"
APACHE = (
    "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />\n"
    "Instead use the HTTPS scheme to access this URL, please."
)


@pytest.mark.parametrize(
    ("status", "header", "body", "words"),
    [
        ("200 OK", HTML, LOGIN_PAGE, "A login page"),
        ("200 OK", HTML, "<h1>Welcome</h1>", "A web page"),
        ("200 OK", JSON, '{"ok": true}', "JSON from another app"),
        ("200 OK", JSON, "[]", "JSON from another app"),
        ("200 OK", JSON, '{"events": {"id": 1}}', "JSON from another app"),
        ("200 OK", JSON, '{"events": [1, {"id": 1}]}', "JSON from another app"),
        ("200 OK", JSON, "[" * 10_000, "JSON from another app"),
        ("204 No Content", "X-Nothing: 1", "", "not come from the app"),
        ("200 OK", "Content-Type: text/plain", "OK", "not come from the app"),
        ("400 Bad Request", HTML, "The plain HTTP request was sent to HTTPS port", "HTTPS"),
        ("400 Bad Request", HTML, APACHE, "HTTPS"),
        ("400 Bad Request", HTML, "No required SSL certificate was sent", "client certificate"),
        ("400 Bad Request", JSON, "{}", "does not show the cause"),
        ("401 Unauthorized", 'WWW-Authenticate: Basic realm="Staging"', "", "in front"),
        ("403 Forbidden", "Server: cloudflare", "Attention required", "firewall"),
        ("405 Method Not Allowed", "Allow: GET", "", "does not accept POST"),
        ("411 Length Required", HTML, PROXY, "needs the body's length"),
        ("413 Content Too Large", HTML, PROXY, "too large"),
        ("429 Too Many Requests", HTML, PROXY, "limits the rate"),
        ("500 Internal Server Error", HTML, "<h1>Server Error (500)</h1>", "failed"),
        ("502 Bad Gateway", HTML, PROXY, "the app behind it does not"),
        ("503 Service Unavailable", HTML, PROXY, "the app behind it does not"),
        ("504 Gateway Timeout", HTML, PROXY, "the app behind it does not"),
        ("521 Web server is down", "Server: cloudflare", "", "the app behind it does not"),
        ("526 Invalid SSL certificate", "Server: cloudflare", "", "the app behind it does not"),
        ("507 Insufficient Storage", HTML, "", "failed"),
        ("418 I'm a teapot", HTML, "", "does not show the cause"),
        ("304 Not Modified", HTML, "", "does not show the cause"),
    ],
)
def test_response_that_is_not_the_apps(
    ask: Ask, status: str, header: str, body: str, words: str
) -> None:
    [finding] = ask(status, header, body=body)
    assert words in finding.problem
    assert finding.remedy


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {}, b"<title>" + b" " * 65_000),
        (200, {}, b"<title>" * 9_000),
        (200, {}, b"<input" * 10_000),
        (200, {}, b"<input type=" * 5_000),
        (400, {}, b"HTTP request" * 5_000),
        (503, {}, b"retry-after: " * 5_000),
        (503, {f"x-{n}": "retry-after: " * 75 for n in range(90)}, b""),
        (302, {"location": "/?next" * 150}, b""),
        (200, {}, b"[" * 65_000),
        (200, {}, b'{"events": ' + b"[" * 65_000),
    ],
)
def test_hostile_response_takes_no_time(status: int, headers: dict[str, str], body: bytes) -> None:
    response = Response(url="http://example.com/sms", status=status, headers=headers, body=body)
    started = monotonic()
    assert diagnose(response)
    assert describe(response)
    assert monotonic() - started < 0.5


def test_headers_of_any_length_are_cut(ask: Ask) -> None:
    [finding] = ask("302 Found", "Location: /" + "x" * 60_000)
    assert len(finding.problem) < 2_000


# No response


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "does not speak HTTP"),
        (b"(nothing)", "timed out"),
    ],
)
def test_scripted_server_does_not_answer(
    scripted_server: ScriptedServer, response: bytes, words: str
) -> None:
    scripted_server.response = response
    [finding] = diagnose(send(scripted_server.url, b"{}", CREDENTIAL, timeout=0.2))
    assert words in finding.problem


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    [finding] = diagnose(send(f"http://127.0.0.1:{port}/sms", b"{}", CREDENTIAL, timeout=5))
    assert "Nothing is listening" in finding.problem


def test_scripted_server_does_not_speak_tls() -> None:
    def answer_in_clear(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1_000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=answer_in_clear, args=[server])
        thread.start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/sms"
        [finding] = diagnose(send(url, b"{}", CREDENTIAL, timeout=5))
        thread.join()
    assert "TLS handshake failed" in finding.problem


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "not in DNS"),
        (ssl.SSLCertVerificationError("self-signed certificate"), "certificate is not valid"),
        (ConnectionResetError(104, "Connection reset by peer"), "closed the connection"),
        (OSError(101, "Network is unreachable"), "cannot be reached"),
    ],
)
def test_connection_fails(monkeypatch: pytest.MonkeyPatch, error: OSError, words: str) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    response = send("https://sms.example.com/sms", b"{}", CREDENTIAL, timeout=5)
    assert response.error is error
    [finding] = diagnose(response)
    assert words in finding.problem
    assert str(error) in finding.problem


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sms.example.com",
        "ftp://sms.example.com",
        "https://",
        "https://me:secret@127.0.0.1",
        "http://127.0.0.1:99999999/",
        "http://[::1",
        "http://two words/",
        f"http://{'x' * 70}.example.com/",
    ],
)
def test_url_cannot_be_used(url: str) -> None:
    response = send(url, b"{}", CREDENTIAL, timeout=5)
    assert response.status == 0
    [finding] = diagnose(response)
    assert "is not valid" in finding.problem
