"""Order: two web processes and two workers share the events of each contact, and keep their order.

All of them are killed now and then. The handler "first" is ``in_order``, and asks to be called
again for some events; "second" is not, and is called as the events come.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import cycle, groupby
from subprocess import Popen
from threading import Event, Thread
from typing import NamedTuple

import pytest

from tests.stress.clients import Webhook, send
from tests.stress.databases import VENDORS
from tests.stress.hosts import Host, Server, wait_for
from tests.stress.scale import SCALE, scaled
from tests.stress.storm import reply
from tests.stress.verdicts import unfinished

pytestmark = pytest.mark.stress

CONTACTS = 10
PAIRS = scaled(50)
"""Of each contact: 1,000 events at the full load."""
LEASE = 3
QUEUE = "tests.stress.projects.queue_workers"
IN_ORDER = {"FIRE_IN_ORDER": ["first"]}
PLACES = [(vendor, "inline") for vendor in VENDORS]
# A quick look takes the queue on one database.
PLACES += [(vendor, "task") for vendor in (VENDORS if SCALE >= 1 else VENDORS[:1])]


class Reply(NamedTuple):
    """One text of a contact; ``fate`` says which of its calls ask to be repeated."""

    contact: str
    text: str
    fate: str = "calm"

    def webhook(self) -> Webhook:
        return reply(f"{self.fate} {self.contact} {self.text}", self.contact, self.text)


@pytest.mark.parametrize(("vendor", "mode"), PLACES)
def test_two_web_processes_and_two_workers_keep_each_contacts_order(
    vendor: str, mode: str, new_host: Callable[..., Host]
) -> None:
    """The second reply of a pair is sent to the other process when the first has been answered."""
    host = new_host(vendor, **IN_ORDER, CELLCAST_HANDLER_LEASE=LEASE)
    if mode == "task":
        host = replace(host, project=QUEUE)
        host.manage("migrate", "--verbosity=0")
    said = [list(conversation(number)) for number in range(CONTACTS)]
    with two_hosts(host) as hosts, workers(host, mode) as processes:
        with killing(hosts, processes):
            answered = hold_all(said, hosts)
        while left := unfinished(host.database):
            wait_for(lambda: unfinished(host.database) < left, seconds=300, pause=0.5)
    assert set(answered) <= {200, 0}
    calls = [call for call in host.calls() if call.handler == "first"]
    for replies in said:
        contact = replies[0].contact
        heard = [call.fact[-1] for call in calls if call.fact[3] == contact]
        # A call is repeated where it was cut off, or asked to be, but before that of the next.
        assert [text for text, _ in groupby(heard)] == [reply.text for reply in replies]
    ended = [call for call in calls if call.phase == "end"]
    begun = [call for call in calls if call.phase == "begin"]
    assert len(begun) > len(ended), "some were called again"


def conversation(number: int) -> Iterator[Reply]:
    """Say YES and CANCEL in turn; which calls fail differs from pair to pair."""
    contact = f"+614915{number:05}"
    yes = cycle(["retry-first@1", "calm", "retry-first@1+retry-first@2", "calm"])
    cancel = cycle(["calm", "retry-first@1", "calm"])
    for pair in range(PAIRS):
        yield Reply(contact, f"YES {pair}", next(yes))
        yield Reply(contact, f"CANCEL {pair}", next(cancel))


def hold_all(said: list[list[Reply]], hosts: tuple[Server, Server]) -> list[int]:
    """Hold all conversations at once, each reply when the one before it has been answered.

    What is not answered, because the process was killed, is sent again. Returns the statuses of the
    responses.
    """

    def hold(replies: list[Reply]) -> list[int]:
        statuses = []
        for each, host in zip(replies, cycle(hosts), strict=False):
            statuses.append(send(host.port, each.webhook().encode()).status)
            while statuses[-1] == 0:
                time.sleep(0.2)
                statuses.append(send(host.port, each.webhook().encode()).status)
        return statuses

    with ThreadPoolExecutor(16) as threads:
        return [status for statuses in threads.map(hold, said) for status in statuses]


@contextmanager
def two_hosts(host: Host) -> Iterator[tuple[Server, Server]]:
    """Serve the project twice, by a process each."""
    options = ("--threads=4",)
    with host.gunicorn(*options, workers=1) as first, host.gunicorn(*options, workers=1) as second:
        yield first, second


class Worker:
    """A process that is started again whenever it was killed."""

    def __init__(self, host: Host, *command: str) -> None:
        self.start: Callable[[], Popen[bytes]] = lambda: host.start("django", *command)
        self.process = self.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self.start()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


@contextmanager
def workers(host: Host, mode: str) -> Iterator[list[Worker]]:
    """Run what is due in two processes; with tasks, two workers of the queue besides."""
    commands = [["cellcast_run_handlers", "--watch"]] * 2
    if mode == "task":
        commands += [["db_worker", "--interval=0.2", "--no-startup-delay"]] * 2
    processes = [Worker(host, *command) for command in commands]
    with ExitStack() as stack:
        for process in processes:
            stack.callback(process.end)
        yield processes


@contextmanager
def killing(hosts: tuple[Server, Server], processes: list[Worker]) -> Iterator[None]:
    """Kill one of the processes now and then; gunicorn starts its own again."""
    chance = random.Random(0)  # noqa: S311
    is_over = Event()

    def kill_now_and_then() -> None:
        while not is_over.wait(chance.uniform(0.2, 1)):
            if chance.random() < 0.5:
                chance.choice(processes).kill()
            elif pids := chance.choice(hosts).workers():
                with suppress(ProcessLookupError):
                    os.kill(pids[0], signal.SIGKILL)

    thread = Thread(target=kill_now_and_then)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
