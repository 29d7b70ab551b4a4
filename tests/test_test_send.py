"""Test Send: what goes over the wire."""

import base64
import socket
import ssl

import pytest

from cellcast_django.diagnostics import test_send
from cellcast_django.diagnostics.test_send import Response, describe_calls, post_as_cellcast
from cellcast_django.webhooks import WEBHOOKS
from tests.handlers import Calls
from tests.scripted_server import SECRET, STORED, ScriptedServer


def test_send_posts_the_body_unchanged(scripted_server: ScriptedServer) -> None:
    scripted_server.response = (
        b"HTTP/1.1 200 OK\r\nX-Thing: one\r\nConnection: close\r\n\r\n" + STORED
    )
    body = b"no JSON: \xff\x00"
    url = f"{scripted_server.url}/sms/webhook-receiver?from=c\u00e9ll"
    response = post_as_cellcast(url, body, "us\u00e9r:pass:word", timeout=5)

    [request] = scripted_server.requests
    assert request.requestline == "POST /sms/webhook-receiver?from=c%C3%A9ll HTTP/1.1"
    assert request.body == body
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Host"] == scripted_server.url.removeprefix("http://")
    assert request.headers["Cellcast-Test-Send"] == "1"
    scheme, _, encoded = request.headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", "us\u00e9r:pass:word")
    assert (response.url, response.error) == (url, None)
    assert (response.status, response.reason) == (200, "OK")
    assert (response.headers["x-thing"], response.body) == ("one", STORED)
    assert 0 < response.seconds < 5
    assert response.is_accepted


def test_send_to_a_url_without_a_path_reads_only_the_start_of_a_long_response(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 100_000
    response = post_as_cellcast(scripted_server.url, b"", SECRET, timeout=5)
    assert response.body == b"x" * test_send.MAX_RESPONSE_BYTES
    assert scripted_server.requests[0].path == "/"


def test_send_does_not_follow_a_redirect(scripted_server: ScriptedServer) -> None:
    scripted_server.response = (
        f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {scripted_server.url}/other\r\n\r\n".encode()
    )
    assert post_as_cellcast(f"{scripted_server.url}/sms", b"{}", SECRET, timeout=5).status == 307
    assert [request.path for request in scripted_server.requests] == ["/sms"]


def test_send_uses_no_proxy(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    scripted_server.response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + STORED
    assert post_as_cellcast(scripted_server.url, b"", SECRET, timeout=5).is_accepted


def test_dripping_response_times_out(dripping_url: str) -> None:
    response = post_as_cellcast(dripping_url, b"{}", SECRET, timeout=0.1)
    assert isinstance(response.error, TimeoutError)


def test_https_is_checked_for_the_host_of_the_url(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encrypt_nothing(
        context: ssl.SSLContext, sock: socket.socket, *, server_hostname: str
    ) -> socket.socket:
        """Stand in for TLS, since no authority issues a certificate for a test."""
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert server_hostname == "127.0.0.1"
        timeout = sock.gettimeout()
        plain = socket.socket(fileno=sock.detach())
        plain.settimeout(timeout)
        return plain

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", encrypt_nothing)
    scripted_server.response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + STORED
    url = scripted_server.url.replace("http:", "https:")
    assert post_as_cellcast(url, b"{}", SECRET, timeout=5).is_accepted


def test_deferred_test_is_read_by_the_next_run() -> None:
    body = b'{"events": [{"id": 1, "outcome": "deferred"}]}'
    response = Response(url="https://example.com", status=200, body=body)
    assert "cellcast_run_handlers" in describe_calls(WEBHOOKS[0], response)


def test_handlers_are_those_of_the_process_that_sends(first: Calls) -> None:
    body = b'{"events": [{"id": 1, "outcome": "stored"}]}'
    response = Response(url="https://example.com", status=200, body=body)
    for webhook in (WEBHOOKS[0], WEBHOOKS[1]):  # with a handler, and with none
        assert "in this process" in describe_calls(webhook, response)
