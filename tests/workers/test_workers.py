"""Two web servers and three workers of a real queue, one of them killed; or no broker at all."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.stress.clients import Request, Response, converse, send
from tests.stress.hosts import wait_for
from tests.stress.load import numbered
from tests.stress.storm import report
from tests.stress.verdicts import assert_heard_by_every_handler, assert_stored, assert_were_cut_off
from tests.workers.conftest import BROKERS, QUEUES
from tests.workers.shop import Shop

pytestmark = pytest.mark.workers

WEBHOOKS = int(os.environ.get("WORKERS_WEBHOOKS", "200"))
CLIENTS = 8
WORKERS = 3


@pytest.mark.parametrize("queue", QUEUES)
def test_every_handler_gets_every_fact_though_a_worker_is_killed(
    queue: str, new_shop: Callable[[str], Shop]
) -> None:
    shop = new_shop(queue)
    webhooks = [numbered(serial) for serial in range(WEBHOOKS - 1)]
    # In the middle of it, a worker kills itself with SIGKILL inside a handler.
    webhooks.insert(WEBHOOKS // 2, report("in-first@1 1", "delivered"))
    with (
        shop.gunicorn("--threads=4", workers=1) as one,
        shop.gunicorn("--threads=4", workers=1) as two,
    ):
        workers = shop.start_workers(WORKERS)
        with ThreadPoolExecutor(2) as balancer:
            halves: list[Future[list[tuple[Request, Response]]]] = [
                balancer.submit(
                    converse,
                    server.port,
                    [[[webhook]] for webhook in webhooks[place::2]],
                    clients=CLIENTS,
                )
                for place, server in enumerate([one, two])
            ]
            responses = [response for half in halves for _, response in half.result()]
        settle(shop)
        with shop.schedule():
            wait_for(lambda: not waiting(shop), seconds=60, pause=0.2)

    assert {response.status for response in responses} == {200}
    assert_stored(shop, webhooks)
    [victim] = [worker.pid for worker in workers if worker.poll() == -signal.SIGKILL]
    [repeated] = assert_heard_by_every_handler(shop)
    assert (repeated.pid, repeated.handler) == (victim, "first")
    assert_were_cut_off([repeated], shop.calls())
    for word in ("Traceback", "a-long-enough-password", "+614"):
        assert word not in shop.log


@pytest.mark.parametrize("queue", BROKERS)
def test_broker_outage_loses_nothing(
    queue: str, new_shop: Callable[[str], Shop], stop_broker: list[Callable[[], Any]]
) -> None:
    shop = new_shop(queue)
    webhooks = [numbered(serial) for serial in range(3)]
    with shop.gunicorn(workers=1) as server:
        before = send(server.port, webhooks[0].encode())
        stop_broker.pop()()
        after = [send(server.port, webhook.encode()) for webhook in webhooks[1:]]
    assert {response.status for response in [before, *after]} == {200}
    assert max(response.seconds for response in after) < 5
    # A connection that nobody has closed yet takes tasks, on a busy machine both.
    assert shop.log.count("Not enqueued: event ") <= 2
    assert shop.manage("cellcast_run_handlers").startswith("6 done")  # two handlers' calls
    assert_stored(shop, webhooks)
    assert not assert_heard_by_every_handler(shop)


def waiting(shop: Shop) -> int:
    return int(
        shop.database.value(
            "SELECT COUNT(*) FROM cellcast_django_handlercall WHERE next_attempt_at IS NOT NULL"
        )
    )


def settle(shop: Shop) -> None:
    """Wait until the workers have nothing more to do."""
    left = -1
    while (now := waiting(shop)) not in (0, left):
        left = now
        time.sleep(1.5)
