"""The client for Cellcast's API: pages, envelopes, retries, and a key that nobody sees."""

import gzip
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import HTTPConnection
from typing import Any

import pytest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from cellcast_django import api as api_module
from cellcast_django.recovery import client as module
from cellcast_django.recovery.client import Client, ItemError, RecoveryError, read_time
from tests.clock import Clock
from tests.fake_cellcast import KEY, REPLIES, FakeCellcast, Fault
from tests.test_error_reports import failing, reported

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def api(fake_cellcast: FakeCellcast, clock: Clock) -> Iterator[Client]:
    """A client of the fake that never really sleeps."""
    with Client() as client:
        yield client


def read(client: Client, path: str = REPLIES, **parameters: str | int) -> list[Any]:
    return [item for page in client.pages(path, **parameters) for item in page]


def add_replies(fake: FakeCellcast, count: int) -> None:
    for number in range(count):
        fake.add_reply(NOW + timedelta(minutes=number), body=str(number))


# Pages


@pytest.mark.parametrize(("has_totals", "requests"), [(True, 3), (False, 4)])
def test_all_pages_are_read(
    api: Client, fake_cellcast: FakeCellcast, has_totals: bool, requests: int
) -> None:
    fake_cellcast.page_size, fake_cellcast.has_totals = 2, has_totals
    add_replies(fake_cellcast, 5)
    assert [item["body"] for item in read(api)] == ["4", "3", "2", "1", "0"]
    assert len(fake_cellcast.requests) == requests
    for _, _, headers in fake_cellcast.requests:
        assert headers["Authorization"] == f"Bearer {KEY}"
        assert headers["Accept"] == "application/json"


def test_shifted_item_is_yielded_twice_and_a_repeated_page_ends_the_list(
    api: Client, fake_cellcast: FakeCellcast, clock: Clock
) -> None:
    def arrive(path: str, page: int) -> None:
        if page == 2:
            fake_cellcast.add_reply(NOW + timedelta(hours=1), body="new")

    fake_cellcast.page_size = 2
    fake_cellcast.before_page = arrive
    add_replies(fake_cellcast, 4)
    assert [item["body"] for item in read(api)] == ["3", "2", "2", "1", "0"]
    assert clock.slept == [0.1] * 3, "ten requests a second at most"
    page = json.dumps({"data": {"items": [{"body": "1"}]}}).encode()
    fake_cellcast.faults.extend([Fault(body=page)] * 2)
    assert read(api) == [{"body": "1"}]
    assert not fake_cellcast.faults


def test_list_without_an_end_is_an_error(
    api: Client, fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    fake_cellcast.page_size = 1
    add_replies(fake_cellcast, 4)
    with pytest.raises(RecoveryError, match="2 pages of /api/v1/apiClient/getResponses"):
        read(api)


# Refusals and nonsense


@pytest.mark.parametrize(
    ("status", "document", "error"),
    [
        (403, b'{"code": 403, "message": "Forbidden"}', "responded with 403: Forbidden. Check"),
        (404, b"<html>", "responded with 404."),
        (422, b'{"message": {"page": "is wrong"}}', "responded with 422."),
        (200, b'{"status": false, "message": " Too\\n late "}', "refused it: Too late."),
        (200, b'{"status": false, "data": {"items": []}}', "refused it."),
        *((200, body, "it has nothing.") for body in (b"<html>", b"", b"[]", b"\xff")),
        (200, b"[" * 100_000, "it has nothing."),
        (200, b'{"meta": {"status": "SUCCESS"}, "b": 1}', "it has b, meta."),
        (200, b'{"data": [{"from": "400000001"}]}', "it has data."),
        (200, b'{"data": {"rows": [], "total": 1}}', "it has data, rows, total."),
        (200, b'{"data": {"items": {"1": 1}}}', "it has data, items."),
    ],
)
def test_response_other_than_a_list_is_an_error(
    api: Client, fake_cellcast: FakeCellcast, status: int, document: bytes, error: str
) -> None:
    fake_cellcast.faults.append(Fault(status=status, body=document))
    with pytest.raises(RecoveryError) as raised:
        read(api)
    assert error in str(raised.value)
    assert len(fake_cellcast.requests) == 1


@pytest.mark.parametrize(
    "message",
    [
        "\x1b[2J\x1b]0;pwned\x07 call 0412 345 678",
        *("0412-345-678", "(04) 1234.5678", "0412\u200b345\u200b678"),
        f"No account for {KEY}",
        "x" * 10_000,
    ],
)
def test_error_repeats_no_control_character_number_or_key(
    api: Client, fake_cellcast: FakeCellcast, message: str
) -> None:
    for document in ({"status": False, "message": message}, {message: 1}):
        fake_cellcast.faults.append(Fault(body=json.dumps(document).encode()))
        with pytest.raises(RecoveryError) as raised:
            read(api)
        text = str(raised.value)
        assert text.isprintable()
        assert len(text) < 300
        assert not any(each in text for each in (KEY, "345", "1234"))


def test_response_over_the_limit_is_an_error(
    api: Client, fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "MAX_RESPONSE_BYTES", 1_000)
    body = b'{"data": {"items": []}}'
    fake_cellcast.faults.append(Fault(body=body.ljust(1_000)))
    assert read(api) == []
    fake_cellcast.faults.extend([Fault(body=body.ljust(1_001))] * 6)
    with pytest.raises(RecoveryError, match=r"more than 1,000 bytes"):
        read(api)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_response_is_never_unpacked(
    api: Client, fake_cellcast: FakeCellcast, encoding: str
) -> None:
    body = gzip.compress(gzip.compress(b'{"data": {"items": []}}'))
    fake_cellcast.faults.append(Fault(body=body, headers={"Content-Encoding": encoding}))
    with pytest.raises(RecoveryError, match="it has nothing"):
        read(api)


@pytest.mark.parametrize("odd", ["null", '"x"', f'{{"body": {"9" * 5_000}}}', '{"body": "a\nb"}'])
def test_odd_item_does_not_lose_the_rest_of_its_page(
    api: Client, fake_cellcast: FakeCellcast, odd: str
) -> None:
    body = f'{{"data": {{"totalPages": 1, "items": [{odd}, {{"body": "good"}}]}}}}'
    fake_cellcast.faults.append(Fault(body=body.encode()))
    assert read(api)[1] == {"body": "good"}


# Retries and pace


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(status=status, body=b"<html>") for status in (429, 500, 503)),
        Fault(body=b'{"data"', breaks_off=True),
        Fault(hangs=True),
    ],
)
def test_failed_request_is_retried_with_growing_pauses(
    fake_cellcast: FakeCellcast, clock: Clock, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    if fault.hangs:
        monkeypatch.setattr(module, "MAX_RESPONSE_SECONDS", 0.05)
    add_replies(fake_cellcast, 1)
    fake_cellcast.faults.extend([fault] * 3)
    with Client() as client:
        assert len(read(client)) == 1
    assert clock.slept == [0.1, 1, 2, 4]
    assert len(fake_cellcast.requests) == 4


class SoftTimeLimitError(Exception):
    """What the worker of a queue raises in a task whose time is up."""


def test_task_time_limit_is_not_retried(
    api: Client, fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HTTPConnection, "getresponse", failing(SoftTimeLimitError()))
    with pytest.raises(SoftTimeLimitError):
        read(api)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        *((header, 7, 7) for header in ("7", " 7 ")),
        *((header, 1, 1) for header in ("0", "soon", "-5", "Mon, 01 Jan 2001 00:00:00 -0000")),
        *((text, 60, 60) for text in ("86400", "9" * 400, "Fri, 01 Jan 2100 00:00:00 GMT")),
        (timedelta(seconds=30), 20, 30),
    ],
)
def test_retry_after_is_honoured_up_to_a_minute(
    api: Client, fake_cellcast: FakeCellcast, clock: Clock, header: Any, least: float, most: float
) -> None:
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    fake_cellcast.faults.append(Fault(status=429, headers={"Retry-After": header}))
    read(api)
    _, pause = clock.slept
    assert least <= pause <= most


