"""Past events: a command that gives them to a new handler, killed again and again, beside webhooks.

The handler "first" is new and ``in_order``; "second" had them before, and is not called again.
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.stress import figures
from tests.stress.clients import RECEIVE, Webhook, send
from tests.stress.databases import VENDORS
from tests.stress.hosts import Host, wait_for
from tests.stress.load import load_on
from tests.stress.scale import SCALE, scaled

pytestmark = pytest.mark.stress

BODIES = scaled(100)
EVENTS_OF_A_BODY = 1_000
CONTACTS = 2_000
KILLS = 5
LIVE = {"CELLCAST_MAX_BODY_BYTES": 1_000_000, "CELLCAST_HANDLER_LEASE": 3}
COMMAND = ("django", "cellcast_run_handlers", "--again", "first", "--since", "1d")


# A quick look takes one database: tests/test_past_events.py runs on all of them.
@pytest.mark.parametrize("vendor", VENDORS if SCALE >= 1 else VENDORS[:1])
def test_killed_command_gives_each_event_in_order(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    old = new_host(vendor, FIRE_HANDLERS=[], **LIVE)
    with old.gunicorn(workers=1) as server:
        for number in range(BODIES):
            assert send(server.port, body(number).encode()).status == 200
    host = replace(old, settings={"FIRE_IN_ORDER": ["first"], **LIVE})
    stored = BODIES * EVENTS_OF_A_BODY
    chance = random.Random(vendor)  # noqa: S311
    with host.gunicorn(workers=2) as server, load_on(server.port, clients=2) as load:
        began_at = time.monotonic()
        for kill in range(1, KILLS + 1):
            process = host.start(*COMMAND)
            enough = stored * kill * chance.uniform(0.7, 1) / (KILLS + 1)
            wait_for(lambda: past_calls(host) >= enough, seconds=1_200, pause=0.3)  # noqa: B023
            process.kill()
            process.wait()
        host.start(*COMMAND).wait(timeout=1_200)
        seconds = time.monotonic() - began_at
    assert load.statuses() == {200}

    heard: defaultdict[str, list[int]] = defaultdict(list)
    for call in host.calls():
        if call.phase == "end" and call.fact[-1].isdecimal():
            assert call.handler == "first", "the other one is not called for them"
            heard[call.fact[3]].append(int(call.fact[-1]))
    repeated = sum(map(len, heard.values())) - stored
    assert 0 <= repeated <= KILLS, "only the calls that were cut off"
    for texts in heard.values():
        assert texts == sorted(texts)
    assert sum(len(set(texts)) for texts in heard.values()) == stored
    figures.record(
        f"past events, {vendor}",
        events=stored,
        command_killed=KILLS,
        calls_repeated_because_they_were_cut_off=repeated,
        events_out_of_order=0,
        events_a_second=round(stored / seconds),
        webhooks_meanwhile=len(load.answered),
        webhooks_a_second=round(len(load.answered) / seconds),
        slowest_response=figures.milliseconds(
            max(response.seconds for _, response in load.answered)
        ),
    )


def body(number: int) -> Webhook:
    """Return replies of many contacts, each with its number as the text."""
    serials = range(number * EVENTS_OF_A_BODY, (number + 1) * EVENTS_OF_A_BODY)
    replies = [
        {
            "_id": f"past {serial}",
            "type": "receive",
            "status": "received",
            "message": str(serial),
            "sender": f"+614915{serial % CONTACTS:05}",
            "receiver": "+61400000999",
        }
        for serial in serials
    ]
    return Webhook(RECEIVE, replies)


def past_calls(host: Host) -> int:
    """Return how many calls for past events have ended."""
    noted = host.folder / "calls.jsonl"
    lines = noted.read_text() if noted.exists() else ""
    return sum('"past ' in line and '"end"' in line for line in lines.splitlines())
