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
from django.utils import timezone

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
    Simulator,
)
from cellcast_django.statuses import UNDELIVERED
from cellcast_django.testing import WebhookClient
from tests.handlers import Calls, connected

CUSTOMER = "+61491570006"
OWN = "+61491579212"
RECOVERY_TIME = timedelta(minutes=-20)

Ask = Callable[..., tuple[int, dict[str, Any]]]
Webhooks = list[tuple[Endpoint, dict[str, Any]]]


@pytest.fixture
def webhooks() -> Webhooks:
    """Those that the account has sent."""
    return []


@pytest.fixture
def account(webhooks: Webhooks) -> Iterator[Simulator]:
    with Simulator(deliver=lambda *webhook: webhooks.append(webhook)) as account:
        yield account


@pytest.fixture
def ask(account: Simulator) -> Iterator[Ask]:
    """Ask the API; return the status and the document."""
    with urllib3.PoolManager() as pool:

        def request(method: str, path: str, body: Any = None, **changes: str) -> Any:
            headers = {"Authorization": f"Bearer {changes.pop('key', account.key)}"}
            encoded = body if body is None or isinstance(body, bytes) else json.dumps(body)
            url = f"{account.url}{path}"
            response = pool.request(method, url, body=encoded, headers=headers)
            return response.status, response.json()

        yield request


def sms(*contacts: str, **changes: Any) -> dict[str, Any]:
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


@pytest.mark.parametrize("number", FATES)
def test_receiver_decides_what_becomes_of_an_sms(
    webhooks: Webhooks, ask: Ask, account: Simulator, number: str
) -> None:
    fate, now = FATES[number], timezone.now()
    account._now = lambda: now
    status, _document = ask("POST", GATEWAY, sms(number))
    account.send_reports()
    assert status == fate.response
    is_sent = status != 400
    assert len(account.sent) == is_sent

    if fate.seconds:
        assert [payload["status"] for _, payload in webhooks] == ["sent"]
        now += timedelta(seconds=fate.seconds)
        account.send_reports()
    reported = [(payload["status"], payload.get("reason", "")) for _, payload in webhooks]
    assert reported[bool(fate.seconds) :] == [(fate.status, fate.reason)] * (
        is_sent and fate.webhook
    )
    assert ask("GET", f"{REPORTS}/1")[0] == 404
    if is_sent:
        _, document = ask("GET", f"{REPORTS}/{account.sent[0].cellcast_id}")
        assert document["data"]["status"] == fate.status


def test_table_has_each_kind_of_failure_with_its_reason() -> None:
    assert {fate.status for fate in FATES.values() if fate.reason} == UNDELIVERED


# The API


def test_bulk_tells_the_contacts_apart(ask: Ask, account: Simulator) -> None:
    for _ in range(2):
        account.opt_out("0491570156")
    assert ask("GET", OPT_OUTS)[1]["data"]["total"] == 1
    contacts = ["61491570006", "491570157", "+61491570156", "12345"]
    _, document = ask("POST", GATEWAY, sms(*contacts, replyStopToOptOut=True))
    data = document["data"]
    assert [each["Contact"] for each in data["queueResponse"]] == contacts[:2]
    assert data["unsubscribeContacts"] == contacts[2:3]
    assert [each["Contact"] for each in data["invalidContacts"]] == contacts[3:]
    assert {each.body for each in account.sent} == {"At nine? - Reply STOP to optout"}
    _, document = ask("GET", ACCOUNT)
    assert document["data"]["sms_balance"] == 1_498


def test_reports_are_listed_by_campaign_and_day(ask: Ask, account: Simulator) -> None:
    account._now = lambda: datetime.fromisoformat("2026-11-30T23:59:59.999+00:00")
    ask("POST", GATEWAY, sms())
    for query, count in {
        "campType=mms": 0,
        "campType=sms&fromDate=2026-11-30&toDate=2026-11-30": 1,
        "campType=sms&fromDate=2026-12-01": 0,
        "campType=sms&toDate=2026-11-29": 0,
    }.items():
        assert len(ask("GET", f"{REPORTS}?{query}")[1]["data"]["items"]) == count, query
    cellcast_id = account.sent[0].cellcast_id
    assert int(cellcast_id[:8], 16) == 1_796_083_199 and len(cellcast_id) == 24


