"""Clients that never stop: load for as long as a test breaks things."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread

from tests.stress.clients import OPT_OUT, Response, Webhook, send
from tests.stress.hosts import wait_for
from tests.stress.storm import CUSTOMERS, reply, report

STATUSES = ("received", "queued", "expired", "delivered")


class Load:
    """What has been sent, and what was answered."""

    def __init__(self) -> None:
        self.answered: list[tuple[Webhook, Response]] = []

    def statuses(self) -> set[int]:
        """Return the statuses of all responses; 0 stands for a connection that was cut."""
        return {response.status for _, response in self.answered}

    def stored(self) -> list[Webhook]:
        """Return the webhooks that were answered 200."""
        return [webhook for webhook, response in self.answered if response.status == 200]


@contextmanager
def load_on(
    port: int,
    *,
    clients: int,
    webhook_of: Callable[[int], Webhook] | None = None,
    every: float = 0,
) -> Iterator[Load]:
    """Send webhooks from so many clients at once, from before the block begins until it ends.

    A client sends one ``every`` so many seconds, or as soon as the one before has been answered.
    """
    webhook_of = webhook_of or numbered
    load = Load()
    serials = count()
    ended = Event()

    def run() -> None:
        due = time.monotonic()
        while not ended.wait(max(0, due - time.monotonic())):
            due = max(due + every, time.monotonic())
            webhook = webhook_of(next(serials))
            response = send(port, webhook.encode())
            load.answered.append((webhook, response))
            if not response.status:
                ended.wait(0.02)

    threads = [Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: load.answered, seconds=60)  # what comes next meets a load
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def numbered(serial: int) -> Webhook:
    """Return one of an endless row of webhooks: reports, replies and opt-outs, no two the same."""
    group, place = divmod(serial, 10)
    if place == 9:
        return Webhook(OPT_OUT, {"type": "optout", "contact": f"0400{group:06}"})
    if place < 8:
        return report(f"report-{group}-{place // 4}", STATUSES[place % 4])
    return reply(f"reply-{group}", CUSTOMERS[1], "yes")
