"""Hostile input: never a 5xx, never a hung worker, and nothing that was let in is lost."""

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape

import pytest

from cellcast_django import payloads
from cellcast_django.webhooks import WEBHOOKS
from tests.stress.clients import Response, post, send
from tests.stress.databases import VENDORS
from tests.stress.hostile import Body, Hostile
from tests.stress.hosts import Host, Server
from tests.stress.scale import scaled
from tests.stress.staff import Staff
from tests.test_payloads import assert_can_be_stored

pytestmark = pytest.mark.stress

ENDPOINTS = {webhook.path(): webhook.endpoint for webhook in WEBHOOKS}


def test_hundred_thousand_bodies_are_read_into_storable_payloads() -> None:
    kinds: Counter[str] = Counter()
    slowest = 0.0
    for body in Hostile(seed=5).bodies(scaled(100_000)):
        start = time.perf_counter()
        read = payloads.read(body.data, body.content_type, ENDPOINTS[body.path])
        slowest = max(slowest, time.perf_counter() - start)
        assert read
        for payload in read:
            assert_can_be_stored(payload)
            kinds[type(payload).__name__] += 1
        assert_recoverable(payloads.decode(body.data), body.data)
    assert set(kinds) == {"Reply", "StatusReport", "OptOut", "Invalid"}
    assert slowest < 2


@pytest.mark.parametrize("vendor", VENDORS)
def test_hostile_bodies_are_answered_and_kept_verbatim(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    host = new_host(vendor)
    bodies = list(Hostile(seed=7).bodies(scaled(2_000)))
    with host.gunicorn() as server:
        workers = set(server.workers())

        def attack(body: Body) -> Response:
            request = post(body.path, body.data, content_type=body.content_type)
            return send(server.port, request, timeout=20)

        with ThreadPoolExecutor(8) as threads:
            responses = list(threads.map(attack, bodies))
        check_pages(server, host)
        assert set(server.workers()) == workers
    statuses = Counter(response.status for response in responses)
    assert set(statuses) == {200, 400}, statuses
    kept = bodies_of(host)
    for body, response in zip(bodies, responses, strict=True):
        events = response.json()["events"]
        assert all(event["id"] in kept for event in events)
        if len(events) == 1 and not body.data.lstrip(b"\xef\xbb\xbf \n\t").startswith(b"["):
            assert_recoverable(kept[events[0]["id"]], body.data)
    host.assert_log_is_clean()


def check_pages(server: Server, host: Host) -> None:
    """Read some of the events in the admin, as they came."""
    staff = Staff(server.port)
    staff.log_in()
    for model in ("message", "statuschange", "webhookevent"):
        page = staff.get(f"/admin/cellcast_django/{model}/")
        assert page.status == 200
        assert "<script>alert" not in page.text
    kept = bodies_of(host)
    for pk in random.Random(7).sample(sorted(kept), scaled(100)):  # noqa: S311
        page = staff.event(pk)
        assert page.status == 200
        assert escape(kept[pk]) in page.text, pk
        assert "<script>alert" not in page.text


def bodies_of(host: Host) -> dict[int, str]:
    """Return the body of each event."""
    return dict(host.database.query("SELECT id, body FROM cellcast_django_webhookevent"))


def assert_recoverable(text: str, data: bytes) -> None:
    r"""The bytes as they came can be computed from what was kept: ``\xNN`` is one byte."""
    if not re.search(rb"\\x[0-9a-f]{2}", data):
        kept = text.encode()
        assert re.sub(rb"\\x([0-9a-f]{2})", lambda hit: bytes([int(hit[1], 16)]), kept) == data
