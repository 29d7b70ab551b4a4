"""One deadline for a whole exchange, whatever the other side does."""

import socket
import ssl
from time import monotonic
from typing import Any

import pytest

from cellcast_django.deadline import Deadline
from cellcast_django.diagnostics.test_send import Response, post_as_cellcast
from tests.scripted_server import SECRET, STORED, ScriptedServer

SEND_SECONDS = 0.1


def send_in_time(url: str) -> Response:
    """Send, and be back when the time is up."""
    started = monotonic()
    response = post_as_cellcast(url, b"{}", SECRET, timeout=SEND_SECONDS)
    assert monotonic() - started < SEND_SECONDS + 5
    return response


@pytest.mark.parametrize("dripping_url", ["header", "end"], indirect=True)
def test_dripping_server_times_out(dripping_url: str) -> None:
    assert isinstance(send_in_time(dripping_url).error, TimeoutError)


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def getaddrinfo(host: str, port: int, *options: Any, **others: Any) -> list[Any]:
        found = addresses if host == "sms.example.com" else [host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_silent_address_leaves_time_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = []

    def time_out(sock: socket.socket, address: tuple[str, int]) -> None:
        timeouts.append(sock.gettimeout())
        raise TimeoutError("timed out")

    resolve_to(monkeypatch, "192.0.2.1", "192.0.2.2")
    monkeypatch.setattr(socket.socket, "connect", time_out)
    response = post_as_cellcast("http://sms.example.com/", b"{}", SECRET, timeout=15)
    assert isinstance(response.error, TimeoutError)
    assert timeouts == [7.5, 7.5]


def test_second_address_is_tried_after_the_first(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_server.response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + STORED
    connect = socket.socket.connect

    def refuse_the_first(sock: socket.socket, address: tuple[str, int]) -> None:
        if address[0] == "192.0.2.1":
            raise ConnectionRefusedError
        connect(sock, address)

    url = scripted_server.url.replace("127.0.0.1", "sms.example.com")
    resolve_to(monkeypatch, "192.0.2.1", "127.0.0.1")
    monkeypatch.setattr(socket.socket, "connect", refuse_the_first)
    assert post_as_cellcast(url, b"{}", SECRET, timeout=5).is_accepted


def test_https_is_checked_for_the_host_of_the_url(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encrypt_nothing(
        context: ssl.SSLContext, sock: socket.socket, *, server_hostname: str
    ) -> socket.socket:
        """Stand in for TLS, since no authority issues a certificate for a test."""
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert server_hostname == "127.0.0.1"
        assert sock.gettimeout() == 2.5
        return socket.socket(fileno=sock.detach())

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", encrypt_nothing)
    scripted_server.response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + STORED
    url = scripted_server.url.replace("http:", "https:")
    assert post_as_cellcast(url, b"{}", SECRET, timeout=5).is_accepted
    [request] = scripted_server.requests
    assert request.headers["Host"] == scripted_server.url.removeprefix("http://")


def test_expired_deadline_raises() -> None:
    with pytest.raises(TimeoutError):
        Deadline(0).seconds_left()
