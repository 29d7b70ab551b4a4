"""A server that stands for whatever may answer a webhook."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

CREDENTIAL = "cellcast:a-long-enough-password"
STORED = b'{"events": [{"id": 1, "outcome": "stored"}]}'


class OtherSide(ThreadingHTTPServer):
    """A server that gives one answer, byte for byte, and remembers what it was sent."""

    answer: bytes = b""
    requests: list["Request"]
    stop: Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Request(BaseHTTPRequestHandler):
    """One request, kept as it came."""

    server: OtherSide
    body: bytes

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(self)
        if self.server.answer == b"(nothing)":
            self.server.stop.wait(10)
        else:
            self.wfile.write(self.server.answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def other_side() -> Iterator[OtherSide]:
    """A server on the loopback interface."""
    with OtherSide(("127.0.0.1", 0), Request) as server:
        server.requests = []
        server.stop = Event()
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stop.set()
        server.shutdown()
        thread.join()
