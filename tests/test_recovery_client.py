"""The client for Cellcast's API: pages, envelopes, retries, and a key that nobody sees."""

import json
import logging
import runpy
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from cellcast_django.recovery import client as module
from cellcast_django.recovery.client import Client, RecoveryError
from tests.clock import Clock
from tests.fake_cellcast import KEY, OPT_OUTS, REPLIES, REPORTS, FakeCellcast, Fault

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


def test_request_is_that_of_the_documentation(api: Client, fake_cellcast: FakeCellcast) -> None:
    read(api, REPORTS, fromDate="2024-12-04", toDate="2024-12-11", limit=100, requestFrom="API")
    [(path, parameters, headers)] = fake_cellcast.requests
    assert (path, parameters) == (
        "/api/v2/report/message",
        {
            "fromDate": "2024-12-04",
            "toDate": "2024-12-11",
            "limit": "100",
            "requestFrom": "API",
            "page": "1",
        },
    )
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Accept"] == "application/json"


def test_list_is_empty(api: Client, fake_cellcast: FakeCellcast) -> None:
    assert read(api, OPT_OUTS, size=100) == []


def test_item_that_shifts_to_the_next_page_comes_twice(
    api: Client, fake_cellcast: FakeCellcast
) -> None:
    def arrive(path: str, page: int) -> None:
        if page == 2:
            fake_cellcast.add_reply(NOW + timedelta(hours=1), body="new")

    fake_cellcast.page_size = 2
    fake_cellcast.before_page = arrive
    add_replies(fake_cellcast, 4)
    assert [item["body"] for item in read(api)] == ["3", "2", "2", "1", "0"]


def test_last_page_that_is_given_again_ends_the_list(
    api: Client, fake_cellcast: FakeCellcast
) -> None:
    page = json.dumps({"data": {"items": [{"body": "1"}]}}).encode()
    fake_cellcast.faults.extend([Fault(body=page)] * 5)
    assert read(api) == [{"body": "1"}]
    assert len(fake_cellcast.requests) == 2


