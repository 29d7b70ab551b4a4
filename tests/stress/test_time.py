"""Time and growth: clocks jump, handlers take their time, rows go, and names change."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.apps import apps

from tests.stress import oracle
from tests.stress.clients import Webhook, converse, send
from tests.stress.hosts import Host, wait_for
from tests.stress.load import Load, load_on
from tests.stress.storm import report
from tests.stress.verdicts import assert_stored

pytestmark = pytest.mark.stress

HOUR = 3_600


def set_clock(host: Host, wrong_by: float) -> None:
    """Let the host's clock be wrong by so many seconds."""
    (host.folder / "clock").write_text(str(wrong_by))


def heard(host: Host) -> list[tuple[str, str]]:
    """Return which handler began with which status, in the order of the calls."""
    return [(call.handler, call.fact[-1]) for call in host.calls() if call.phase == "begin"]


def test_backward_clock_jump_changes_no_status_and_loses_no_fact(
    new_host: Callable[..., Host],
) -> None:
    host = new_host("sqlite", CELLCAST_HANDLER_LEASE=1)
    with host.gunicorn(workers=1) as server:

        def say(cellcast_id: str, status: str) -> int:
            return send(server.port, report(cellcast_id, status).encode()).status

        assert say("message 1", "expired") == 200
        assert say("in-second@1 2", "delivered") == 0  # its lease ends by the clock of now
        wait_for(lambda: say("message 1", "delivered") == 200, seconds=60)
        set_clock(host, -HOUR)
        assert say("message 1", "failed") == 200
        assert say("message 1", "expired") == 200
        assert say("message 3", "delivered") == 200
        assert say("in-first@1 4", "delivered") == 0
    before = heard(host)
    time.sleep(1.1)
    assert "2 done" in host.manage("cellcast_run_handlers")  # what began after the jump
    assert sorted(heard(host)[len(before) :]) == [("first", "delivered"), ("second", "delivered")]
    set_clock(host, 0)
    assert "1 done" in host.manage("cellcast_run_handlers")  # the clock has caught up
    assert heard(host)[len(before) + 2 :] == [("second", "delivered")]
    assert "0 done" in host.manage("cellcast_run_handlers")

    statuses = {identity[1]: status for identity, status in oracle.stored_statuses(host.database)}
    assert set(statuses.values()) == {"delivered"}
    history = oracle.stored_histories(host.database)["outbound", "message 1"]
    assert history == {"expired": 1, "delivered": 1, "failed": 1}
    facts = oracle.stored_facts(host.database)
    each_once = dict.fromkeys(((name, fact) for name in oracle.HANDLERS for fact in facts), 1)
    assert oracle.finished(host.calls()) == each_once


@pytest.mark.parametrize("vendor", ["mariadb", "sqlite"])
def test_event_is_taken_over_once_when_its_handler_outlasts_the_lease(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    host = new_host(vendor, CELLCAST_HANDLER_LEASE=1)
    webhook = report("sleep-first@1=12 1", "delivered")
    with host.gunicorn(workers=1) as server:
        [(_, response)] = converse_while(server.port, webhook, lambda: run_until_taken_over(host))
    assert response.status == 200
    assert heard(host) == [(name, "delivered") for name in ("first", "second", "first")]
    assert oracle.finished(host.calls()).total() == 3
    assert "CELLCAST_HANDLER_LEASE" in host.log
    calls = "SELECT handler, state, attempts FROM cellcast_django_handlercall ORDER BY id"
    assert host.database.query(calls) == [("first", "done", 2), ("second", "done", 1)]


def converse_while(port: int, webhook: Webhook, meanwhile: Callable[[], None]) -> Any:
    """Send a webhook and do something else before its response comes."""
    with ThreadPoolExecutor(1) as thread:
        answered = thread.submit(converse, port, [[[webhook]]], clients=1)
        meanwhile()
        return answered.result()


def run_until_taken_over(host: Host) -> None:
    """Run cellcast_run_handlers once the lease is up, while the handler still sleeps."""
    wait_for(lambda: heard(host), seconds=60)
    time.sleep(1.1)
    assert "2 done" in host.manage("cellcast_run_handlers")


def wait_for_more(load: Load) -> None:
    """Wait until fifty more webhooks have been stored."""
    seen = len(load.stored())
    wait_for(lambda: len(load.stored()) > seen + 50, seconds=120)


@pytest.mark.parametrize("vendor", ["postgresql", "mariadb"])
def test_migrations_add_columns_while_webhooks_arrive(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    """Five times, as ``AddField`` with a ``db_default`` does, in a session without limits."""
    host = new_host(vendor)
    models = apps.get_app_config("cellcast_django").get_models()
    tables = [model._meta.db_table for model in models]
    columns = [f"later_{number}" for number in range(5)]

    def alter(change: str) -> None:
        for table in tables:
            host.database.execute(f"ALTER TABLE {table} {change}")

    try:
        with (
            host.gunicorn("--threads=4", workers=2) as server,
            load_on(server.port, clients=6) as load,
        ):
            for column in columns:
                wait_for_more(load)
                alter(f"ADD COLUMN {column} integer DEFAULT 0 NOT NULL")
            wait_for_more(load)
    finally:
        for column in columns:
            alter(f"DROP COLUMN IF EXISTS {column}")
    assert load.statuses() <= {200, 503}
    host.manage("cellcast_run_handlers")  # reads what was deferred
    assert_stored(host, load.stored())
