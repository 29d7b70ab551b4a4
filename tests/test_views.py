"""The views: every response, every trap on the way to it, and no influence of the host project."""

import json
import logging
from collections.abc import Callable
from functools import partial
from io import BytesIO
from itertools import count
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import (
    DataError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
)
from django.test import AsyncClient, override_settings
from rest_framework.views import APIView

from cellcast_django import inbox
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.signals import message_received, opt_out_received
from cellcast_django.testing import WebhookClient, authorization, reply_payload, status_payload
from cellcast_django.views import WebhookView
from cellcast_django.webhooks import WEBHOOKS
from tests.clock import Clock
from tests.handlers import Calls, Listen, connected

RECEIVE, STATUS, *_ = URLS = [webhook.path() for webhook in WEBHOOKS]

DOCUMENTED_RECEIVE, DOCUMENTED_STATUS = (webhook.body for webhook in WEBHOOKS[:2])
ID = "66b5b93b1e2c012dfe964000"
FORM = "application/x-www-form-urlencoded"


def post(
    body: bytes,
    url: str = RECEIVE,
    content_type: str = "application/json",
    client: WebhookClient | None = None,
    headers: dict[str, str] | None = None,
    **environ: Any,
) -> Any:
    """Send exactly these bytes; ``environ`` overrides what the server would set."""
    return (client or WebhookClient()).generic(
        "POST", url, body, content_type, headers=authorization() | (headers or {}), **environ
    )


def post_chunked(body: Any, url: str = RECEIVE, *, terminated: bool = True) -> Any:
    environ: dict[str, Any] = {
        "wsgi.input": BytesIO(body) if isinstance(body, bytes) else body,
        "wsgi.input_terminated": terminated,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_TYPE": "application/json",
    }
    return post(b"", url, **environ)


