"""Failover: the primary is killed under load, and its synchronous standby takes over."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from tests.stress.failover import Cluster, cluster
from tests.stress.hosts import Host, wait_for
from tests.stress.load import load_on
from tests.stress.scale import SCALE
from tests.stress.verdicts import assert_heard_by_every_handler, assert_stored, unfinished

pytestmark = pytest.mark.stress

UNTIL_PROMOTION_SECONDS = 1.5
LAST_ERROR_SECONDS = 5
"""So long after the promotion every webhook is answered 200 again."""


@pytest.fixture
def pair(django_db_blocker: DjangoDbBlocker) -> Iterator[Cluster]:
    with django_db_blocker.unblock(), cluster() as pair:
        yield pair


KEPT = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
POOL = {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}


CONNECTIONS = [
    pytest.param(KEPT, {}, id="kept connections"),
    pytest.param(POOL, {"pool": {"timeout": 2}}, id="pool"),
    # A name or a balancer that leads to whatever answers, the standby as well
    pytest.param(KEPT, {"target_session_attrs": "any"}, id="kept connections to any server"),
    pytest.param(
        POOL, {"pool": {"timeout": 2}, "target_session_attrs": "any"}, id="pool to any server"
    ),
]


@pytest.mark.parametrize(
    ("connections", "options"), CONNECTIONS if SCALE >= 1 else CONNECTIONS[::3]
)
def test_standby_has_what_was_answered_200_and_serves_after_promotion(
    pair: Cluster,
    tmp_path: Path,
    connections: dict[str, Any],
    options: dict[str, Any],
) -> None:
    Host(tmp_path, pair.primary.database).manage("migrate", "--verbosity=0")
    databases = {"default": pair.settings(**options) | connections}
    host = Host(tmp_path, pair.standby.database, {"DATABASES": databases})
    with host.gunicorn("--threads=4", workers=2) as server, load_on(server.port, clients=8) as load:
        wait_for(lambda: len(load.stored()) > 50, seconds=60)
        pair.primary.kill()
        killed_at = time.time()
        time.sleep(UNTIL_PROMOTION_SECONDS)
        promoted_at = pair.promote()
        time.sleep(LAST_ERROR_SECONDS + 2)
    responses = [response for _, response in load.answered]
    errors = [response for response in responses if response.status != 200]
    last_error = max((response.at for response in errors), default=killed_at)
    assert last_error < promoted_at + LAST_ERROR_SECONDS
    assert [
        response for response in responses if response.status == 200 and response.at > last_error
    ]
    assert {response.status for response in responses} <= {200, 503}
    assert_stored(host, load.stored())


def test_killing_a_worker_and_the_primary_loses_nothing(pair: Cluster, tmp_path: Path) -> None:
    """Both hosts get the same webhooks, as from a balancer that tries again elsewhere."""
    project = "tests.stress.projects.queue_workers"
    databases = {"default": pair.settings() | KEPT}
    Host(tmp_path, pair.primary.database, {"DATABASES": databases}, project).manage(
        "migrate", "--verbosity=0"
    )
    host = Host(tmp_path, pair.standby.database, {"DATABASES": databases}, project)
    worker = ("django", "db_worker", "--interval=0.2", "--no-startup-delay")
    workers = [host.start(*worker) for _ in range(2)]
    watcher = host.start("django", "cellcast_run_handlers", "--watch")
    try:
        with (
            host.gunicorn("--threads=2", workers=1) as first,
            host.gunicorn("--threads=2", workers=1) as second,
            load_on(first.port, clients=3) as load,
            load_on(second.port, clients=3) as copies,
        ):
            wait_for(lambda: len(load.stored()) > 50, seconds=60)
            workers[0].kill()
            pair.primary.kill()
            time.sleep(UNTIL_PROMOTION_SECONDS)
            promoted_at = pair.promote()
            time.sleep(LAST_ERROR_SECONDS)
        workers += [host.start(*worker), host.start(*worker)]  # as a supervisor would
        wait_for(lambda: unfinished(host.database) == 0, seconds=300, pause=0.5)
    finally:
        for process in (*workers, watcher):
            process.terminate()
            process.wait(timeout=30)
    responses = [response for each in (load, copies) for _, response in each.answered]
    assert {response.status for response in responses} <= {200, 503}
    late = [each.at for each in responses if each.status == 503]
    assert max(late, default=0) < promoted_at + LAST_ERROR_SECONDS
    assert_stored(host, [*load.stored(), *copies.stored()])
    assert_heard_by_every_handler(host)
