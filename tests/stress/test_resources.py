"""Resources: the disk is full, or the web processes have no file handle left."""

import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import environ
import pytest

from tests.stress import oracle
from tests.stress.clients import send
from tests.stress.databases import VENDORS
from tests.stress.hosts import Host, wait_for
from tests.stress.load import Load, load_on
from tests.stress.scale import SCALE, scaled
from tests.stress.test_crash import run_everything
from tests.stress.test_locks import read_deferred
from tests.stress.verdicts import assert_heard_by_every_handler, assert_stored

pytestmark = pytest.mark.stress

ENOUGH = scaled(100)


@pytest.fixture
def new_host_of_writers(new_host: Callable[..., Host]) -> Callable[[str], Host]:
    """Make a host whose handlers are both called exactly once."""

    def make(vendor: str) -> Host:
        host = new_host(vendor)
        host.database.execute("DROP TABLE IF EXISTS fire_written")
        host.database.execute("CREATE TABLE fire_written (event bigint)")
        return with_options(host)

    return make


def with_options(host: Host, **options: Any) -> Host:
    """Give each webhook a connection of its own, with these options."""
    database = environ.Env.db_url_config(host.database.url) | {"OPTIONS": options}
    marks = {"FIRE_EXACTLY_ONCE": oracle.HANDLERS, "FIRE_DEATHS": False}
    return replace(host, settings={"DATABASES": {"default": database}, **marks})


def assert_nothing_was_lost(host: Host, load: Load) -> None:
    """Send again what was refused, run what is due, and look at everything."""
    responses = [response for _, response in load.answered]
    refused = [webhook for webhook, response in load.answered if response.status != 200]
    assert {response.status for response in responses} <= {200, 503, 0}
    with host.gunicorn(workers=1) as server:
        assert {send(server.port, webhook.encode()).status for webhook in refused} <= {200}
    read_deferred(host)
    due = "UPDATE cellcast_django_handlercall SET next_attempt_at = '2026-01-01'"
    host.database.execute(f"{due} WHERE next_attempt_at IS NOT NULL")
    run_everything(host)
    assert_stored(host, [webhook for webhook, _ in load.answered])
    assert_heard_by_every_handler(host)
    written = host.database.query("SELECT COUNT(*), COUNT(DISTINCT event) FROM fire_written")
    facts = len(oracle.stored_facts(host.database))
    assert written == [(facts * len(oracle.HANDLERS), facts)]


def test_full_disk_loses_nothing(new_host_of_writers: Callable[[str], Host]) -> None:
    """SQLite's own limit stands in for the disk's."""
    host = new_host_of_writers("sqlite")
    host.database.execute("VACUUM")
    pages = host.database.value("PRAGMA page_count") + ENOUGH
    limit = f"PRAGMA journal_mode=WAL; PRAGMA max_page_count={pages};"
    options = {"timeout": 5, "transaction_mode": "IMMEDIATE", "init_command": limit}
    full = with_options(host, **options)
    with full.gunicorn() as server, load_on(server.port, clients=4) as load:
        wait_for(lambda: len(load.answered) - len(load.stored()) >= ENOUGH, seconds=300)
    assert load.stored()
    assert_nothing_was_lost(host, load)


@pytest.mark.parametrize("vendor", VENDORS if SCALE >= 1 else VENDORS[:1])
def test_no_file_handle_left_loses_nothing(
    vendor: str, new_host_of_writers: Callable[[str], Host]
) -> None:
    host = new_host_of_writers(vendor)
    with host.gunicorn(workers=2) as server:
        handles = len(os.listdir(f"/proc/{server.workers()[0]}/fd"))
        with load_on(server.port, clients=4, every=0.2) as load:
            # One is for the request, two for its connection, one for what its handlers write to
            for left in (1, 2, 3):
                for pid in server.workers():
                    hardest = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, (handles + left, hardest))
                time.sleep(5)
    assert load.stored()
    assert 503 in load.statuses()
    assert_nothing_was_lost(host, load)