@pytest.mark.parametrize(
    ("query", "size"),
    [(f"{REPLIES}?", 50), (f"{OPT_OUTS}?size=10", 10), (f"{REPORTS}?limit=20", 20)],
)
def test_lists_come_in_pages_newest_first(
    ask: Ask, account: Simulator, query: str, size: int
) -> None:
    for number in range(53):
        account.reply(f"+614915{70_000 + number}", "stop")
        ask("POST", GATEWAY, sms(f"+614914{70_000 + number}"))
    seen, pages = [], -(-53 // size)
    for page in range(1, pages + 2):
        _, document = ask("GET", f"{query}&campType=sms&page={page}")
        assert (document["data"]["current"], document["data"]["totalPages"]) == (page, pages)
        seen += document["data"]["items"]
    assert len(seen) == 53
    times = [each.get("received_at") or each.get("createdAt") or "" for each in seen]
    assert times == sorted(times, reverse=True)
    assert REPLIES not in query or len(set(times)) == 53, "each with a time of its own"


REFUSALS: dict[str, tuple[Any, int]] = {
    "no JSON": (b"{", 400),
    "no object": (b"[]", 400),
    "no message": ({"contacts": [CUSTOMER]}, 400),
    "message that is no text": (sms(message=5), 400),
    "no contacts": ({"message": "At nine?"}, 400),
    "contacts that are no list": (sms(contacts=CUSTOMER), 400),
    "no contact": (sms(contacts=[]), 400),
    "too many contacts": (sms(*[CUSTOMER] * 1_001), 400),
    "name of 12 characters": (sms(sender="x" * 12), 400),
    "sender of 17 characters": (sms(sender="1" * 17), 400),
    "no credit": (sms(*[CUSTOMER] * 1_000), 422),
}


@pytest.mark.parametrize(("body", "status"), REFUSALS.values(), ids=REFUSALS)
def test_what_cellcast_would_refuse_is_refused(
    ask: Ask, account: Simulator, capfd: pytest.CaptureFixture[str], body: Any, status: int
) -> None:
    account._credit = 999
    found, document = ask("POST", GATEWAY, body)
    assert found == status
    assert document.get("message") or document["error"]["errorMessage"]
    assert account.sent == []
    assert capfd.readouterr().err == "", "no traceback"


@pytest.mark.parametrize("path", [GATEWAY, ACCOUNT, REPLIES, OPT_OUTS, REPORTS])
def test_other_key_is_refused(ask: Ask, account: Simulator, path: str) -> None:
    method = "POST" if path == GATEWAY else "GET"
    status, document = ask(method, path, sms() if path == GATEWAY else None, key="another")
    assert status == 401
    assert document["message"]
    assert ("meta" in document) == ("apiClient" in path) != ("code" in document)
    assert account.sent == []


def test_odd_length_and_page_are_refused(ask: Ask, account: Simulator) -> None:
    assert ask("GET", f"{OPT_OUTS}?page=x")[0] == 400
    assert ask("GET", f"{OPT_OUTS}?size=0")[0] == 200
    with closing(create_connection(("127.0.0.1", int(account.url.rpartition(":")[2])))) as client:
        client.sendall(f"POST {GATEWAY} HTTP/1.1\r\nContent-Length: x\r\n\r\n".encode())
        assert client.recv(1_000).startswith(b"HTTP/1.0 400 ")


@pytest.mark.parametrize("call", [f"DELETE {GATEWAY}", "GET /api/v3/inbound", f"PUT {REPLIES}"])
def test_call_that_is_not_simulated_is_named(ask: Ask, call: str) -> None:
    status, document = ask(*call.split())
    assert status == 404
    assert call in document["message"] and "api-docs" in document["message"]


def test_threads_lose_nothing(webhooks: Webhooks, ask: Ask, account: Simulator) -> None:
    def work(number: int) -> None:
        assert ask("POST", GATEWAY, sms(f"+614915{70_000 + number}"))[0] == 200
        account.reply(f"+614915{70_000 + number}", "YES")
        account.send_reports()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    ids = [payload["_id"] for _, payload in webhooks]
    assert len(account.sent) == 40
    assert len(set(ids)) == len(ids) == 80


# Harsh


def fates_of(seed: str) -> tuple[list[str], list[str]]:
    """Return what a harsh account has sent, without ids, and what a kept webhook had told."""
    webhooks: list[str] = []
    now = timezone.now()

    def deliver(endpoint: Endpoint, payload: dict[str, Any]) -> bool:
        webhooks.append(f"{endpoint} {payload | {'_id': ''}}")
        return True

    account = Simulator(deliver=deliver, now=lambda: now)
    account.seed = seed
    statuses = []
    for number in range(30):
        contact = f"+614915{70_010 + number}"
        statuses.append(account._send(sms(contact))[0])
        account.reply(contact, "STOP" if number % 10 == 0 else "YES")
    for _ in range(20):
        now += timedelta(seconds=1)
        account.send_reports()
    return webhooks, [str(statuses), str(account.counts())]


def test_seed_decides_what_is_lost_doubled_and_late() -> None:
    once = fates_of("7")
    assert once == fates_of("7") != fates_of("8")
    webhooks, (statuses, _) = once
    reports = [each for each in webhooks if each.startswith("status") and "delivered" in each]
    assert 0 < len(set(reports)) < min(30, len(reports)), "some came twice, and some never"
    assert reports != sorted(reports)
    assert "500" in statuses


def test_same_text_to_the_same_number_has_another_fate() -> None:
    webhooks: Webhooks = []
    account = Simulator(deliver=lambda *webhook: webhooks.append(webhook))
    account.seed = "7"
    for _ in range(30):
        account.reply(CUSTOMER, "YES")
    account._now = lambda: timezone.now() + timedelta(seconds=5)
    account.send_reports()
    assert 0 < len({payload["_id"] for _, payload in webhooks}) < 30


@pytest.mark.parametrize(
    ("kept", "counts"),
    [
        ({"receive", "status", "opt_out"}, [(2, 0), (3, 0), (2, 0)]),
        ({"receive"}, [(2, 2), (3, 0), (2, 1)]),  # the site knows STOP, and not what begins so
        ({"status", "opt_out"}, [(2, 0), (3, 3), (2, 0)]),
        (set(), [(2, 2), (3, 3), (2, 2)]),
    ],
)
def test_account_counts_what_no_webhook_has_told(kept: set[str], counts: Any) -> None:
    account = Simulator(deliver=lambda endpoint, _: endpoint in kept)
    account._send(sms(CUSTOMER, "+61491570156"))
    account.send_reports()
    for text in "YES", "STOP":
        account.reply(CUSTOMER, text)
    account.reply("+61491570156", "Stop it, please")
    assert account.counts() == counts
    account.report(account.sent[0].cellcast_id, "failed", webhook=False)
    assert account.counts()[0] == (2, min(2, counts[0][1] + 1))
