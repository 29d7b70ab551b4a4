"""The simulated account: round the loop, what becomes of an SMS, and what it refuses."""

import json
import time
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
    LiveSimulator,
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
    assert sorted(Message.objects.inbound().values_list("body", flat=True)) == [
        "STOP",
        "YES",
        "YES",
    ]
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
    if is_sent:
        _, document = ask("GET", f"{REPORTS}/{account.sent[0].cellcast_id}")
        assert document["data"]["status"] == fate.status


def test_table_has_each_kind_of_failure_with_its_reason() -> None:
    assert {fate.status for fate in FATES.values() if fate.reason} == UNDELIVERED


def test_number_that_is_not_in_the_table_gets_it(webhooks: Webhooks, ask: Ask) -> None:
    ask("POST", GATEWAY, sms("400000001"))
    assert webhooks == []


# The API


def test_bulk_tells_the_contacts_apart(ask: Ask, account: Simulator) -> None:
    account.opt_out("0491570156")
    contacts = ["61491570006", "491570157", "+61491570156", "12345"]
    _, document = ask("POST", GATEWAY, sms(*contacts, replyStopToOptOut=True, customString="a-1"))
    data = document["data"]
    assert [each["Contact"] for each in data["queueResponse"]] == contacts[:2]
    assert data["unsubscribeContacts"] == contacts[2:3]
    assert [each["Contact"] for each in data["invalidContacts"]] == contacts[3:]
    assert {each.body for each in account.sent} == {"At nine? - Reply STOP to optout"}
    ask("POST", GATEWAY, sms())
    assert len(listed(ask, "campType=sms&customString=a-1")) == 2
    _, document = ask("GET", ACCOUNT)
    assert document["data"]["sms_balance"] == 1_497


def listed(ask: Ask, query: str) -> list[dict[str, Any]]:
    _, document = ask("GET", f"{REPORTS}?{query}")
    items: list[dict[str, Any]] = document["data"]["items"]
    return items


def test_reports_are_listed_by_campaign_and_day(ask: Ask, account: Simulator) -> None:
    account._now = lambda: datetime.fromisoformat("2026-11-30T23:59:59.999+00:00")
    ask("POST", GATEWAY, sms())
    for query, count in {
        "campType=sms": 1,
        "campType=mms": 0,
        "campType=sms&requestFrom=APP": 0,
        "campType=sms&fromDate=2026-11-30&toDate=2026-11-30": 1,
        "campType=sms&fromDate=2026-12-01": 0,
        "campType=sms&toDate=2026-11-29": 0,
    }.items():
        assert len(listed(ask, query)) == count, query
    cellcast_id = account.sent[0].cellcast_id
    assert int(cellcast_id[:8], 16) == 1_796_083_199 and len(cellcast_id) == 24


