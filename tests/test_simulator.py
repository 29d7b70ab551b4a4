"""The simulated account: round the loop, what becomes of an SMS, and what it refuses."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from socket import create_connection
from typing import Any

import pytest
import urllib3

from cellcast_django import api
from cellcast_django.api import NotSentError
from cellcast_django.models import Message, WebhookEvent
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.payloads import Endpoint
from cellcast_django.recovery import recover
from cellcast_django.sending import OptedOutError, send
from cellcast_django.signals import message_received
from cellcast_django.simulator import (
    ACCOUNT,
    FATES,
    GATEWAY,
    OPT_OUTS,
    REPLIES,
    REPORTS,
    Item,
    Simulator,
)
from cellcast_django.statuses import UNDELIVERED
from cellcast_django.testing import WebhookClient
from tests.handlers import Calls, connected

CUSTOMER = "+61491570006"
OWN = "+61491579212"

Ask = Callable[..., tuple[int, Item]]


class Account(Simulator):
    """An account that keeps its webhooks here, and whose clock stands."""

    def __init__(self) -> None:
        super().__init__(deliver=self.keep, now=lambda: self.at)
        self.at = datetime.fromisoformat("2026-11-30T23:59:59.999+00:00")
        self.webhooks: list[Item] = []
        self.kept = set(Endpoint)

    def keep(self, endpoint: Endpoint, payload: Item) -> bool:
        self.webhooks.append(payload)
        return endpoint in self.kept


@pytest.fixture
def account() -> Iterator[Account]:
    with Account() as account:
        yield account


@pytest.fixture
def ask(account: Simulator) -> Iterator[Ask]:
    """Ask the API; return the status and the document."""
    with urllib3.PoolManager() as pool:

        def request(call: str, body: Any = None, key: str = account.key) -> tuple[int, Item]:
            method, path = call.split()
            encoded = body if isinstance(body, bytes | None) else json.dumps(body)
            headers = {"Authorization": f"Bearer {key}"}
            response = pool.request(method, account.url + path, body=encoded, headers=headers)
            return response.status, response.json()

        yield request


def sms(*contacts: str, **changes: Any) -> Item:
    return {"message": "At nine?", "contacts": list(contacts) or [CUSTOMER], **changes}


# Round the loop, on a site


@pytest.mark.django_db
def test_message_is_sent_reported_and_answered(cellcast_account: Simulator) -> None:
    message = send(CUSTOMER, "At nine?", sender=OWN, reference="order-7")
    assert cellcast_account.sent == [(CUSTOMER, "At nine?", OWN, "order-7", message.cellcast_id)]
    assert not WebhookEvent.objects.exists()

    cellcast_account.send_reports()
    cellcast_account.reply("0491570006", "YES")

    message.refresh_from_db()
    assert message.status == "delivered"
    reply = Message.objects.inbound().get()
    assert (reply.contact, reply.body, reply.own_number) == (CUSTOMER, "YES", OWN)
    assert reply.in_reply_to == message


@pytest.mark.django_db
def test_stop_opts_out_and_the_gateway_refuses_the_number(cellcast_account: Simulator) -> None:
    cellcast_account.reply(CUSTOMER, "Stop it, please")
    assert is_opted_out(CUSTOMER), "by the opt-out webhook: the text is no stop word"
    with pytest.raises(OptedOutError):
        api.send_sms(CUSTOMER, "At nine?")
    assert cellcast_account.sent == []


@pytest.mark.django_db
def test_lost_webhooks_are_recovered(cellcast_account: Simulator) -> None:
    message = send("+61491575789", "At nine?")
    cellcast_account.send_reports()
    for text in "YES", "YES", "STOP":
        cellcast_account.reply(CUSTOMER, text, webhook=False)
    assert not WebhookEvent.objects.exists()

    recover()

    message.refresh_from_db()
    assert message.status == "delivered"
    bodies = Message.objects.inbound().values_list("body", flat=True)
    assert sorted(bodies) == ["STOP", "YES", "YES"]
    assert is_opted_out(CUSTOMER)
    recover()
    assert WebhookEvent.objects.count() == 4


@pytest.mark.django_db
def test_handlers_exception_is_the_tests(
    cellcast_account: Simulator, cellcast: WebhookClient
) -> None:
    cellcast.raise_handler_errors = True
    handler = Calls(error=ValueError("not today"))
    with connected(message_received, handler=handler), pytest.raises(ValueError, match="not today"):
        cellcast_account.reply(CUSTOMER, "YES", media=["https://media.example.com/1.jpg"])
    assert Message.objects.get().media == ["https://media.example.com/1.jpg"]


@pytest.mark.django_db
def test_next_send_fails_as_told(cellcast_account: Simulator) -> None:
    cellcast_account.fail_next(422)
    cellcast_account.fail_next(500, is_sent=True)
    with pytest.raises(NotSentError, match="balance is too low"):
        send(CUSTOMER, "At nine?")
    with pytest.raises(api.ApiError):
        send(CUSTOMER, "At nine?")
    send(CUSTOMER, "At ten?")
    assert [each.body for each in cellcast_account.sent] == ["At nine?", "At ten?"]
    cellcast_account.send_reports()
    assert Message.objects.filter(status="delivered").count() == 2


def test_fixture_without_urllib3_names_the_extra(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "urllib3", None)
    with pytest.raises(pytest.fail.Exception, match=r'pip install "cellcast-django\[api\]"'):
        request.getfixturevalue("cellcast_account")


# What becomes of an SMS


@pytest.mark.parametrize(("number", "fate"), FATES.items())
def test_receiver_decides_what_becomes_of_an_sms(
    account: Account, ask: Ask, number: str, fate: Any
) -> None:
    assert ask(f"POST {GATEWAY}", sms(number))[0] == fate.response
    is_sent = fate.response != 400
    assert account.webhooks == [] and len(account.sent) == is_sent
    account.send_reports()
    if fate.seconds:
        assert [each["status"] for each in account.webhooks] == ["sent"]
        account.at += timedelta(seconds=fate.seconds)
        account.send_reports()
    reported = [(each["status"], each.get("reason", "")) for each in account.webhooks]
    assert reported[bool(fate.seconds) :] == [(fate.status, fate.reason)] * is_sent * fate.webhook
    assert ask(f"GET {REPORTS}/1")[0] == 404
    if is_sent:
        _, document = ask(f"GET {REPORTS}/{account.sent[0].cellcast_id}")
        assert document["data"]["status"] == fate.status


def test_table_has_each_kind_of_failure_with_its_reason() -> None:
    assert {fate.status for fate in FATES.values() if fate.reason} == UNDELIVERED


# The API


def test_bulk_tells_the_contacts_apart(ask: Ask, account: Account) -> None:
    for _ in range(2):
        account.opt_out("0491570156")
    assert ask(f"GET {OPT_OUTS}")[1]["data"]["total"] == 1
    contacts = ["61491570006", "491570157", "+61491570156", "12345"]
    _, document = ask(f"POST {GATEWAY}", sms(*contacts, replyStopToOptOut=True))
    data = document["data"]
    assert [each["Contact"] for each in data["queueResponse"]] == contacts[:2]
    assert data["unsubscribeContacts"] == contacts[2:3]
    assert [each["Contact"] for each in data["invalidContacts"]] == contacts[3:]
    assert {each.body for each in account.sent} == {"At nine? - Reply STOP to optout"}
    assert ask(f"GET {ACCOUNT}")[1]["data"]["sms_balance"] == 1_498
    cellcast_id = account.sent[0].cellcast_id
    assert int(cellcast_id[:8], 16) == 1_796_083_199 and len(cellcast_id) == 24


def test_reports_are_listed_by_campaign_and_day(ask: Ask) -> None:
    ask(f"POST {GATEWAY}", sms())
    for query, count in {
        "campType=mms": 0,
        "campType=sms&fromDate=2026-11-30&toDate=2026-11-30": 1,
        "campType=sms&fromDate=2026-12-01": 0,
        "campType=sms&toDate=2026-11-29": 0,
    }.items():
        assert ask(f"GET {REPORTS}?{query}")[1]["data"]["total"] == count, query


@pytest.mark.parametrize(
    ("query", "size"),
    [(f"{REPLIES}?", 50), (f"{OPT_OUTS}?size=10", 10), (f"{REPORTS}?limit=20", 20)],
)
def test_lists_come_in_pages_newest_first(
    ask: Ask, account: Account, query: str, size: int
) -> None:
    for number in range(53):
        account.reply(f"+614915{70_000 + number}", "stop")
        account._send(sms(f"+614914{70_000 + number}"))
    seen, pages = [], -(-53 // size)
    for page in range(1, pages + 2):
        _, document = ask(f"GET {query}&campType=sms&page={page}")
        assert (document["data"]["current"], document["data"]["totalPages"]) == (page, pages)
        seen += document["data"]["items"]
    keys = [each.get("received_at") or each.get("_id") or "" for each in seen]
    assert len(seen) == 53 and keys == sorted(keys, reverse=True)
    assert OPT_OUTS in query or len(set(keys)) == 53, "each reply has a time of its own"


@pytest.mark.parametrize(
    ("status", "call", "body"),
    [
        (400, f"POST {GATEWAY}", b"{"),
        (400, f"POST {GATEWAY}", b"[]"),
        (400, f"POST {GATEWAY}", {"contacts": [CUSTOMER]}),
        (400, f"POST {GATEWAY}", {"message": "At nine?"}),
        (400, f"POST {GATEWAY}", sms(message=5)),
        (400, f"POST {GATEWAY}", sms(contacts=CUSTOMER)),
        (400, f"POST {GATEWAY}", sms(*[CUSTOMER] * 1_001)),
        (400, f"POST {GATEWAY}", sms(sender="x" * 12)),
        (400, f"POST {GATEWAY}", sms(sender="1" * 17)),
        (422, f"POST {GATEWAY}", sms(*[CUSTOMER] * 1_000)),
        (400, f"GET {OPT_OUTS}?page=x", None),
        (404, "GET /api/v3/inbound", None),
        (404, f"PUT {REPLIES}", None),
    ],
)
def test_what_cellcast_would_refuse_is_refused(
    ask: Ask, account: Account, capfd: Any, status: int, call: str, body: Any
) -> None:
    account._credit = 999
    found, document = ask(call, body)
    message = document.get("message") or document["error"]["errorMessage"]
    assert found == status and message
    assert status != 404 or (call in message and "api-docs" in message)
    assert account.sent == []
    status, document = ask(call, body, key="another")
    assert status == 401 and ("meta" in document) == ("apiClient" in call) != ("code" in document)
    assert capfd.readouterr().err == "", "no traceback"


def test_odd_length_is_refused(account: Account) -> None:
    with closing(create_connection(("127.0.0.1", int(account.url.rpartition(":")[2])))) as client:
        client.sendall(f"POST {GATEWAY} HTTP/1.1\r\nContent-Length: x\r\n\r\n".encode())
        assert client.recv(1_000).startswith(b"HTTP/1.0 400 ")


def test_threads_lose_nothing(ask: Ask, account: Account) -> None:
    def work(number: int) -> None:
        assert ask(f"POST {GATEWAY}", sms(f"+614915{70_000 + number}"))[0] == 200
        account.reply(f"+614915{70_000 + number}", "YES")
        account.send_reports()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert len({each["_id"] for each in account.webhooks}) == len(account.webhooks) == 80


# Harsh


def happens(seed: str) -> tuple[list[int], list[str]]:
    """Return what a harsh gateway answers, and its webhooks in their order, without ids."""
    account = Account()
    account.seed = seed
    statuses = [account._send(sms(CUSTOMER))[0] for _ in range(30)]
    for number in range(30):
        account.reply(f"+614915{70_010 + number}", "YES")
    for _ in range(20):
        account.at += timedelta(seconds=1)
        account.send_reports()
    return statuses, [str(each | {"_id": ""}) for each in account.webhooks]


def test_seed_decides_what_is_lost_doubled_and_late() -> None:
    statuses, webhooks = happens("7")
    assert (statuses, webhooks) == happens("7") != happens("8")
    assert set(statuses) == {200, 500}
    replies = [each for each in webhooks if "YES" in each]
    assert replies != sorted(replies), "late"
    assert 0 < len(set(replies)) < min(30, len(replies)), "some came twice, and some never"
    assert 0 < sum("delivered" in each and "send" in each for each in webhooks) != 30


@pytest.mark.parametrize(
    ("kept", "unknown"),
    [
        ({"receive", "status", "opt_out"}, [0, 0, 0]),
        ({"receive"}, [2, 0, 1]),  # the site knows STOP, and not what only begins so
        ({"status", "opt_out"}, [0, 3, 0]),
    ],
)
def test_account_counts_what_no_kept_webhook_has_told(kept: set[Any], unknown: list[int]) -> None:
    account = Account()
    account.kept = kept
    account._send(sms(CUSTOMER, "+61491570156"))
    account.send_reports()
    for number, text in (CUSTOMER, "YES"), (CUSTOMER, "STOP"), ("+61491570156", "Stop it, please"):
        account.reply(number, text)
    assert account.counts() == [*zip([2, 3, 2], unknown, strict=True)]
    account.report(account.sent[0].cellcast_id, "failed", webhook=False)
    assert account.counts()[0] == (2, max(1, unknown[0]))
