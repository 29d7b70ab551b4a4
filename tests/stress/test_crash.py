"""Crash: workers killed at random and at chosen moments, and the database too."""

import os
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import count

import pytest

from tests.stress.clients import Response, send
from tests.stress.databases import VENDORS, Servers
from tests.stress.hosts import Host, wait_for
from tests.stress.load import load_on, numbered
from tests.stress.scale import scaled
from tests.stress.storm import report
from tests.stress.verdicts import assert_heard_by_every_handler, assert_stored, assert_were_cut_off

pytestmark = pytest.mark.stress

LEASE = 3
KILLS = scaled(12)
MOMENTS = [
    "before-commit",
    "after-commit",
    "in-first@1",
    "after-first@1",
    "in-second@1",
    "after-second@1",
    "after-commit+in-first@2",
    "in-first@1+in-second@1",
    "in-first@1+after-second@1",
    "after-first@1+in-second@1+in-second@2",
]


@pytest.mark.parametrize("vendor", VENDORS)
def test_randomly_killed_workers_lose_nothing_answered_200(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    host = new_host(vendor, CELLCAST_HANDLER_LEASE=LEASE)
    chance = random.Random(vendor)  # noqa: S311
    killed: set[int] = set()
    with host.gunicorn() as server, load_on(server.port, clients=16) as load:
        while len(killed) < KILLS:
            time.sleep(chance.uniform(0.2, 0.8))
            if workers := server.workers():
                victim = chance.choice(workers)
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
    assert load.statuses() <= {200, 0}
    run_everything(host)

    assert_stored(host, load.stored())
    repeated = assert_heard_by_every_handler(host)
    assert {call.pid for call in repeated} <= killed
    assert_were_cut_off(repeated, host.calls())


@pytest.mark.parametrize("vendor", VENDORS)
def test_kill_at_any_moment_repeats_only_the_interrupted_call(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    host = new_host(vendor, CELLCAST_HANDLER_LEASE=1)
    webhooks = {moment: report(f"{moment} 1", "delivered") for moment in MOMENTS}
    with host.gunicorn(workers=1) as server:
        for webhook in webhooks.values():
            assert send(server.port, webhook.encode()).status == 0
    run_everything(host)

    assert_stored(host, [webhook for moment, webhook in webhooks.items() if moment[0] != "b"])
    assert_were_cut_off(assert_heard_by_every_handler(host), host.calls())
    begun = defaultdict(list)
    for call in host.calls():
        if call.phase == "begin":
            begun[call.fact[2].removesuffix(" 1")].append(call.handler)
    # After a death, the handler that has not been called comes first, then the one called least.
    assert begun == {
        "after-commit": ["second", "first"],
        "in-first@1": ["first", "second", "first"],
        "after-first@1": ["first", "second", "first"],
        "in-second@1": ["first", "second", "second"],
        "after-second@1": ["first", "second", "second"],
        "after-commit+in-first@2": ["second", "first", "first"],
        "in-first@1+in-second@1": ["first", "second", "first", "second"],
        "in-first@1+after-second@1": ["first", "second", "first", "second"],
        "after-first@1+in-second@1+in-second@2": ["first", "second", "first", "second", "second"],
    }


@pytest.mark.parametrize("vendor", ["postgresql", "mariadb"])
def test_database_restart_under_load_loses_nothing(
    vendor: str, servers: Servers, new_host: Callable[..., Host]
) -> None:
    host = new_host(vendor, CELLCAST_HANDLER_LEASE=LEASE)
    outages = []
    with host.gunicorn() as server, load_on(server.port, clients=8) as load:
        for _ in range(scaled(3)):
            time.sleep(1.5)
            begin = time.time()
            start_again = servers.kill(vendor)
            response = first_that_is_not_200(server.port, 10_000_000 + len(load.answered))
            assert response.status == 503
            assert b"\r\nretry-after: 30" in response.head.lower()
            assert list(response.json()) == ["detail"]
            start_again()
            outages.append((begin, time.time()))
        wait_for(lambda: load.answered[-1][1].status == 200, seconds=60)
        time.sleep(1)
    assert load.statuses() == {200, 503}
    run_everything(host)

    assert_stored(host, load.stored())
    repeated = assert_heard_by_every_handler(host)
    retrying = 1.5
    for call in repeated:
        assert any(begin - retrying < call.at < end + retrying for begin, end in outages), call
    assert "Traceback" not in host.log


def first_that_is_not_200(port: int, serial: int) -> Response:
    """Send webhooks, numbered from ``serial``, until one is answered otherwise."""
    responses = (send(port, numbered(number).encode()) for number in count(serial))
    return next(response for response in responses if response.status != 200)


def run_everything(host: Host) -> None:
    """Run cellcast_run_handlers, whatever kills it, until nothing waits."""
    calls = "SELECT COUNT(*) FROM cellcast_django_handlercall WHERE next_attempt_at IS NOT NULL"
    deferred = "SELECT COUNT(*) FROM cellcast_django_webhookevent WHERE outcome = 'deferred'"
    for _ in range(60):
        if not host.database.value(calls) + host.database.value(deferred):
            return
        try:
            host.start("django", "cellcast_run_handlers").wait(timeout=60)
        except subprocess.TimeoutExpired:
            pytest.fail("cellcast_run_handlers hangs")
        time.sleep(0.5)
    raise AssertionError("Events wait for ever.")
