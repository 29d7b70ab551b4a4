"""Two requests whose statements are executed in every order: races that happen once in a million.

As PostgreSQL's own isolation tester does it: each request has a thread and a connection, and goes
on by one statement, or one commit, when it is its turn. One that waits for a lock passes its turns
to the other. Start with ``in_every_order``.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, cycle
from math import comb
from threading import Condition
from time import monotonic
from typing import Any

import pytest
from django.db import connection, connections

from cellcast_django.database.vendors import LOCK_SECONDS as BRIEF_SECONDS, VENDORS
from cellcast_django.models import (
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.signals import message_received, opt_out_received, status_changed
from cellcast_django.upkeep.verifying import find_broken
from tests.handlers import connected

Request = Callable[[], Any]

MAX_ORDERS = int(os.environ.get("ORDERS", "30"))
"""In how many orders a pair is tried, spread evenly; ``ORDERS=200`` tries more."""

LOCK_SECONDS = 30
"""Longer than any turn takes: otherwise what waits for a lock would do something else."""
SETTINGS = {
    "postgresql": f"SET lock_timeout = '{LOCK_SECONDS}s'",
    "mysql": f"SET innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}",
}
SESSION = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
IS_BLOCKED = {
    "postgresql": "SELECT cardinality(pg_blocking_pids(%s))",
    # Its table of waiting transactions is a tenth of a second old.
    "mysql": "SELECT variable_value + 0 * %s FROM information_schema.global_status "
    "WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'",
}
STEPS = r"cellcast_django_(message|statuschange|webhookevent|optout)"
"""The statements that are steps, by what is in them; the others belong to the step before."""

needs_server = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="has one lock, so transactions are one after the other"
)


@dataclass
class Race:
    """What became of two requests in one order of their steps."""

    order: str
    """Whose turn it was, as letters: ``a`` is the first request, ``b`` the second.

    One letter alone says which of them was made before the other began.
    """
    first: Any = None
    second: Any = None
    told: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """How often each fact was told: its kind, the contact, and the text or status."""


def in_every_order(
    first: Request,
    second: Request,
    *,
    check: Callable[[Race], object],
    prepare: Callable[[], object] = lambda: None,
    steps: str = STEPS,
) -> int:
    """Make two requests in every order of their steps, and return in how many.

    Spread evenly if there are more than ``MAX_ORDERS``. Before each order all rows are deleted, and
    ``prepare`` makes what the requests find. After it, nothing may break the app's own rules, and
    ``check`` looks at what became of it; its assertion is given the order.
    """
    with ExitStack() as stack:
        told = stack.enter_context(_listening())
        stack.enter_context(_patient())
        a, b = (stack.enter_context(_Runner(steps)) for _ in range(2))
        done = 0
        # Each is alone once, which counts its steps: whoever is late may have less to do.
        for order in chain("ab", _Orders(a, b)):
            _forget_all()
            prepare()
            told.clear()
            race = Race(order)
            try:
                race.first, race.second = _run(order, (a, first), (b, second))
                race.told = Counter(told)
                assert list(find_broken()) == []
                check(race)
            except BaseException as error:
                error.add_note(f"In the order {order}")
                raise
            done += 1
    return done


class _Orders:
    """The orders of two requests' steps, which are known once each has been made alone."""

    def __init__(self, a: "_Runner", b: "_Runner") -> None:
        self.a, self.b = a, b

    def __iter__(self) -> Iterator[str]:
        steps, of_a = self.a.most_steps + self.b.most_steps, self.a.most_steps
        total = comb(steps, of_a)
        wanted = min(total, MAX_ORDERS)
        for place in range(wanted):
            yield _order(place * total // wanted, steps, of_a)


def _order(place: int, steps: int, of_a: int) -> str:
    """Return the order at this place among all of so many steps, of which so many are a's."""
    letters = ""
    for left in range(steps - 1, -1, -1):
        with_a = comb(left, of_a - 1) if of_a else 0
        if place < with_a:
            letters, of_a = f"{letters}a", of_a - 1
        else:
            letters, place = f"{letters}b", place - with_a
    return letters


def _run(order: str, *runs: "tuple[_Runner, Request]") -> list[Any]:
    """Make the requests in this order of their steps; return what they return."""
    runners = dict(zip("ab", (runner for runner, _ in runs), strict=True))
    futures = [runner.start(request) for runner, request in runs]
    began = monotonic()
    for letter in chain(order * 1_000 if len(order) == 1 else order, cycle("ab")):
        while not sum(runner.is_ready() for runner in runners.values()):  # asks each of them
            assert monotonic() < began + 2 * LOCK_SECONDS, "both wait"
            if all(runner.is_done for runner in runners.values()):
                return [future.result() for future in futures]
        if runners[letter].is_ready():
            runners[letter].go_on()
    raise AssertionError  # cycle() does not end


class _Runner:
    """A thread with a connection, which stops before each step until it may go on."""

    def __init__(self, steps: str) -> None:
        self.pattern = re.compile(steps)
        self.steps = self.most_steps = 0
        self.changed = Condition()
        self.is_waiting = False
        self.is_done = True
        self.thread = ThreadPoolExecutor(1)

    def __enter__(self) -> "_Runner":
        self.session = self.thread.submit(self._connect).result()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.submit(connections.close_all).result()
        self.thread.shutdown()

    def start(self, request: Request) -> "Future[Any]":
        self.steps, self.is_done = 0, False
        return self.thread.submit(self._make, request)

    def is_ready(self) -> bool:
        """Whether it waits for its turn, once it does, has ended, or waits for a lock."""
        with self.changed:
            while not self.changed.wait_for(lambda: self.is_waiting or self.is_done, 0.002):
                if self._is_blocked():
                    return False
            return self.is_waiting

    def go_on(self) -> None:
        with self.changed:
            self.is_waiting = False
            self.changed.notify_all()

    def _is_blocked(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(IS_BLOCKED[connection.vendor], [self.session])
            return bool(cursor.fetchone()[0])

    def _connect(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(SETTINGS[connection.vendor])
            cursor.execute(SESSION[connection.vendor])
            session: int = cursor.fetchone()[0]
        self.connection = connection.connection
        return session

    def _make(self, request: Request) -> Any:
        begun = False

        def execute(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
            nonlocal begun
            if self.pattern.search(sql):
                if connection.connection is not self.connection:  # after an error
                    self.session = self._connect()
                self._wait_for_turn()
                begun = True
            return execute(sql, *arguments)

        commit = connection._commit  # type: ignore[attr-defined]

        def commit_in_turn() -> None:
            nonlocal begun
            if begun:
                self._wait_for_turn()
                begun = False
            commit()

        try:
            with connection.execute_wrapper(execute), pytest.MonkeyPatch.context() as patch:
                patch.setattr(connection, "_commit", commit_in_turn, raising=False)
                return request()
        finally:
            with self.changed:
                self.is_done = True
                self.changed.notify_all()

    def _wait_for_turn(self) -> None:
        with self.changed:
            self.steps += 1
            self.most_steps = max(self.steps, self.most_steps)
            self.is_waiting = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.is_waiting)


@contextmanager
def _patient() -> Iterator[None]:
    """Let transactions of ours wait for a lock as long as those of the host's."""
    vendor = VENDORS[connection.vendor]
    begin = vendor.begin_with.replace(f"{BRIEF_SECONDS}s", f"{LOCK_SECONDS}s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VENDORS, connection.vendor, replace(vendor, begin_with=begin, limit=""))
        yield


@contextmanager
def _listening() -> Iterator[list[tuple[str, ...]]]:
    told: list[tuple[str, ...]] = []

    def tell(kind: str, **kwargs: Any) -> None:
        message, change = kwargs.get("message"), kwargs.get("status_change")
        contact = kwargs["contact"] if message is None else message.contact
        said = "" if message is None else message.body if change is None else change.status
        told.append((kind, contact, said))

    signals = {"reply": message_received, "status": status_changed, "opt out": opt_out_received}
    with ExitStack() as stack:
        for kind, signal in signals.items():
            stack.enter_context(connected(signal, **{kind: partial(tell, kind)}))
        yield told


def _forget_all() -> None:
    models: Sequence[Any] = (OptOutChange, OptOut, StatusChange, WebhookEvent, Message)
    for model in models:
        model.objects.all().delete()
