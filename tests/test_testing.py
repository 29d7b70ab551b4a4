"""What host projects test with: payloads as Cellcast sends them, and a client to send them."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.test import override_settings

from cellcast_django import payloads
from cellcast_django.conf import conf
from cellcast_django.handlers.work import TransactionLeftOpenError
from cellcast_django.models import (
    HandlerCall,
    Message,
    WebhookEvent,
)
from cellcast_django.opt_outs import is_opted_out
from cellcast_django.receiving import tasks_package
from cellcast_django.sending import NotSentError, OptedOutError, send
from cellcast_django.signals import GiveUp, RetryLater
from cellcast_django.testing import (
    Sent,
    WebhookClient,
    authorization,
    fail_next,
    mms_payload,
    opt_out_payload,
    pretend_to_send,
    reply_payload,
    reset,
    run_handlers,
    sent,
    status_payload,
)
from cellcast_django.webhooks import WEBHOOKS, Webhook
from tests.handlers import Calls, make_due, reply
from tests.test_documented_payloads import DOCUMENTED_RECEIVE, DOCUMENTED_STATUS, MMS

pytestmark = pytest.mark.django_db

# The payloads


def test_payloads_are_the_documented_ones() -> None:
    assert json.dumps(reply_payload()).encode() == DOCUMENTED_RECEIVE
    assert json.dumps(status_payload()).encode() == DOCUMENTED_STATUS
    assert json.dumps(mms_payload(sender="400000000", receiver="61400000001")).encode() == MMS
    assert opt_out_payload() == {"type": "optout", "contact": "404000000"}


@pytest.mark.parametrize("payload", [reply_payload, status_payload, opt_out_payload])
def test_changes_apply_to_one_payload_only(payload: Callable[..., dict[str, Any]]) -> None:
    added = {"type": "other", "reply": "YES", "custom_string": "appointment-7"}
    assert payload(**added) == payload() | added
    assert payload()["type"] != "other"


# The client


@pytest.mark.parametrize(
    ("method", "endpoint", "kind", "changes"),
    [
        ("reply", "receive", "reply", {"_id": "1", "sender": "0400000002"}),
        ("status", "status", "status", {"_id": "1", "receiver": "0400000002"}),
        ("opt_out", "opt_out", "opt_out", {"contact": "0400000002"}),
    ],
)
def test_client_sends_to_the_url_of_its_kind(
    method: str, endpoint: str, kind: str, changes: dict[str, str], client: WebhookClient
) -> None:
    response = getattr(client, method)(**changes)
    event = WebhookEvent.objects.get()
    assert response.status_code == 200
    assert response.json() == {"events": [{"id": event.pk, "outcome": "stored"}]}
    assert (event.endpoint, event.kind) == (endpoint, kind)
    assert (event.cellcast_id, event.contact) == (changes.get("_id", ""), "+61400000002")
    assert (event.content_type, event.received_as) == ("application/json", "cellcast")


@pytest.mark.parametrize(
    ("payload", "content_type", "body"),
    [
        (b'{"x" :1}', "text/plain", '{"x" :1}'),
        ([{"x": 1}], "application/json", '{"x": 1}'),
        ("text", "application/json", '"text"'),
        (b"x=1&y=2", "application/x-www-form-urlencoded", "x=1&y=2"),
    ],
)
def test_client_sends_any_payload(
    payload: Any, content_type: str, body: str, client: WebhookClient
) -> None:
    response = client.webhook(payload, "status", content_type=content_type)
    event = WebhookEvent.objects.get()
    assert response.status_code == 400
    assert (event.body, event.content_type) == (body, content_type)
    assert client.get("/sms/webhook-receiver").json() == {}, "an ordinary test client too"


# The header


@pytest.mark.parametrize("secret", ["cellcast:secret", "käse:пароль:🔑"])
def test_authorization_uses_the_first_secret(secret: str) -> None:
    with override_settings(CELLCAST_WEBHOOK_SECRETS=[secret, "old:password"]):
        scheme, encoded = authorization()["Authorization"].split(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", secret)


def test_client_supplies_a_secret_if_none_is_configured(client: WebhookClient) -> None:
    with override_settings(CELLCAST_WEBHOOK_SECRETS=[]):
        assert authorization() == {}
        assert client.reply().status_code == 200
        assert not conf.webhook_secrets


@pytest.mark.parametrize("method", ["reply", "status", "opt_out"])
@pytest.mark.parametrize("key", ["mesage", "msg"])
def test_misspelt_key_is_an_error(method: str, key: str, client: WebhookClient) -> None:
    with pytest.raises(TypeError, match='"message"'):
        getattr(client, method)(**{key: "YES"})


class Asked(dict[str, Any]):
    """An element that knows which keys were looked for."""

    keys_asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_asked.add(key)
        return super().get(key, default)


@pytest.mark.parametrize("webhook", WEBHOOKS)
def test_readers_look_for_known_keys_alone(webhook: Webhook) -> None:
    for left_out in ("", *webhook.example):
        element = Asked({k: v for k, v in webhook.example.items() if k != left_out})
        payloads.read_element(element, "", webhook.endpoint)
    assert "type" in Asked.keys_asked
    assert Asked.keys_asked <= payloads.KEYS


# What handlers raise


@pytest.fixture
def strict() -> WebhookClient:
    return WebhookClient(raise_handler_errors=True)


def test_handlers_error_is_raised_after_all_were_called(
    first: Calls, second: Calls, strict: WebhookClient
) -> None:
    first.error = LookupError("no such appointment")
    with pytest.raises(LookupError, match="no such appointment"):
        strict.reply()
    assert len(second) == 1
    assert HandlerCall.objects.failing().get().handler == "first"


@pytest.mark.parametrize("error", [RetryLater(timedelta(hours=1)), GiveUp("never")])
def test_retry_later_and_give_up_are_not_raised(
    first: Calls, strict: WebhookClient, error: Exception
) -> None:
    first.error = error
    assert strict.reply().status_code == 200


@pytest.mark.django_db(transaction=True)
def test_open_transaction_is_raised(first: Calls, strict: WebhookClient) -> None:
    first.during = lambda **kwargs: transaction.atomic().__enter__()
    with pytest.raises(TransactionLeftOpenError):
        strict.reply()


def test_run_handlers_runs_what_tasks_would(first: Calls, settings: Any) -> None:
    settings.CELLCAST_RUN_HANDLERS = "default"
    backend = f"{tasks_package().__name__}.backends.dummy.DummyBackend"
    settings.TASKS = {"default": {"BACKEND": backend}}
    for text in ("one", "two"):
        WebhookClient().reply(message=text)
    assert not first
    assert run_handlers() == 2
    assert (len(first), run_handlers()) == (2, 0)


def test_run_handlers_raises_a_handlers_error(first: Calls) -> None:
    first.error = LookupError("no")
    make_due(reply())
    with pytest.raises(LookupError):
        run_handlers()
    make_due(WebhookEvent.objects.get())
    assert run_handlers(raise_handler_errors=False) == 1


# The outbox


@pytest.fixture
def _pretend(settings: Any) -> Iterator[None]:
    settings.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    reset()
    yield
    reset()


@pytest.mark.usefixtures("_pretend")
def test_outbox_has_what_would_be_sent() -> None:
    first = send("0400 000 001", "Hello", sender="Shop", reference="order-7")
    second = send("+61400000002", "Bye")

    texts = [Sent("+61400000001", "Hello", "Shop", "order-7")]
    texts.append(Sent(receiver="+61400000002", body="Bye", sender="", reference=""))
    assert sent == WebhookClient.sent == texts
    assert first.submitted_at is not None, "an ObjectId"
    assert first.cellcast_id != second.cellcast_id

    fail_next(TimeoutError())
    same = sent
    reset()
    assert same == []
    pretend_to_send("+61400000001", "Hello")
    assert len(same) == 1


@pytest.mark.usefixtures("_pretend")
@pytest.mark.parametrize(
    ("debug", "in_test", "prints"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_outbox_prints_only_to_a_developer(
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    debug: bool,
    in_test: bool,
    prints: bool,
) -> None:
    settings.DEBUG = debug
    if not in_test:
        monkeypatch.delattr(mail, "outbox")
    cellcast_id = pretend_to_send("+61400000001", "Hello")
    printed = f"{cellcast_id} to +61400000001: Hello\n" if prints else ""
    assert capsys.readouterr().out == printed


@pytest.mark.usefixtures("_pretend")
@pytest.mark.parametrize("receiver", ["hello", "0491", "#SharedNum#", "12 34 56 78"])
def test_outbox_refuses_what_is_no_number(receiver: str) -> None:
    with pytest.raises(NotSentError):
        send(receiver, "Hello")
    assert sent == [] == list(Message.objects.all())
    send("4910 5700 6", "Hello")
    assert len(sent) == 1


@pytest.mark.usefixtures("_pretend")
def test_failures_are_raised_once_each_in_order(client: WebhookClient) -> None:
    fail_next(NotSentError("No credit."))
    fail_next(TimeoutError())
    for error in (NotSentError, TimeoutError):
        with pytest.raises(error):
            send("+61400000001", "Hello")
    assert sent == [] == list(Message.objects.all())
    send("+61400000001", "Hello")
    assert len(sent) == 1

    fail_next(OptedOutError())
    with pytest.raises(OptedOutError):
        send("+61400000001", "Hello")
    assert is_opted_out("+61400000001")
    with pytest.raises(OptedOutError):
        send("+61400000001", "Hello")
    assert len(sent) == 1, "what was refused is not in it"
