"""Connections that are slow, cut, chunked, compressed, or that lie: the next one is served."""

import gzip
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.stress.clients import STATUS, post, send
from tests.stress.hosts import Host, Server, wait_for

pytestmark = pytest.mark.stress

LIMIT = 262_144
REPORT = b'{"_id": "1", "type": "send", "status": "delivered", "receiver": "+61400000001"}'


def of_size(size: int) -> bytes:
    """Return a delivery report of exactly so many bytes."""
    return REPORT[:-1] + b"}".rjust(size - len(REPORT) + 1)


def chunked(body: bytes, size: int = 1_000) -> bytes:
    """Return the body as chunks."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


class Trick(NamedTuple):
    """A request, and the statuses it may get; 0: the server ends the connection."""

    name: str
    body: bytes
    headers: list[str]
    allowed: set[int]


TE = "Transfer-Encoding: chunked"
TRICKS = [
    Trick("at the limit", of_size(LIMIT), [], {200}),
    Trick("over the limit", of_size(LIMIT + 1), [], {413}),
    Trick("far over the limit", of_size(5_000_000), [], {413}),
    Trick("chunked", chunked(REPORT, 7), [TE], {200}),
    Trick("chunked at the limit", chunked(of_size(LIMIT)), [TE], {200}),
    Trick("chunked over the limit", chunked(of_size(LIMIT + 1)), [TE], {413}),
    Trick("chunked far over the limit", chunked(of_size(5_000_000)), [TE], {413}),
    Trick("chunks with extensions", b"4f;a=b\r\n" + REPORT + b"\r\n0\r\nX: y\r\n\r\n", [TE], {200}),
    Trick("chunks of a wrong size", b"zz\r\n" + REPORT, [TE], {400}),
    Trick("chunks that are cut", chunked(REPORT, 7)[:30], [TE], {400}),
    Trick("a negative chunk", b"-5\r\nhello\r\n0\r\n\r\n", [TE], {400}),
    Trick("an empty chunked body", b"0\r\n\r\n", [TE], {400}),
    Trick("chunked and a length", chunked(REPORT), [TE, "Content-Length: 5"], {400, 0, 200}),
    Trick("two lengths", REPORT, ["Content-Length: 5", "Content-Length: 9"], {400, 0}),
    Trick("a negative length", REPORT, ["Content-Length: -1"], {400, 0}),
    Trick("a signed length", REPORT, [f"Content-Length: +{len(REPORT)}"], {400, 0}),
    Trick("a length of 5,000 digits", REPORT, ["Content-Length: " + "9" * 5_000], {400, 413, 0}),
    Trick("a length of 20 digits", REPORT, ["Content-Length: " + "9" * 20], {413, 400, 0}),
    Trick("a length that is too long", REPORT, ["Content-Length: 500"], {400}),
    Trick("a length that is too short", REPORT, ["Content-Length: 10"], {400}),
    Trick("no length", REPORT, ["X-None: 1"], {400}),
    Trick("gzip", gzip.compress(REPORT), ["Content-Encoding: gzip"], {400}),
    Trick("expecting 100-continue", REPORT, ["Expect: 100-continue"], {200}),
    Trick("over the limit, expecting", of_size(LIMIT + 1), ["Expect: 100-continue"], {413}),
    Trick("expecting something else", REPORT, ["Expect: 200-ok"], {200, 417}),
    Trick("any Accept", REPORT, ["Accept: text/xml;q=abc"], {200}),
    Trick("a method override", REPORT, ["X-HTTP-Method-Override: DELETE"], {200}),
    Trick("a cookie that is none", REPORT, ["Cookie: sessionid=\x80; csrftoken=;;="], {200}),
    Trick("a forwarded host", REPORT, ["X-Forwarded-Host: evil.example"], {200}),
    Trick("a long header", REPORT, ["X-Long: " + "x" * 8_000], {200}),
    Trick("an endless header", REPORT, ["X-Long: " + "x" * 100_000], {400, 431, 0}),
]


@pytest.fixture
def host(new_host: Callable[..., Host]) -> Host:
    return new_host("sqlite")


@pytest.fixture
def server(host: Host) -> Iterator[Server]:
    with host.gunicorn("--timeout=20") as server:
        workers = set(server.workers())
        yield server
        assert set(server.workers()) == workers
    host.assert_log_is_clean()


def test_each_trick_gets_the_expected_response(host: Host, server: Server) -> None:
    slowest = 0.0
    wrong = {}
    for trick in TRICKS:
        response = send(server.port, request_of(trick), end=True)
        if response.status not in trick.allowed:
            wrong[trick.name] = (response.status, response.body)
        slowest = max(slowest, response.seconds)
        assert send(server.port, post(STATUS, REPORT)).status == 200
    assert not wrong
    assert slowest < 5


def test_half_sent_connections_hold_a_worker_only_until_they_end(
    host: Host, server: Server
) -> None:
    request = post(STATUS, REPORT)
    half_sent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
    for number, connection in enumerate(half_sent):
        connection.sendall(request[: number * len(request) // 12])
    time.sleep(0.5)
    for connection in half_sent:
        connection.close()
    responses = [send(server.port, request, timeout=10) for _ in range(20)]
    assert {response.status for response in responses} == {200}


def test_slow_body_is_read_to_its_end(server: Server) -> None:
    request = post(STATUS, REPORT)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for byte in request:
            connection.sendall(bytes([byte]))
            time.sleep(0.005)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_kept_apart(host: Host, server: Server) -> None:
    one = post(STATUS, REPORT)
    smuggled = post(STATUS, REPORT.replace(b'"1"', b'"smuggled"'))
    assert send(server.port, one + smuggled).status in {200, 400, 0}
    wait_for(lambda: send(server.port, one).status == 200, seconds=60)
    smuggled_rows = "SELECT COUNT(*) FROM cellcast_django_message WHERE cellcast_id = 'smuggled'"
    assert host.database.value(smuggled_rows) == 0


def request_of(trick: Trick) -> bytes:
    headers = list(trick.headers)
    if not any(header.startswith(("Content-Length", TE, "X-None")) for header in headers):
        headers.append(f"Content-Length: {len(trick.body)}")
    return post(STATUS, trick.body, *headers)