def test_list_without_an_end_is_an_error(
    api: Client, fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    fake_cellcast.page_size = 1
    add_replies(fake_cellcast, 4)
    with pytest.raises(RecoveryError, match="2 pages of /api/v1/apiClient/getResponses"):
        read(api)


# Refusals and nonsense


@pytest.mark.parametrize("path", [REPLIES, REPORTS])
def test_wrong_key_is_one_clear_error(
    api: Client, fake_cellcast: FakeCellcast, settings: Any, path: str
) -> None:
    settings.CELLCAST_API_KEY = "another-key"
    with pytest.raises(RecoveryError, match=r"refused the key with 401: Please authenticate\. "):
        read(api, path)
    assert len(fake_cellcast.requests) == 1


@pytest.mark.parametrize(
    ("status", "document", "error"),
    [
        (403, b'{"code": 403, "message": "Forbidden"}', "refused the key with 403: Forbidden"),
        (200, b'{"meta": {"code": 401}, "message": "No key."}', "the key with 401: No key. Check"),
        (200, b'{"code": 403, "stack": "Error"}', "refused the key with 403. Check"),
        (404, b"<html>", "responded with 404."),
        (302, b"", "responded with 302."),
        (422, b'{"message": {"page": "is wrong"}}', "responded with 422."),
        (200, b'{"status": false, "message": " Too\\n late "}', "refused the request: Too late."),
        (200, b'{"status": false, "data": {"items": []}}', "refused the request."),
        (200, b"<html>maintenance</html>", "not a JSON object."),
        (200, b"", "not a JSON object."),
        (200, b"[]", "not a JSON object."),
        (200, b"[" * 100_000, "not a JSON object."),
        (200, b"\xff", "not a JSON object."),
        (200, b'{"meta": {"status": "SUCCESS"}, "b\\u0000": 1}', 'without "data"; it has b, meta.'),
        (200, b'{"data": [{"from": "400000001"}]}', 'without "data"; it has data.'),
        (200, b'{"data": {"rows": [], "total": 1}}', 'a list of "items"; it has rows, total.'),
        (200, b'{"data": {"items": {"1": 1}}}', 'a list of "items"; it has items.'),
        (200, b'{"data": {"items": [1, 2]}}', 'a list of "items"; it has items.'),
        (200, b'{"data": {}}', 'a list of "items"; it has nothing.'),
    ],
)
def test_response_that_is_no_list_is_one_clear_error(
    api: Client, fake_cellcast: FakeCellcast, status: int, document: bytes, error: str
) -> None:
    fake_cellcast.faults.append(Fault(status=status, body=document))
    with pytest.raises(RecoveryError) as raised:
        read(api)
    assert error in str(raised.value)
    assert len(fake_cellcast.requests) == 1


def test_response_that_is_too_long_is_an_error(api: Client, fake_cellcast: FakeCellcast) -> None:
    too_long = b'{"data": {"items": []}}'.ljust(module.MAX_RESPONSE_BYTES + 1)
    fake_cellcast.faults.append(Fault(body=too_long))
    with pytest.raises(RecoveryError, match="not a JSON object"):
        read(api)


def test_redirect_is_not_followed(api: Client, fake_cellcast: FakeCellcast) -> None:
    headers = {"Location": f"{fake_cellcast.url}/elsewhere"}
    fake_cellcast.faults.append(Fault(status=307, headers=headers))
    with pytest.raises(RecoveryError, match="307"):
        read(api)
    assert [path for path, *_ in fake_cellcast.requests] == [REPLIES]


# Retries and pace


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429),
        Fault(status=500, body=b"<html>"),
        Fault(status=503),
        Fault(body=b'{"meta": {"code": 429}}'),
        Fault(body=b'{"code": 500, "message": "Internal"}'),
        Fault(body=b'{"data"', breaks_off=True),
    ],
)
def test_request_is_sent_again_with_growing_pauses(
    api: Client, fake_cellcast: FakeCellcast, clock: Clock, fault: Fault
) -> None:
    add_replies(fake_cellcast, 1)
    fake_cellcast.faults.extend([fault] * 3)
    assert len(read(api)) == 1
    assert clock.slept == [1, 2, 4]
    assert len(fake_cellcast.requests) == 4


def test_response_that_does_not_come_is_asked_for_again(
    fake_cellcast: FakeCellcast, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_SECONDS", 0.05)
    fake_cellcast.faults.append(Fault(hangs=True))
    add_replies(fake_cellcast, 1)
    with Client() as client:
        assert len(read(client)) == 1
    assert clock.slept == [1]


def test_response_that_drips_is_cut_off(
    api: Client, fake_cellcast: FakeCellcast, clock: Clock
) -> None:
    clock.seconds_per_look = module.MAX_RESPONSE_SECONDS + 1
    fake_cellcast.faults.extend([Fault(body=b"{}")] * 6)
    with pytest.raises(RecoveryError, match=r"\(TimeoutError\). Gave up after 6 attempts."):
        read(api)


def test_nobody_listens(fake_cellcast: FakeCellcast, settings: Any, clock: Clock) -> None:
    settings.CELLCAST_API_URL = "http://127.0.0.1:1"
    with (
        Client() as client,
        pytest.raises(RecoveryError) as raised,
    ):
        read(client)
    assert str(raised.value) == (
        "Cellcast's API could not be reached (NewConnectionError). Gave up after 6 attempts."
    )
    assert clock.slept == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        (" 7 ", 7, 7),
        ("0", 1, 1),
        ("86400", 60, 60),
        ("9" * 400, 60, 60),
        ("soon", 1, 1),
        ("-5", 1, 1),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 1, 1),
        ("Mon, 01 Jan 2001 00:00:00 -0000", 1, 1),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 60, 60),
        (timedelta(seconds=30), 20, 30),
    ],
)
def test_retry_after_is_honoured_up_to_a_minute(
    api: Client,
    fake_cellcast: FakeCellcast,
    clock: Clock,
    header: str | timedelta,
    least: float,
    most: float,
) -> None:
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    fake_cellcast.faults.append(Fault(status=429, headers={"Retry-After": header}))
    read(api)
    [pause] = clock.slept
    assert least <= pause <= most


