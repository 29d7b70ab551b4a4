"""The example project beside a harsh account of Cellcast's: nothing is lost or told twice."""

import os
import re
from ast import literal_eval
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.stress import oracle, verdicts
from tests.stress.databases import Servers
from tests.stress.hosts import Host, free_port
from tests.stress.scale import scaled
from tests.terminal import Terminal

CUSTOMERS = [f"+614915700{number}" for number in range(50, 88)]
STOPPING = CUSTOMERS[: scaled(10)]
ANSWERS = ["YES", "YES", "No, on Monday", "No, on Friday"]
REPLIES = [(CUSTOMERS[each // 3], ANSWERS[each % 4]) for each in range(scaled(90))]
REPLIES += [(number, "STOP") for number in STOPPING]


@pytest.mark.usefixtures("new_host")  # which lets this process ask the database
@pytest.mark.parametrize("seed", range(1, 1 + scaled(10)))
@pytest.mark.parametrize("vendor", ["postgresql", "sqlite"])
def test_site_holds_exactly_what_a_harsh_account_says(
    vendor: str, seed: int, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = servers.new_database(vendor)
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("CELLCAST_WEBHOOK_SECRETS", "cellcast:a-long-enough-password")
    site = Host(tmp_path, database, project="tests.stress.projects.example")
    site.manage("migrate", "--verbosity=0")
    with site.gunicorn() as server:
        options = f"--url=http://127.0.0.1:{server.port}", f"--port={free_port()}"
        program = "manage.py", "cellcast_simulate", f"--harsh={seed}", *options
        with Terminal(*program, DEBUG="1") as screen:
            screen.type("help")
            text = screen.read_until("refused by the gateway")
            for name, value in re.findall(r"^  (CELLCAST_\w+)=(\S+)", text, re.MULTILINE):
                monkeypatch.setenv(name, value)
            special = re.findall(r"^  (04\d{8})  ", text, re.MULTILINE)
            outcomes = send_and_reply(site, screen, [*special, *CUSTOMERS] * 6)
            brought, stopped = oracle.stored_histories(database), oracle.stored_opt_outs(database)
            site.manage("cellcast_recover")
            site.manage("cellcast_run_handlers")
            messages = ask("GET", "/api/v2/report/message?campType=sms&limit=1000")["items"]
            refusal = ask("POST", "/api/v1/gateway", contacts=STOPPING, message="At nine?")
            screen.press_ctrl_c()
            end = screen.read_until_quiet(5).partition("A site that lost nothing")[2]

    # What the account says that it had, and what of that no webhook has brought
    statuses = {("outbound", each["_id"]): each["status"] for each in messages}
    unknown = sum(statuses[each] not in brought.get(each, ()) for each in statuses)
    lost = len(REPLIES) - sum(direction == "inbound" for direction, *_ in brought)
    total = [len(messages), len(REPLIES), len(STOPPING)]
    said = [int(figure) for figure in re.findall(r"\d+", end)]
    assert said == [*total, unknown, lost, len(STOPPING) - len(stopped)]
    assert outcomes["sent"] + outcomes["ApiError"] == len(messages)
    assert refusal["unsubscribeContacts"] == STOPPING
    assert remind(site, STOPPING) == {"OptedOutError": len(STOPPING)}

    # What the site has of it, and that its handlers were called for each fact, and never again
    sms = [(f"+61{each['receiver']}", each["message"]) for each in messages]
    held = database.query("SELECT contact, body FROM cellcast_django_message")
    assert Counter(held) == Counter(sms + REPLIES)
    sent = {each: status for each, status in oracle.stored_statuses(database) if each in statuses}
    assert sent == statuses
    assert oracle.stored_opt_outs(database) == set(STOPPING)
    oracle.check_rules(site)
    verdicts.assert_heard_by_every_handler(site)
    calls = Counter((each.handler, each.event, each.fact) for each in site.calls())
    assert set(calls.values()) == {2}, "it began, and it has finished"
    assert sum(fact[0] == "message_received" for *_, fact in calls) == 2 * len(REPLIES)
    assert database.value("SELECT MAX(attempts) FROM cellcast_django_handlercall") == 1
    site.assert_log_is_clean()


def send_and_reply(site: Host, screen: Terminal, numbers: list[str]) -> Counter[str]:
    """Send while customers reply, and wait for the last webhook; return what came of sending."""
    with ThreadPoolExecutor() as threads:
        reminding = threads.submit(remind, site, numbers[: scaled(306)])
        for place, (number, answer) in enumerate(REPLIES):
            if answer == "STOP":
                reminding.result()  # a reminder would be refused
            screen.type(f"{number} {answer}")
            screen.read_until_quiet(0.05)
            if place % 10 == 0:
                site.manage("cellcast_run_handlers")
    screen.read_until_quiet(11)  # a report comes within five seconds, its webhook in five more
    site.manage("cellcast_run_handlers")
    return reminding.result()


def remind(site: Host, numbers: list[str]) -> Counter[str]:
    code = f"from tests.stress.reminding import *; remind_customers(*{numbers})"
    return Counter(literal_eval(site.manage("shell", "--verbosity=0", f"--command={code}")))


def ask(method: str, path: str, **fields: Any) -> Any:
    """Return the data of the account's response."""
    url, key = (os.environ[f"CELLCAST_API_{name}"] for name in ("URL", "KEY"))
    headers = {"Authorization": f"Bearer {key}"}
    return urllib3.request(method, url + path, headers=headers, json=fields or None).json()["data"]
