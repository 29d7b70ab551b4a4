"""A leaked password: forged webhooks by the thousand among genuine ones, found and taken back.

The commands are killed in the middle and given again while webhooks keep coming, and need little
more memory for ten times as many events.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fake_cellcast import KEY, FakeCellcast, serving, timestamp
from tests.stress import figures, oracle
from tests.stress.clients import RECEIVE, STATUS, Webhook, send
from tests.stress.databases import VENDORS, Database
from tests.stress.hosts import Host, Server, peak_bytes
from tests.stress.load import load_on
from tests.stress.scale import SCALE, scaled

FORGED = scaled(100_000)
GENUINE = 1_000
"""Replies, and as many reports."""
A_BODY = 1_000
KILLS = 3 if SCALE >= 1 else 1
BYTES_AN_EVENT = 150
"""What one more event may cost: its key, in a set and a list."""
BYTES_OF_A_BATCH = 10_000_000
SETTINGS = {"CELLCAST_MAX_BODY_BYTES": 1_000_000, "FIRE_HANDLERS": []}


class Commands:
    """Runs the two commands, and notes their memory and time."""

    def __init__(self, host: Host, until: datetime) -> None:
        self.host = host
        self.until = until
        self.peaks: defaultdict[str, int] = defaultdict(int)
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def find(self, path: Path, *, until_killed: Callable[[], bool] | None = None) -> int:
        """Write a list of what is unconfirmed, and return how many events it names."""
        options = ["--since=1d", f"--until={self.until.isoformat()}", f"--output={path}"]
        self._run("cellcast_recover", "--unconfirmed", *options, until_killed=until_killed)
        return len(path.read_text().splitlines()) - 1 if path.exists() else 0

    def take_back(self, path: Path, *, until_killed: Callable[[], bool] | None = None) -> None:
        self._run("cellcast_prune", f"--events-from={path}", until_killed=until_killed)

    def _run(self, name: str, *options: str, until_killed: Callable[[], bool] | None) -> None:
        began_at = time.monotonic()
        process = self.host.start("django", name, *options)
        while process.poll() is None:
            self.peaks[name] = max(self.peaks[name], peak_bytes(process))
            if until_killed is not None and until_killed():
                process.kill()
            time.sleep(0.3)
        assert process.wait() == (0 if until_killed is None else -9), self.host.log[-2_000:]
        self.seconds[name] += time.monotonic() - began_at


# A quick look takes one database: tests/test_take_back.py runs on all of them.
@pytest.mark.parametrize("vendor", VENDORS if SCALE >= 1 else VENDORS[:1])
def test_forged_events_are_found_and_taken_back(
    vendor: str, new_host: Callable[..., Host], tmp_path: Path
) -> None:
    web = new_host(vendor, **SETTINGS)
    database = web.database
    with serving() as api, web.gunicorn(workers=2) as server:
        settings = {"CELLCAST_API_URL": api.url, "CELLCAST_API_KEY": KEY}
        cron = replace(web, settings=web.settings | settings)
        send_all(server, genuine(api))
        newest = database.value("SELECT MAX(id) FROM cellcast_django_webhookevent")
        before = rows(database, newest)

        send_all(server, forged(FORGED // 10))
        few = Commands(cron, datetime.now(UTC))
        assert few.find(tmp_path / "few") == FORGED // 10
        few.take_back(tmp_path / "few")
        assert rows(database, newest) == before

        send_all(server, forged(FORGED))
        many = Commands(cron, datetime.now(UTC))
        with load_on(server.port, clients=2, webhook_of=live, every=0.1) as load:
            asked = len(api.requests)
            path = tmp_path / "forged"
            many.find(path, until_killed=lambda: len(api.requests) > asked)
            assert not path.exists()
            assert many.find(path) == FORGED
            for kill in range(KILLS):
                enough = FORGED - FORGED * kill // KILLS - 1
                many.take_back(path, until_killed=lambda: left(database, newest) <= enough)  # noqa: B023
                path = tmp_path / f"forged after {kill}"
                assert 0 < many.find(path) == left(database, newest)
            many.take_back(path)
    assert left(database, newest) == 0
    assert rows(database, newest) == before
    oracle.check_rules(web)
    assert load.statuses() == {200}
    events = "SELECT COUNT(*) FROM cellcast_django_webhookevent"
    assert database.value(events) == 2 * GENUINE + len(load.answered)
    for name, peak in few.peaks.items():
        assert many.peaks[name] < peak + BYTES_OF_A_BATCH + FORGED * BYTES_AN_EVENT, name
    figures.record(
        f"leaked password, {vendor}",
        forged_events=FORGED,
        found_and_taken_back=FORGED,
        commands_killed=KILLS + 1,
        genuine_events_that_changed=0,
        webhooks_meanwhile=len(load.answered),
        slowest_response=figures.milliseconds(max(each.seconds for _, each in load.answered)),
        **{
            f"{name}_memory": f"{few.peaks[name] / 1e6:.0f} MB with a tenth of them, "
            f"{many.peaks[name] / 1e6:.0f} MB with all"
            for name in few.peaks
        },
        **{f"{name}_seconds": many.seconds[name] for name in many.seconds},
    )


def genuine(api: FakeCellcast) -> list[Webhook]:
    """Return webhooks of Cellcast's, whose lists have what they say."""
    api.page_size = 1_000
    at = timestamp(datetime.now(UTC))
    api.replies = [
        {"from": f"4915{number:05}", "body": "Yes", "received_at": at, "message_id": ""}
        for number in range(GENUINE)
    ]
    for number in range(GENUINE):
        sent = {"status": "sent", "receiver": "61400000001"}
        api.add_report(f"sent {number}", datetime.now(UTC), **sent)
    return [
        Webhook(RECEIVE, [reply(f"reply {number}", number, "Yes") for number in range(GENUINE)]),
        Webhook(STATUS, [report(f"sent {number}", "sent") for number in range(GENUINE)]),
    ]


