"""How many statements each kind of webhook takes: each one is a round trip and CPU time.

``benchmarks/README.md`` gives the reason for each of them.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.testing import WebhookClient, status_payload
from tests.handlers import SIGNALS, Listen

pytestmark = pytest.mark.django_db(transaction=True)

Send = Callable[[WebhookClient], Any]

LETTERS = {
    "BEGIN": "B",
    "COMMIT": "C",
    "INSERT": "I",
    "SELECT": "S",
    "UPDATE": "U",
    "SET": "",  # a limit of lock waits
    "PRAGMA": "",
}


# The webhooks


def report(status: str = "delivered", **changes: Any) -> Send:
    return lambda client: client.status(_id="1", status=status, **changes)


def reply(**changes: Any) -> Send:
    return lambda client: client.reply(_id="1", **changes)


stop = reply(message="STOP")


def opt_out(client: WebhookClient) -> Any:
    return client.opt_out()


def invalid(client: WebhookClient) -> Any:
    return client.status(_id="")


def forty_reports(client: WebhookClient) -> Any:
    return client.webhook([status_payload(_id=f"{n:024x}") for n in range(40)], "status")


def wrong_password(client: WebhookClient) -> Any:
    return client.post("/sms/webhook-status", b"{}", content_type="application/json")


def too_large(client: WebhookClient) -> Any:
    return client.webhook(b" " * 300_000, "status")


def probe(client: WebhookClient) -> Any:
    return client.get("/sms/webhook-status")


def record_sent(_client: WebhookClient) -> None:
    Message.objects.record_sent("1", receiver="+61400000000", body="Hello")


# The budget


class Budget(NamedTuple):
    """A webhook, what has come before it, and the letters of its statements.

    They are the same on every database. ``S`` after the first ``I``: the message is there.
    """

    kind: str
    before: list[Send]
    webhook: Send
    letters: str
    run: str = ""
    """What running the handlers takes after that."""


WITHOUT_HANDLER = [
    Budget("new report", [], report(), "BIIIC"),
    Budget("new reply", [], reply(), "BISIIC"),
    Budget("report on a recorded message", [record_sent], report(), "BISIIUC"),
    Budget("later status", [report("failed")], report(), "BISSIIUC"),
    Budget("late status", [report()], report("failed"), "BISSIIC"),
    Budget("duplicate report", [report()], report(), "BISSIC"),
    Budget("duplicate reply", [reply()], reply(), "BISSIC"),
    Budget("unknown status, later", [report()], report("seen"), "BISSIIC"),
    Budget("status of a reply", [reply(status="received")], reply(), "BISSIIUC"),
    Budget("picture", [], reply(media=["https://media.example.com/1.jpg"]), "BISIIC"),
    Budget("opt-out", [], opt_out, "BIIIUC"),
    Budget("opt-out again", [opt_out], opt_out, "BISIC"),
    Budget("stop word", [], stop, "BISIIIIUC"),
    Budget("stop word again", [stop], stop, "BISSISIC"),
    Budget("invalid", [], invalid, "BIC"),
    Budget("40 reports", [], forty_reports, "B" + "I" * 40 + "IIC"),
    Budget("40 duplicates", [forty_reports], forty_reports, "B" + "ISS" * 40 + "IC"),
    Budget("wrong password", [], wrong_password, ""),
    Budget("too large", [], too_large, ""),
    Budget("probe", [], probe, ""),
]

WITH_ONE_HANDLER = [
    Budget("new report", [], report(), "BIIIIC", "U"),
    Budget("new reply", [], reply(), "BISIIIC", "U"),
    Budget("later status", [report("failed")], report(), "BISSIIUIC", "U"),
    Budget("duplicate report", [report()], report(), "BISSIC"),
    Budget("opt-out", [], opt_out, "BIIIUIC", "U"),
    Budget("stop word", [], stop, "BISIIIIUIC", "UUU"),
    # Only the first call is stored as begun.
    Budget("40 reports", [], forty_reports, "B" + "I" * 40 + "IIIC", "U" + "UU" * 39),
]


@pytest.fixture(autouse=True)
def _warm_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm up: what a connection needs once is not part of a webhook's cost if it is kept open."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    report()(WebhookClient())
    Message.objects.all().delete()


def letters_of(budget: Budget) -> str:
    """Send what comes before, then the webhook, and return the letters of its statements."""
    for model in (OptOut, WebhookEvent, Message):
        model._default_manager.all().delete()
    client = WebhookClient()
    for send in budget.before:
        send(client)
    with CaptureQueriesContext(connection) as queries:
        budget.webhook(client)
    return "".join(letter_of(query["sql"]) for query in queries)


def letter_of(sql: str) -> str:
    return LETTERS[re.sub("^SET STATEMENT .*? FOR ", "", sql).split(maxsplit=1)[0]]


def test_webhook_without_a_handler_stays_within_its_budget() -> None:
    taken = {budget.kind: letters_of(budget) for budget in WITHOUT_HANDLER}
    assert taken == {budget.kind: budget.letters + budget.run for budget in WITHOUT_HANDLER}


def test_webhook_with_one_handler_stays_within_its_budget(listen: Listen) -> None:
    for signal in SIGNALS:
        listen(signal)
    taken = {budget.kind: letters_of(budget) for budget in WITH_ONE_HANDLER}
    assert taken == {budget.kind: budget.letters + budget.run for budget in WITH_ONE_HANDLER}