def test_ten_requests_a_second_at_most(
    api: Client, fake_cellcast: FakeCellcast, clock: Clock
) -> None:
    fake_cellcast.page_size = 1
    add_replies(fake_cellcast, 5)
    read(api)
    assert clock.slept == [0.1] * 4


def test_slow_requests_are_not_followed_by_a_burst(
    api: Client, fake_cellcast: FakeCellcast, clock: Clock
) -> None:
    def take_a_second(path: str, page: int) -> None:
        if page == 1:
            clock.now += 1

    fake_cellcast.page_size = 1
    fake_cellcast.before_page = take_a_second
    add_replies(fake_cellcast, 3)
    read(api)
    assert clock.slept == [0.1]


# Proxies


@pytest.fixture
def proxied(
    fake_cellcast: FakeCellcast, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> FakeCellcast:
    """The fake as a proxy, and an API beyond it."""
    settings.CELLCAST_API_URL = "https://api.example.com"
    monkeypatch.setenv("https_proxy", fake_cellcast.url)
    return fake_cellcast


def test_proxy_of_the_environment_is_asked_for_the_host_alone(
    proxied: FakeCellcast, clock: Clock
) -> None:
    with (
        Client() as client,
        pytest.raises(RecoveryError, match=r"could not be reached \(ProxyError\)"),
    ):
        read(client)
    assert {path for path, *_ in proxied.requests} == {"api.example.com:443"}
    assert KEY not in str(proxied.requests)


def test_host_that_needs_no_proxy_is_asked_directly(
    proxied: FakeCellcast, settings: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CELLCAST_API_URL = "https://127.0.0.1:1"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with (
        Client() as client,
        pytest.raises(RecoveryError, match=r"could not be reached \(NewConnectionError\)"),
    ):
        read(client)
    assert proxied.requests == []


def test_this_machine_is_asked_directly(
    fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Client() as client:
        assert read(client) == []


# The key


def test_key_is_in_no_error_no_log_and_no_report(
    api: Client, fake_cellcast: FakeCellcast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    message = f"No account for {KEY} and +61400000001"
    fake_cellcast.faults.append(Fault(status=400, body=json.dumps({"message": message}).encode()))
    fake_cellcast.faults.extend([Fault(breaks_off=True)] * 6)
    for expected in ("responded with 400: No account for … and ….", "Gave up after 6 attempts."):
        with pytest.raises(RecoveryError) as raised:
            read(api)
        assert expected in str(raised.value)
        assert raised.value.__context__ is None
        request = RequestFactory().get("/")
        reporter = ExceptionReporter(request, raised.type, raised.value, raised.tb)
        assert KEY not in reporter.get_traceback_text()
        for frame in reporter.get_traceback_frames()[1:]:
            assert KEY not in str(frame["vars"])
    assert KEY not in caplog.text
    assert KEY not in repr(vars(api))


# Settings


def test_urllib3_is_not_installed(
    fake_cellcast: FakeCellcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    names = runpy.run_path(module.__file__)
    with pytest.raises(names["RecoveryError"], match=r'pip install "cellcast-django\[recovery\]"'):
        names["Client"]()


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel", None, b"key"])
def test_no_usable_key(fake_cellcast: FakeCellcast, settings: Any, key: object) -> None:
    settings.CELLCAST_API_KEY = key
    with pytest.raises(RecoveryError, match="CELLCAST_API_KEY is not set"):
        Client()


def test_key_is_not_sent_in_clear(fake_cellcast: FakeCellcast, settings: Any) -> None:
    settings.CELLCAST_API_URL = "http://api.cellcast.com"
    with pytest.raises(RecoveryError, match="not an https:// URL"):
        Client()