# Proxies


@pytest.mark.parametrize("no_proxy", ["", "127.0.0.1"])
def test_proxy_from_the_environment_learns_only_the_host(
    fake_cellcast: FakeCellcast,
    settings: Any,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    no_proxy: str,
) -> None:
    host = "127.0.0.1:1" if no_proxy else "api.example.com"
    settings.CELLCAST_API_URL = f"https://{host}"
    monkeypatch.setenv("https_proxy", fake_cellcast.url)
    monkeypatch.setenv("no_proxy", no_proxy)
    error = r"\(NewConnectionError\)" if no_proxy else "the proxy responded with 502"
    with Client() as client, pytest.raises(RecoveryError, match=error):
        read(client)
    asked = {path for path, *_ in fake_cellcast.requests}
    assert asked == (set() if no_proxy else {"api.example.com:443"})
    assert KEY not in str(fake_cellcast.requests)


# The key


def test_key_never_appears_in_errors_logs_or_reports(
    api: Client, fake_cellcast: FakeCellcast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake_cellcast.faults.append(Fault(status=400, body=json.dumps({"message": KEY}).encode()))
    fake_cellcast.faults.extend([Fault(breaks_off=True)] * 6)
    for _ in ("refused", "broken off"):
        with pytest.raises(RecoveryError) as raised:
            read(api)
        assert KEY not in str(raised.value)
        assert KEY not in reported(raised.value)
        request = RequestFactory().get("/")
        reporter = ExceptionReporter(request, raised.type, raised.value, raised.tb)
        assert KEY not in reporter.get_traceback_text()
    assert KEY not in caplog.text
    assert KEY not in repr(vars(api))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError, OSError])
@pytest.mark.parametrize("method", ["putheader", "endheaders", "getresponse"])
def test_error_tracker_gets_no_key(
    api: Client,
    fake_cellcast: FakeCellcast,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
    method: str,
) -> None:
    monkeypatch.setattr(HTTPConnection, method, failing(kind()))
    with pytest.raises((kind, RecoveryError)) as raised:
        read(api)
    assert KEY not in reported(raised.value)


# Items


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", "1999-12-31T23:59:59Z", "", "soon"]
)
def test_time_before_2000_is_none(text: str) -> None:
    with pytest.raises(ItemError):
        read_time({"updatedAt": text}, "updatedAt")


def test_time_without_a_zone_is_utc() -> None:
    assert read_time({"updatedAt": "2026-03-01T12:00:00"}, "updatedAt") == NOW


# Settings


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"CELLCAST_API_KEY": "two words"}, "CELLCAST_API_KEY"),
        ({"CELLCAST_API_URL": "http://api.cellcast.com"}, "https://"),
    ],
)
def test_client_that_cannot_ask_says_why(
    fake_cellcast: FakeCellcast, settings: Any, changes: dict[str, str], reason: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    with pytest.raises(RecoveryError, match=reason):
        Client()
