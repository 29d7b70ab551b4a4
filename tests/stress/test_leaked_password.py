"""A leaked password: forged webhooks by the thousand among genuine ones, found and taken back.

The commands are killed in the middle and given again while webhooks keep coming.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fake_cellcast import KEY, FakeCellcast, serving
from tests.stress import oracle
from tests.stress.clients import Webhook, send
from tests.stress.databases import VENDORS, Database
from tests.stress.hosts import Host, Server
from tests.stress.load import load_on
from tests.stress.scale import SCALE, scaled
from tests.stress.storm import reply, report

FORGED = scaled(100_000)
GENUINE = 1_000
"""Replies, and as many reports."""
A_BODY = 1_000
KILLS = 3 if SCALE >= 1 else 1
SETTINGS = {"CELLCAST_MAX_BODY_BYTES": 1_000_000, "FIRE_HANDLERS": []}


class Commands:
    """Runs the two commands, and kills them when told to."""

    def __init__(self, host: Host, until: datetime) -> None:
        self.host = host
        self.until = until

    def find(self, path: Path, *, until_killed: Callable[[], bool] | None = None) -> int:
        """Write a list of what is unconfirmed, and return how many events it names."""
        options = ["--since=1d", f"--until={self.until.isoformat()}", f"--output={path}"]
        self._run("cellcast_recover", "--unconfirmed", *options, until_killed=until_killed)
        return len(path.read_text().splitlines()) - 1 if path.exists() else 0

    def take_back(self, path: Path, *, until_killed: Callable[[], bool] | None = None) -> None:
        self._run("cellcast_prune", f"--events-from={path}", until_killed=until_killed)

    def _run(self, name: str, *options: str, until_killed: Callable[[], bool] | None) -> None:
        process = self.host.start("django", name, *options)
        while process.poll() is None:
            if until_killed is not None and until_killed():
                process.kill()
            time.sleep(0.3)
        assert process.wait() == (0 if until_killed is None else -9), self.host.log[-2_000:]


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

        send_all(server, forged(FORGED))
        commands = Commands(cron, datetime.now(UTC))
        with load_on(server.port, clients=2, webhook_of=live, every=0.1) as load:
            asked = len(api.requests)
            path = tmp_path / "forged"
            commands.find(path, until_killed=lambda: len(api.requests) > asked)
            assert not path.exists()
            assert commands.find(path) == FORGED
            for kill in range(KILLS):
                enough = FORGED - FORGED * kill // KILLS - 1
                commands.take_back(path, until_killed=lambda: left(database, newest) <= enough)  # noqa: B023
                path = tmp_path / f"forged after {kill}"
                assert 0 < commands.find(path) == left(database, newest)
            commands.take_back(path)
    assert left(database, newest) == 0
    assert rows(database, newest) == before
    oracle.check_rules(web)
    assert load.statuses() == {200}
    events = "SELECT COUNT(*) FROM cellcast_django_webhookevent"
    assert database.value(events) == 2 * GENUINE + len(load.answered)


def genuine(api: FakeCellcast) -> list[Webhook]:
    """Return webhooks of Cellcast's, whose lists have what they say."""
    api.page_size = 1_000
    at = datetime.now(UTC)
    for number in range(GENUINE):
        api.add_reply(at, f"4915{number:05}", "Yes")
        sent = {"status": "sent", "receiver": "61400000001"}
        api.add_report(f"sent {number}", datetime.now(UTC), **sent)
    return [
        array(said_by(number, f"reply {number}", "Yes") for number in range(GENUINE)),
        array(report(f"sent {number}", "sent") for number in range(GENUINE)),
    ]


def forged(count: int) -> list[Webhook]:
    """Return replies that nobody wrote, and reports of messages sent and never sent."""
    webhooks = []
    for start in range(0, count, 2 * A_BODY):
        some = range(start, min(count, start + 2 * A_BODY))
        ids = [f"sent {each}" if each < GENUINE else f"forged {each}" for each in some[1::2]]
        replies = (said_by(each % 9_000, f"forged {each}", f"{each}") for each in some[::2])
        webhooks += [array(replies), array(report(each, "delivered") for each in ids)]
    return webhooks


def live(serial: int) -> Webhook:
    """Return one of the webhooks that keep coming."""
    if serial % 2:
        return said_by(serial % 9_000, f"live {serial}", "Yes")
    return report(f"live {serial}", "delivered")


def said_by(contact: int, cellcast_id: str, text: str) -> Webhook:
    return reply(cellcast_id, f"+614915{contact:05}", text)


def array(webhooks: Iterable[Webhook]) -> Webhook:
    """Return one webhook that says what all of these do."""
    said = list(webhooks)
    return Webhook(said[0].path, [each.payload for each in said])


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
