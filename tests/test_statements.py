"""How many statements each kind of webhook costs: every one more is a round trip and CPU time.

``docs/performance.md`` gives the reason for each of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cellcast_django import inbox
from cellcast_django.models import Message
from cellcast_django.signals import (
    FactSignal,
    message_received,
    opt_out_received,
    status_changed,
)
from cellcast_django.testing import WebhookClient, status_payload

pytestmark = pytest.mark.django_db(transaction=True)

Send = Callable[[WebhookClient], Any]
Listen = Callable[[FactSignal], Any]

LETTERS = {
    "BEGIN": "B",
    "COMMIT": "C",
    "EXECUTE": "E",  # on PostgreSQL, of what was prepared before
    "INSERT": "I",
    "PREPARE": "",
    "SELECT": "S",
    "UPDATE": "U",
}


# The webhooks


def report(status: str = "delivered") -> Send:
    return lambda client: client.status(_id="1", status=status)


def reply(**changes: Any) -> Send:
    return lambda client: client.reply(_id="1", **changes)


def opt_out(client: WebhookClient) -> Any:
    return client.opt_out()


def invalid(client: WebhookClient) -> Any:
    return client.status(_id="")


def fifty_reports(client: WebhookClient) -> Any:
    return client.send("webhook-status", [status_payload(_id=f"{n:024x}") for n in range(50)])


def wrong_password(client: WebhookClient) -> Any:
    return client.post("/sms/webhook-status", b"{}", content_type="application/json")


def too_large(client: WebhookClient) -> Any:
    return client.send("webhook-status", b" " * 300_000)


def probe(client: WebhookClient) -> Any:
    return client.get("/sms/webhook-status")


def record_sent(_client: WebhookClient) -> None:
    Message.objects.record_sent("1", receiver="+61400000000", body="Hello")


# The budget


class Budget(NamedTuple):
    """A webhook, what has come before it, and the letters of its statements on each database."""

    kind: str
    before: list[Send]
    webhook: Send
    postgresql: str
    sqlite: str
    mariadb: str
    portable: str = ""

    def letters(self) -> str:
        return str(getattr(self, "mariadb" if connection.vendor == "mysql" else connection.vendor))


WITHOUT_HANDLER = [
    Budget("new report", [], report(), "E", "IS", "E", "BISIIUC"),
    Budget("new reply", [], reply(), "E", "IS", "E", "BISIIUC"),
    Budget("report on a recorded message", [record_sent], report(), "E", "IS", "E", "BISIIUC"),
    Budget("later status", [report("failed")], report(), "E", "IS", "E", "BISSIIUC"),
    Budget("late status", [report()], report("failed"), "E", "IS", "E", "BISSIIUC"),
    Budget("duplicate report", [report()], report(), "E", "IS", "E", "BISSIC"),
    Budget("duplicate reply", [reply()], reply(), "E", "IS", "E", "BISSIC"),
    Budget("unknown status", [], report("seen"), *["BISIIUC"] * 4),
    Budget("unknown status, later", [report()], report("seen"), *["BISSIIUC"] * 4),
    Budget(
        "status of a reply", [reply(status="received")], reply(message=None), *["SBISSIIUC"] * 4
    ),
    Budget("opt-out", [], opt_out, *["BIC"] * 4),
    Budget("invalid", [], invalid, *["BIC"] * 4),
    Budget("50 reports", [], fifty_reports, *["BISIIUC"] * 4),
    Budget("50 duplicates", [fifty_reports], fifty_reports, *["BISSIC"] * 4),
    Budget("wrong password", [], wrong_password, *[""] * 4),
    Budget("too large", [], too_large, *[""] * 4),
    Budget("probe", [], probe, *[""] * 4),
]

# What stands behind "E" or "C" belongs to the announcement.
WITH_ONE_HANDLER = [
    Budget("new report", [], report(), "EE", "ISU", "EU"),
    Budget("new reply", [], reply(), "EE", "ISU", "EU"),
    Budget("report on a recorded message", [record_sent], report(), "ESE", "ISSU", "ESU"),
    Budget("later status", [report("failed")], report(), "ESE", "ISSU", "ESU"),
    Budget("late status", [report()], report("failed"), "ESE", "ISSU", "ESU"),
    Budget("duplicate report", [report()], report(), "E", "IS", "E"),
    Budget("duplicate reply", [reply()], reply(), "E", "IS", "E"),
    Budget("opt-out", [], opt_out, "BICE", "BICU", "BICU"),
    Budget("invalid", [], invalid, *["BIC"] * 3),
    Budget("50 reports", [], fifty_reports, "BISIIUC" + "E" * 50, *["BISIIUC" + "U" * 50] * 2),
]


@pytest.fixture(autouse=True)
def _warm_connection() -> None:
    """What a connection needs once is not what a webhook costs."""
    report()(WebhookClient())
    Message.objects.all().delete()


def letters_of(budget: Budget) -> str:
    """Send what comes before, then the webhook, and return the letters of its statements."""
    client = WebhookClient()
    for send in budget.before:
        send(client)
    with CaptureQueriesContext(connection) as queries:
        budget.webhook(client)
    return "".join(letter_of(query["sql"]) for query in queries)


def letter_of(sql: str) -> str:
    if sql.startswith("BEGIN NOT ATOMIC"):  # on MariaDB, several statements sent as one
        return "E"
    word, *_ = sql.split()
    return LETTERS[word]


@pytest.mark.parametrize("budget", WITHOUT_HANDLER, ids=lambda budget: budget.kind)
def test_without_handler(budget: Budget) -> None:
    assert letters_of(budget) == budget.letters()


@pytest.mark.parametrize("budget", WITHOUT_HANDLER, ids=lambda budget: budget.kind)
def test_portable_way(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "WRITERS", {})
    assert letters_of(budget) == budget.portable


@pytest.mark.parametrize("budget", WITH_ONE_HANDLER, ids=lambda budget: budget.kind)
def test_with_one_handler(budget: Budget, listen: Listen) -> None:
    for signal in (message_received, status_changed, opt_out_received):
        listen(signal)
    assert letters_of(budget) == budget.letters()


def test_each_further_handler_costs_one_update(listen: Listen) -> None:
    for _ in range(3):
        listen(status_changed)
    [new_report] = [budget for budget in WITH_ONE_HANDLER if budget.kind == "new report"]
    assert letters_of(new_report) == new_report.letters() + new_report.letters()[-1] * 2