class Stream(BytesIO):
    """A body that raises when it is read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, *size: int | None) -> bytes:
        raise self.error

    readline = read


def outcomes(response: Any) -> list[str]:
    return [event["outcome"] for event in response.json()["events"]]


# The documented examples


@pytest.mark.django_db
def test_documented_reply_is_stored_and_handled(listen: Listen) -> None:
    calls = listen(message_received)

    response = post(DOCUMENTED_RECEIVE, RECEIVE)

    event = WebhookEvent.objects.get()
    assert response.status_code == 200
    assert response.json() == {"events": [{"id": event.pk, "outcome": "stored"}]}
    message = Message.objects.inbound().get()
    assert message.cellcast_id == ID
    assert (message.body, message.receiver) == ("This is reply message", "+61400000001")
    assert message.sender == message.contact == "+61400000000"
    assert (event.kind, event.message, event.state) == ("reply", message, "done")
    assert (event.body, message.status) == (DOCUMENTED_RECEIVE.decode(), "delivered")
    [call] = calls
    assert (call["message"], call["event"]) == (message, event)
    assert outcomes(post(DOCUMENTED_RECEIVE, RECEIVE)) == ["duplicate"]
    assert Message.objects.count() == len(calls) == 1


# Methods


@pytest.mark.django_db
@pytest.mark.parametrize("url", URLS)
def test_get_needs_no_password_and_returns_no_data(url: str, client: WebhookClient) -> None:
    client.reply()
    for headers in [{}, {"Authorization": "Basic rubbish"}, authorization()]:
        response = client.get(url, {"format": "api"}, headers=headers)
        assert (response.status_code, response.content) == (200, b"{}")
        assert response["Content-Type"] == "application/json"
        response = client.head(url, headers=headers)
        assert (response.status_code, response.content) == (200, b"")
        assert response["Content-Type"] == "application/json"


# Whatever the headers say


@pytest.mark.django_db
@pytest.mark.parametrize(
    "content_type",
    [
        *(f"application/json; charset={name}" for name in ("utf-16", "zlib", "bz2_codec", "\xff")),
        f"application/json; charset={'x' * 5_000}",
        *("text/xml", FORM, "multipart/form-data; boundary=x", ";;;", "é", ""),
    ],
)
def test_json_is_stored_whatever_content_type_says(content_type: str) -> None:
    body = '{"_id": "1", "type": "receive", "message": "ü 👍", "sender": "0400000000"}'
    response = post(body.encode(), content_type=content_type)
    assert (response.status_code, outcomes(response)) == (200, ["stored"])
    assert Message.objects.get().body == "ü 👍"
    assert WebhookEvent.objects.get().content_type == content_type[:255]


# What is in the body


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"", ""),
        (b"[]", "[]"),
        (b"rubbish", "rubbish"),
        (b'{"_id": "1"}', '{"_id": "1"}'),
        (b'{"type": "optout"}', '{"type": "optout"}'),
        (b"\x00", r"\x00"),
        (b"caf\xe9", r"caf\xe9"),
        (b'{"_id": %s, "status": "sent"}' % (b"1" * 5_000), None),
        (b"[" * 100_000, None),
        (json.dumps([status_payload()] * 1_001).encode(), None),
    ],
    ids=[
        *("nothing", "empty array", "no JSON", "no status", "no number"),
        *("NUL", "Latin-1", "5,000 digits", "deep arrays", "1,001 elements"),
    ],
)
def test_unreadable_body_is_kept_and_gets_400_with_reason(body: bytes, kept: str | None) -> None:
    response = post(body, STATUS, CONTENT_TYPE="text/plain")

    event = WebhookEvent.objects.get()
    assert response.status_code == 400
    events = [{"id": event.pk, "outcome": "invalid"}]
    assert response.json() == {"events": events, "detail": event.error}
    assert event.error
    assert (event.outcome, event.kind) == ("invalid", "unknown")
    assert event.body == (body.decode() if kept is None else kept)
    origin = (event.endpoint, event.content_type, event.received_as)
    assert origin == ("status", "text/plain", "cellcast")
    assert not Message.objects.exists()


@pytest.mark.django_db
def test_partly_bad_array_gets_200_with_every_outcome() -> None:
    elements = [status_payload(), "rubbish", status_payload(), status_payload(_id="2"), {}]
    response = post(json.dumps(elements).encode(), STATUS)
    assert response.status_code == 200
    assert list(response.json()) == ["events"]
    assert outcomes(response) == ["stored", "invalid", "duplicate", "stored", "invalid"]
    ids = [event["id"] for event in response.json()["events"]]
    bodies = {event.pk: event.body for event in WebhookEvent.objects.all()}
    assert [json.loads(bodies[each]) for each in ids] == elements
    response = post(b"[5, %s]" % DOCUMENTED_STATUS, STATUS)
    assert (response.status_code, outcomes(response)) == (200, ["invalid", "duplicate"])


# How long the body is


@pytest.mark.django_db
def test_body_at_limit_is_stored_and_one_byte_more_is_refused() -> None:
    response = post(DOCUMENTED_STATUS.ljust(262_145), STATUS)
    assert response.status_code == 413
    assert list(response.json()) == ["detail"]
    assert not WebhookEvent.objects.exists()
    assert post(DOCUMENTED_STATUS.ljust(262_144), STATUS).status_code == 200


@pytest.mark.parametrize("length", ["262145", "9" * 5_000])
def test_body_declared_over_limit_is_not_read(length: str) -> None:
    stream = Stream(AssertionError("The body was read."))
    environ: dict[str, Any] = {"wsgi.input": stream, "CONTENT_LENGTH": length}
    assert post(b"", **environ).status_code == 413


@pytest.mark.django_db
def test_chunked_body_has_the_same_limit() -> None:
    with override_settings(CELLCAST_MAX_BODY_BYTES=len(DOCUMENTED_RECEIVE)):
        assert post_chunked(DOCUMENTED_RECEIVE + b" ").status_code == 413
        assert not WebhookEvent.objects.exists()
        assert outcomes(post_chunked(DOCUMENTED_RECEIVE)) == ["stored"]
    assert WebhookEvent.objects.get().body == DOCUMENTED_RECEIVE.decode()


def test_chunked_body_is_read_one_byte_past_limit() -> None:
    stream = BytesIO(b" " * 1_000_000)
    assert post_chunked(stream).status_code == 413
    assert stream.tell() == 262_145


@pytest.mark.parametrize("url", URLS)
def test_chunked_body_gets_411_if_server_withholds_it(url: str) -> None:
    """Such as uWSGI, hypercorn in WSGI mode, and runserver."""
    stream = Stream(AssertionError("The body was read."))
    response = post_chunked(stream, url, terminated=False)
    assert (response.status_code, list(response.json())) == (411, ["detail"])
    assert "wsgi.input_terminated" in response.json()["detail"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("length", "status", "kept"),
    [
        (str(len(DOCUMENTED_STATUS)), 200, DOCUMENTED_STATUS),
        (str(len(DOCUMENTED_STATUS) + 50), 400, DOCUMENTED_STATUS),
        ("20", 400, DOCUMENTED_STATUS[:20]),
        *((odd, 400, b"") for odd in ("0", "", "-5", "twenty", "²", "1e3")),
    ],
)
def test_wrong_content_length_is_reported(length: str, status: int, kept: bytes) -> None:
    environ: dict[str, Any] = {"wsgi.input": BytesIO(DOCUMENTED_STATUS), "CONTENT_LENGTH": length}
    response = post(b"", STATUS, **environ)
    assert response.status_code == status
    assert WebhookEvent.objects.get().body == kept.decode()


@pytest.mark.django_db
@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10, DATA_UPLOAD_MAX_NUMBER_FIELDS=1)
def test_truncated_form_is_kept_but_not_parsed() -> None:
    """Nor does the host's own limit of uploads apply."""
    body = b"_id=1&type=receive&message=Ja+%F0%9F%91%8D&sender=%2B61400000000"
    options: dict[str, Any] = {"url": RECEIVE, "content_type": f"{FORM}; charset=UTF-8"}
    assert outcomes(post(body, **options)) == ["stored"]
    message = Message.objects.get()
    assert (message.body, message.contact) == ("Ja 👍", "+61400000000")
    length = str(len(body) + 3)
    environ: dict[str, Any] = {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": length}
    response = post(b"", **options, **environ)
    assert f"{len(body)} of {length}" in response.json()["detail"]
    event = WebhookEvent.objects.latest("pk")
    assert (event.outcome, event.body) == ("invalid", body.decode())
    assert [again.outcome for again in inbox.reprocess(event)] == ["invalid"]


@pytest.mark.parametrize(
    ("encoding", "error"),
    [
        *((encoding, ConnectionResetError("It has gone.")) for encoding in ("", "gzip, Chunked")),
        ("chunked", RuntimeError("Invalid chunk size: 'zz'")),
    ],
)
def test_broken_connection_gets_400_and_stores_nothing(encoding: str, error: Exception) -> None:
    environ: dict[str, Any] = {"wsgi.input": Stream(error), "CONTENT_LENGTH": "150"}
    if encoding:
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": encoding}
    response = post(b"", **environ)
    assert response.status_code == 400
    assert list(response.json()) == ["detail"]


# When the database refuses


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError, InterfaceError, DataError, ProgrammingError])
@pytest.mark.parametrize("url", URLS)
def test_refusing_database_gets_503_and_stores_nothing(
    url: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any) -> None:
        raise error("FATAL: +61400000000 said This is reply message")

    with connection.execute_wrapper(refuse):
        response = post(DOCUMENTED_RECEIVE, url)

    assert response.status_code == 503
    assert response["Content-Type"] == "application/json"
    assert int(response["Retry-After"]) > 0
    assert list(response.json()) == ["detail"]
    assert error.__name__ in caplog.text
    assert "+61400000000" not in caplog.text + response.content.decode()
    assert not WebhookEvent.objects.exists()
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("last", range(1, 6))
def test_refusal_at_any_statement_leaves_no_row(last: int, clock: Clock) -> None:
    """However far the transaction got, it is all or nothing."""
    statements = count(1)

    def refuse_the_last(execute: Callable[..., Any], *statement: Any) -> Any:
        if next(statements) >= last:
            raise OperationalError("gone")
        return execute(*statement)

    with connection.execute_wrapper(refuse_the_last):
        response = post(b"[%s, %s]" % (DOCUMENTED_RECEIVE, DOCUMENTED_STATUS), RECEIVE)

    stored = [WebhookEvent.objects.count(), Message.objects.count(), StatusChange.objects.count()]
    assert next(statements) > last or response.status_code == 200  # own limits are restored
    assert stored == ([2, 2, 2] if response.status_code == 200 else [0, 0, 0])


