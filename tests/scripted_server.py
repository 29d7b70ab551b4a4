"""A server that answers with the bytes that a test gives it, whatever it is asked."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

SECRET = "cellcast:a-long-enough-password"  # noqa: S105
STORED = b'{"events": [{"id": 1, "outcome": "stored"}]}'


class ScriptedServer(ThreadingHTTPServer):
    """A server that gives one response, byte for byte, and remembers what it was sent."""

    response: bytes = b""
    requests: list["Request"]
    stop: Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Request(BaseHTTPRequestHandler):
    """One request, kept as it came."""

    server: ScriptedServer
    body: bytes

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(self)
        if self.server.response == b"(nothing)":
            self.server.stop.wait(10)
        else:
            self.wfile.write(self.server.response)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    """A server on the loopback interface."""
    with ScriptedServer(("127.0.0.1", 0), Request) as server:
        server.requests = []
        server.stop = Event()
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.001})
        thread.start()
        yield server
        server.stop.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def dripping_url() -> Iterator[str]:
    """A server whose response never comes to an end."""
    stop = Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the client hangs up
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            while not stop.wait(0.01):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=drip, args=[server], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()
        thread.join()