def forged(count: int) -> list[Webhook]:
    """Return replies that nobody wrote, and reports of messages sent and never sent."""
    webhooks = []
    for start in range(0, count, 2 * A_BODY):
        some = range(start, min(count, start + 2 * A_BODY))
        replies = [reply(f"forged {each}", each % 9_000, f"{each}") for each in some[::2]]
        ids = [f"sent {each}" if each < GENUINE else f"forged {each}" for each in some[1::2]]
        webhooks.append(Webhook(RECEIVE, replies))
        webhooks.append(Webhook(STATUS, [report(each, "delivered") for each in ids]))
    return webhooks


def live(serial: int) -> Webhook:
    """Return one of the webhooks that keep coming."""
    if serial % 2:
        return Webhook(RECEIVE, reply(f"live {serial}", serial % 9_000, "Yes"))
    return Webhook(STATUS, report(f"live {serial}", "delivered"))


def reply(cellcast_id: str, contact: int, text: str) -> dict[str, Any]:
    said = {"_id": cellcast_id, "type": "receive", "status": "received", "message": text}
    return said | {"sender": f"+614915{contact:05}", "receiver": "+61400000999"}


def report(cellcast_id: str, status: str) -> dict[str, Any]:
    said = {"_id": cellcast_id, "type": "send", "status": status}
    return said | {"sender": "cellcast", "receiver": "+61400000001"}


def send_all(server: Server, webhooks: list[Webhook]) -> None:
    for webhook in webhooks:
        assert send(server.port, webhook.encode()).status == 200


def left(database: Database, newest: int) -> int:
    """Return how many forged events there are; ``newest`` is the last genuine one."""
    events = "SELECT COUNT(*) FROM cellcast_django_webhookevent WHERE id >"
    return int(database.value(f"{events} {newest} AND cellcast_id NOT LIKE 'live%'"))


def rows(database: Database, newest: int) -> list[tuple[Any, ...]]:
    """Return what is stored of the genuine webhooks, and of nothing else that is not live."""
    message = "message_id IN (SELECT message_id FROM cellcast_django_webhookevent WHERE id <="
    columns = {
        "webhookevent": "id, message_id, outcome, body",
        "statuschange": "message_id, status, previous_status, applied, event_id, recorded_at",
    }
    found = [
        row
        for table, names in columns.items()
        for row in database.query(
            f"SELECT {names} FROM cellcast_django_{table} WHERE {message} {newest}) ORDER BY id"  # noqa: S608
        )
    ]
    names = "id, cellcast_id, status, status_changed_at, contact, sender, receiver, body"
    return found + database.query(
        f"SELECT {names} FROM cellcast_django_message "  # noqa: S608
        "WHERE cellcast_id NOT LIKE 'live%' ORDER BY id"
    )
