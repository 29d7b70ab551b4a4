"""Past events: a command that gives them to a new handler, killed again and again, beside webhooks.

The handler "first" is new and ``in_order``; "second" had them before, and is not called again.
"""

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stress.clients import RECEIVE, Webhook, send
from tests.stress.databases import VENDORS
from tests.stress.hosts import Host, wait_for
from tests.stress.load import load_on
from tests.stress.scale import SCALE, scaled
from tests.stress.storm import reply

pytestmark = pytest.mark.stress

BODIES = scaled(100)
EVENTS_OF_A_BODY = 1_000 if SCALE >= 1 else 80
CONTACTS = scaled(2_000)
KILLS = 5 if SCALE >= 1 else 3
CLIENTS, EVERY = 2, 0.1
"""Twenty webhooks a second: what a busy site gets."""
ALONE_SECONDS = 10 if SCALE >= 1 else 3
LIVE = {"CELLCAST_MAX_BODY_BYTES": 1_000_000, "CELLCAST_HANDLER_LEASE": 3}
PLACES = [(vendor, mark) for vendor in VENDORS for mark in ("at_least_once", "exactly_once")]
COMMAND = ("django", "cellcast_run_handlers", "--again", "first", "--since", "1d")


# A quick look takes one of them: tests/test_past_events.py runs on all databases.
@pytest.mark.parametrize(("vendor", "mark"), PLACES if SCALE >= 1 else PLACES[:1])
def test_killed_command_gives_each_event_in_order(
    vendor: str, mark: str, new_host: Callable[..., Host]
) -> None:
    old = new_host(vendor, FIRE_HANDLERS=[], **LIVE)
    with old.gunicorn(workers=1) as server:
        for number in range(BODIES):
            assert send(server.port, body(number).encode()).status == 200
    marks = {"FIRE_IN_ORDER": ["first"]}
    if mark == "exactly_once":
        marks["FIRE_EXACTLY_ONCE"] = ["first"]
    host = replace(old, settings={**marks, **LIVE})
    host.database.execute("DROP TABLE IF EXISTS fire_written")
    host.database.execute("CREATE TABLE fire_written (event bigint)")
    newest = host.database.value("SELECT MAX(id) FROM cellcast_django_webhookevent")
    stored = BODIES * EVENTS_OF_A_BODY
    chance = random.Random(vendor)  # noqa: S311
    noted = Noted(host.folder / "calls.jsonl")
    with (
        host.gunicorn(workers=2) as server,
        load_on(server.port, clients=CLIENTS, every=EVERY) as load,
    ):
        time.sleep(ALONE_SECONDS)
        alone = len(load.answered)
        began_at = time.monotonic()
        for kill in range(1, KILLS + 1):
            process = host.start(*COMMAND)
            enough = stored * kill * chance.uniform(0.7, 1) / (KILLS + 1)
            wait_for(lambda: noted.count() >= enough, seconds=1_200, pause=0.3)  # noqa: B023
            process.kill()
            process.wait()
        process = host.start(*COMMAND)
        process.wait()
        seconds = time.monotonic() - began_at
        beside = len(load.answered) - alone
    assert process.returncode == 0
    time.sleep(LIVE["CELLCAST_HANDLER_LEASE"])
    host.manage("cellcast_run_handlers")  # the call that the last kill cut off, if it had its lease
    assert load.statuses() == {200}
    assert beside / seconds > 0.9 * alone / ALONE_SECONDS, "they come at their usual rate"

    heard: defaultdict[str, list[int]] = defaultdict(list)
    for contact, text in noted.texts():
        heard[contact].append(text)
    repeated = sum(map(len, heard.values())) - stored
    assert 0 <= repeated <= KILLS, "only the calls that were cut off"
    for texts in heard.values():
        assert texts == sorted(texts)
    assert sum(len(set(texts)) for texts in heard.values()) == stored
    others = f"SELECT COUNT(*) FROM cellcast_django_handlercall WHERE event_id <= {newest}"  # noqa: S608
    assert host.database.value(f"{others} AND state <> 'done'") == 0
    if mark == "exactly_once":
        written = f"FROM fire_written WHERE event <= {newest}"
        counts = f"SELECT COUNT(*), COUNT(DISTINCT event) {written}"
        assert host.database.query(counts) == [(stored, stored)]


class Noted:
    """What the handler "first" has noted of past events, read as far as it has been written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = 0
        self._count = 0

    def count(self) -> int:
        """Return how many calls have ended."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._place)
                while (line := file.readline()).endswith(b"\n"):
                    self._place += len(line)
                    self._count += b'"past ' in line and b'"end"' in line
        return self._count

    def texts(self) -> Iterator[tuple[str, int]]:
        """Yield the contact and the text of each call that has ended."""
        with self.path.open() as file:
            for line in file:
                call = json.loads(line)
                if call["phase"] == "end" and call["fact"][-1].isdecimal():
                    assert call["handler"] == "first", "the other one is not called for them"
                    yield call["fact"][3], int(call["fact"][-1])


def body(number: int) -> Webhook:
    """Return replies of many contacts, each with its number as the text."""
    serials = range(number * EVENTS_OF_A_BODY, (number + 1) * EVENTS_OF_A_BODY)
    replies = [
        reply(f"past {serial}", f"+614915{serial % CONTACTS:05}", str(serial)).payload
        for serial in serials
    ]
    return Webhook(RECEIVE, replies)
