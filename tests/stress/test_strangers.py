"""Strangers: without the password nobody costs more than a comparison, or learns anything."""

import base64
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cellcast_django.authentication import SECONDS_BETWEEN_LINES
from tests.stress.clients import (
    OPT_OUT,
    PASSWORD,
    RECEIVE,
    STATUS,
    USERNAME,
    Response,
    post,
    send,
)
from tests.stress.hosts import Host
from tests.stress.scale import scaled

pytestmark = pytest.mark.stress

REQUESTS = scaled(10_000)
WORKERS = 4
REFUSAL = re.compile(
    r"WARNING cellcast_django \[\d+\] A webhook was refused: "
    r"wrong or missing username and password\."
)
SECRET_TEXT = b'{"_id": "1", "message": "my reply message", "sender": "+61400000000"}'


def basic(credential: str | bytes) -> str:
    """Return the header's value for a credential."""
    data = credential if isinstance(credential, bytes) else credential.encode()
    return "Basic " + base64.b64encode(data).decode()


RIGHT = basic(f"{USERNAME}:{PASSWORD}")
ODD: list[str | None] = [
    *(None, "", " ", "Basic", "Basic ", "Basic  ", "Basic =", "Basic ====", "Basic :", "basic a"),
    *("Bearer " + RIGHT[6:], "Digest username=cellcast", "Token x", RIGHT[6:], "Basic" + RIGHT[6:]),
    *(
        RIGHT + "=",
        RIGHT + "A",
        RIGHT[:-1],
        RIGHT + " x",
        RIGHT.lower(),
        "Basic, " + RIGHT,
        "é" * 9,
    ),
    *(basic(""), basic(":"), basic("cellcast"), basic("cellcast:"), basic(f":{PASSWORD}")),
    *(basic(f"{USERNAME}:{PASSWORD[:-1]}"), basic(f"{USERNAME}:{PASSWORD}!"), basic("\0" * 900)),
    *(basic(f"{USERNAME.upper()}:{PASSWORD}"), basic(f"{USERNAME}:{PASSWORD}\n")),
    *(basic(f"{USERNAME}:{PASSWORD}".encode("utf-16")), basic(b"\xff\xfe:\x80"), basic("👍:👍")),
    *(basic(f"cellcast:{'x' * 4_000}"), "Basic " + "A" * 6_001, "Basic " + "\xff\x80" * 100),
]


def test_ten_thousand_strangers_leave_only_a_few_log_lines(
    new_host: Callable[..., Host],
) -> None:
    host = new_host("sqlite")
    chance = random.Random(4)  # noqa: S311
    with host.gunicorn(workers=WORKERS) as server, ThreadPoolExecutor(8) as threads:

        def knock(request: bytes) -> Response:
            return send(server.port, request, timeout=20)

        start = time.monotonic()
        responses = list(threads.map(knock, strange_requests(chance, REQUESTS // 5)))
        memory_before = server.resident_bytes()
        responses += threads.map(knock, strange_requests(chance, REQUESTS - REQUESTS // 5))
        grown = server.resident_bytes() - memory_before
        seconds = time.monotonic() - start

    assert len({same_for_all(response) for response in responses}) == 1
    assert Counter(response.status for response in responses) == {401: REQUESTS}
    assert list(responses[0].json()) == ["detail"]
    assert b"\r\nWWW-Authenticate: Basic " in responses[0].head
    for table in ("message", "statuschange", "webhookevent"):
        assert host.database.value(f"SELECT COUNT(*) FROM cellcast_django_{table}") == 0  # noqa: S608
    assert not host.calls()
    assert grown < 8 * 2**20

    host.assert_log_is_clean()
    lines = [line for line in host.log.splitlines() if "cellcast_django" in line]
    assert all(map(REFUSAL.fullmatch, lines))
    assert 0 < len(lines) <= WORKERS * (seconds / SECONDS_BETWEEN_LINES + 1)
    assert " 401" not in host.log


def strange_requests(chance: random.Random, count: int) -> Iterator[bytes]:
    """Return requests with odd headers, and large bodies: some whole, of others the beginning."""
    whole = SECRET_TEXT.ljust(250_000)
    for number in range(count):
        path = chance.choice([RECEIVE, STATUS, OPT_OUT])
        promised = chance.choice([len(SECRET_TEXT), 60_000, len(whole), 100_000_000])
        body = whole[: min(promised, 60_000 if number % 10 else len(whole))]
        yield post(path, body, f"Content-Length: {promised}", authorization=ODD[number % len(ODD)])


def same_for_all(response: Response) -> bytes:
    """Return the response's bytes without the time of day."""
    return re.sub(rb"\r\nDate: [^\r]*", b"", response.head) + b"\r\n\r\n" + response.body


def test_stranger_is_refused_before_the_body_arrives(new_host: Callable[..., Host]) -> None:
    host = new_host("sqlite")
    head = post(STATUS, b"", "Content-Length: 200000", authorization=basic("cellcast:wrong"))
    chunked = post(STATUS, b"", "Transfer-Encoding: chunked", authorization=None)
    with host.gunicorn() as server:
        for request in (head, chunked):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
                connection.sendall(request)
                assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
