"""Clients on raw sockets: many at once, and several requests at the very same moment."""

import base64
import json
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

USERNAME = "cellcast"
PASSWORD = "a-long-enough-password"  # noqa: S105
AUTHORIZATION = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
RECEIVE, STATUS, OPT_OUT = "/sms/webhook-receiver", "/sms/webhook-status", "/sms/webhook-opt-out"


@dataclass(frozen=True)
class Webhook:
    """One request to be sent: the payload is what the oracle reads, too."""

    path: str
    payload: Any

    def encode(self) -> bytes:
        """Return the bytes of the request."""
        return post(self.path, json.dumps(self.payload).encode())


@dataclass(frozen=True)
class Probe:
    """A GET request to the host project's own code."""

    path: str

    def encode(self) -> bytes:
        """Return the bytes of the request."""
        return f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


Request = Webhook | Probe


@dataclass(frozen=True)
class Response:
    """What came back; ``status`` is 0 where the connection ended without a response."""

    status: int
    head: bytes
    body: bytes
    seconds: float
    at: float
    """When it was here, by the clock."""

    def json(self) -> Any:
        """Return the body, which is JSON."""
        return json.loads(self.body)


def post(
    path: str,
    body: bytes,
    *headers: str,
    authorization: str | None = AUTHORIZATION,
    content_type: str = "application/json",
) -> bytes:
    """Return the bytes of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"Authorization: {authorization}"] if authorization is not None else []
    lines += headers or [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def send(port: int, request: bytes, *, timeout: float = 60, end: bool = False) -> Response:
    """Send one request and return its response; ``end`` says that nothing more will be sent."""
    start = time.perf_counter()
    connection = _connect(port, timeout)
    _write(connection, request)
    if end and connection is not None:
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    return _response(connection, start)


def send_together(port: int, requests: Sequence[bytes], *, timeout: float = 60) -> list[Response]:
    """Send requests at the same moment: the last byte of each follows when all others are there."""
    connections = [_connect(port, timeout) for _ in requests]
    for connection, request in zip(connections, requests, strict=True):
        _write(connection, request[:-1])
    start = time.perf_counter()
    for connection, request in zip(connections, requests, strict=True):
        _write(connection, request[-1:])
    return [_response(connection, start) for connection in connections]


Conversation = Sequence[Sequence[Request]]
"""What one client sends, one group after the other; the requests of a group at the same moment."""


def converse(
    port: int, conversations: Iterable[Conversation], *, clients: int
) -> list[tuple[Request, Response]]:
    """Hold all conversations, so many of them at a time, and return each request's response."""

    def hold(conversation: Conversation) -> list[tuple[Request, Response]]:
        answered: list[tuple[Request, Response]] = []
        for group in conversation:
            responses = send_together(port, [request.encode() for request in group])
            answered += zip(group, responses, strict=True)
        return answered

    with ThreadPoolExecutor(clients) as threads:
        return [pair for answered in threads.map(hold, conversations) for pair in answered]


def _connect(port: int, timeout: float) -> socket.socket | None:
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    except OSError:
        return None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the last byte must not wait
    return connection


def _write(connection: socket.socket | None, data: bytes) -> None:
    try:
        if connection is not None:
            connection.sendall(data)
    except OSError:
        pass  # the response, if any, is there to be read


def _response(connection: socket.socket | None, start: float) -> Response:
    received = b""
    if connection is not None:
        with connection:
            try:
                while chunk := connection.recv(65_536):
                    received += chunk
            except OSError:
                pass
    seconds = time.perf_counter() - start
    head, _, body = received.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    is_complete = head.startswith(b"HTTP/1.") and _is_complete(head, body)
    status = int(head.split(maxsplit=2)[1]) if is_complete else 0
    return Response(status, head, body, seconds, time.time())


def _is_complete(head: bytes, body: bytes) -> bool:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) == int(value)
    return True