@pytest.mark.parametrize(
    ("path", "size"), [(REPLIES, 50), (f"{OPT_OUTS}?size=10&", 10), (f"{REPORTS}?limit=20&", 20)]
)
def test_lists_come_in_pages_newest_first(
    ask: Ask, account: Simulator, path: str, size: int
) -> None:
    for number in range(53):
        account.reply(f"+614915{70_000 + number}", "stop")
        ask("POST", GATEWAY, sms(f"+614914{70_000 + number}"))
    path += "" if "?" in path else "?"
    pages = -(-53 // size)
    seen = []
    for page in range(1, pages + 1):
        _, document = ask("GET", f"{path}campType=sms&page={page}")
        data = document["data"]
        assert (data["current"], data["totalPages"]) == (page, pages)
        seen += data["items"]
    _, document = ask("GET", f"{path}campType=sms&page={pages + 1}")
    assert document["data"]["items"] == []
    assert len(seen) == 53
    times = [each.get("received_at") or each.get("createdAt") or "" for each in seen]
    assert times == sorted(times, reverse=True)
    if REPLIES in path:
        assert len(set(times)) == 53


@pytest.mark.parametrize("path", [GATEWAY, ACCOUNT, REPLIES, OPT_OUTS, REPORTS])
def test_other_key_is_refused(ask: Ask, account: Simulator, path: str) -> None:
    method = "POST" if path == GATEWAY else "GET"
    status, document = ask(method, path, sms() if path == GATEWAY else None, key="another")
    assert status == 401
    assert document["message"]
    assert ("meta" in document) == ("apiClient" in path) != ("code" in document)
    assert account.sent == []
    assert Simulator(deliver=print).key == account.key


REFUSALS: dict[str, tuple[Any, int]] = {
    "no JSON": (b"{", 400),
    "no object": (b"[]", 400),
    "nothing": (b"", 400),
    "no message": ({"contacts": [CUSTOMER]}, 400),
    "message that is no text": (sms(message=5), 400),
    "no contacts": ({"message": "At nine?"}, 400),
    "contacts that are no list": (sms(contacts=CUSTOMER), 400),
    "no contact": (sms(contacts=[]), 400),
    "too many contacts": (sms(*[CUSTOMER] * 1_001), 400),
    "name of 12 characters": (sms(sender="x" * 12), 400),
    "sender of 17 characters": (sms(sender="1" * 17), 400),
    "odd own text": (sms(customString="a b"), 400),
    "no credit": (sms(*[CUSTOMER] * 1_000), 422),
    "not simulated": (sms(scheduleAt="2027-01-01T00:00:00Z"), 404),
}


@pytest.mark.parametrize(("body", "status"), REFUSALS.values(), ids=REFUSALS)
def test_what_cellcast_would_refuse_is_refused(
    ask: Ask, account: Simulator, capfd: pytest.CaptureFixture[str], body: Any, status: int
) -> None:
    for _ in range(501):
        account._credit -= status == 422
    found, document = ask("POST", GATEWAY, body)
    assert found == status
    assert document.get("message") or document["error"]["errorMessage"]
    assert account.sent == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("length", ["x", "-1", "9" * 9])
def test_odd_length_is_refused(account: Simulator, length: str) -> None:
    with closing(create_connection(("127.0.0.1", int(account.url.rpartition(":")[2])))) as client:
        head = f"POST {GATEWAY} HTTP/1.1\r\nAuthorization: Bearer {account.key}\r\n"
        client.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
        assert client.recv(1_000).startswith(b"HTTP/1.0 400 ")


def test_odd_page_is_refused(ask: Ask) -> None:
    for page in "0", "-1", "x", "\u0661":
        assert ask("GET", f"{OPT_OUTS}?page={page}")[0] == 400
    assert ask("GET", REPORTS)[0] == 400, "campType is required"


@pytest.mark.parametrize(
    "call", ["DELETE /api/v1/gateway", "GET /api/v3/inbound", f"PUT {REPLIES}"]
)
def test_call_that_is_not_simulated_is_named(ask: Ask, call: str) -> None:
    status, document = ask(*call.split())
    assert status == 404
    assert call in document["message"] and "api-docs" in document["message"]


def test_odd_numbers_and_ids_are_errors(account: Simulator) -> None:
    for number in "abc", "", "1":
        with pytest.raises(ValueError, match="is no phone number"):
            account.reply(number, "YES")
        with pytest.raises(ValueError, match="is no phone number"):
            account.opt_out(number)
    with pytest.raises(ValueError, match="has sent nothing with the id 1"):
        account.report("1", "failed")


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


def fates_of(seed: str) -> list[str]:
    """Return what a harsh account has answered and sent, without ids, in alphabetical order."""
    happened: list[str] = []

    def deliver(endpoint: Endpoint, payload: dict[str, Any]) -> None:
        happened.append(f"{endpoint} {payload | {'_id': ''}}")

    def watch(call: str, status: int, document: dict[str, Any]) -> None:
        happened.append(f"{call} {status}")

    account = LiveSimulator(seed=seed, watch=watch, deliver=deliver)
    account.seconds_late = 0.05
    with account, urllib3.PoolManager() as pool:
        headers = {"Authorization": f"Bearer {account.key}"}
        for number in range(30):
            contact = f"+614915{70_010 + number}"
            body = json.dumps(sms(contact))
            pool.request("POST", account.url + GATEWAY, body=body, headers=headers)
            account.reply(contact, "STOP" if number % 10 == 0 else "YES")
        count = -1
        while count < len(happened):
            count = len(happened)
            time.sleep(0.3)
    return sorted(happened)


def test_seed_decides_what_is_lost_and_doubled() -> None:
    once = fates_of("7")
    assert once == fates_of("7") != fates_of("8")
    reports = [each for each in once if each.startswith("status")]
    assert 0 < len(set(reports)) < min(60, len(reports)), "some came twice, and some never"
    assert f"POST {GATEWAY} 500" in once


def test_without_a_seed_each_webhook_comes_once() -> None:
    webhooks = [each for each in fates_of("") if not each.startswith("POST")]
    assert len(webhooks) == len(set(webhooks)) == 30 + 30 + 3