# No influence of the host project


@pytest.mark.django_db(transaction=True)
def test_webhook_begins_no_transaction_of_the_host_projects(
    client: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    connection.ensure_connection()
    session = connection.connection
    assert client.status().status_code == 200
    assert connection.connection is session, "which is discarded with a transaction that is open"


def test_view_names_every_policy_of_rest_framework_itself() -> None:
    """Whatever the host's ``REST_FRAMEWORK`` says: ``APIView`` has what it reads from there."""
    policies = {name for name in vars(APIView) if name.endswith(("_class", "_classes"))}
    assert len(policies) > 6
    assert policies | {"schema", "get_exception_handler"} <= {*vars(WebhookView)}


@pytest.mark.django_db
@pytest.mark.parametrize("chunks", [{}, {"Transfer-Encoding": "chunked"}])
def test_webhook_is_stored_under_asgi(chunks: dict[str, str]) -> None:
    texts: list[str] = []

    async def handler(message: Message, **kwargs: Any) -> None:
        texts.append(message.body)

    length = {"CONTENT_LENGTH": ""} if chunks else {}
    with connected(message_received, handler=handler):
        send = partial(async_to_sync(AsyncClient().post), RECEIVE, DOCUMENTED_RECEIVE, **length)
        response = send("application/json", headers=authorization() | chunks)
        refused = send("application/json")
    assert (response.status_code, outcomes(response)) == (200, ["stored"])
    assert refused.status_code == 401
    assert texts == ["This is reply message"]


# What is logged


@pytest.mark.django_db
def test_neither_number_nor_text_is_logged(
    caplog: pytest.LogCaptureFixture, client: WebhookClient
) -> None:
    failing = Calls()
    failing.error = ValueError("+61400000000 said This is reply message")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, logger="django.db.backends")  # which shows every parameter
    with (
        connected(message_received, failing=failing),
        connected(opt_out_received, failing=failing),
    ):
        client.reply()
        client.opt_out(contact="+61400000000")
        client.webhook(b"+61400000000 said This is reply message", "status")
        client.webhook(reply_payload(type="send", status=None), "status")
    assert "ValueError" in caplog.text
    assert "400000000" not in caplog.text
    assert "reply message" not in caplog.text


@pytest.mark.django_db
def test_webhook_logs_one_line_with_outcomes_and_no_number(
    caplog: pytest.LogCaptureFixture, client: WebhookClient
) -> None:
    caplog.set_level(logging.INFO, logger="cellcast_django")
    client.webhook([status_payload(), status_payload(), {}], "status")
    [record] = caplog.records
    assert record.args == ("Status URL", "cellcast", "1 stored, 1 duplicate, 1 invalid")
