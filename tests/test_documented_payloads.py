"""The documented and observed payloads, byte for byte, through a real server."""

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client

from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.testing import authorization
from tests.admin_pages import page_of, text_of
from tests.handlers import SIGNALS

pytestmark = pytest.mark.django_db(transaction=True)

DOCUMENTED_RECEIVE = (
    b'{"_id": "66b5b93b1e2c012dfe964000", "status": "delivered", "type": "receive", "message": '
    b'"This is reply message", "sender": "+61400000000", "receiver": "+61400000001"}'
)
DOCUMENTED_STATUS = (
    b'{"_id": "66b5b93b1e2c012dfe964000", "status": "delivered", "type": "send", "sender": '
    b'"cellcast", "receiver": "+61400000001"}'
)
MMS = (
    b'{"_id": "66b5b93b1e2c012dfe964000", "status": "delivered", "type": "receive", "message": '
    rb'"{\"message\":\"Here is the form\",\"media\":[{\"url\":'
    rb'\"https://media.example.com/1.jpg\"}]}", "sender": "400000000", "receiver": "61400000001", '
    b'"media": [{"url": "https://media.example.com/1.jpg"}], "mms": true}'
)
FAILURE = (
    b'{"_id": "66b5b93b1e2c012dfe964001", "status": "delievered", "type": "send", '
    b'"receiver": "61400000001", "reason": "", "bulkId": "66b5b93b1e2c012dfe963fff"}'
)
OPT_OUT = b'{"type": "optout", "contact": "404000000"}'


def post(url: str, path: str, body: bytes) -> int:
    headers = {"Content-Type": "application/json", **authorization()}
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=10)) as connection:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status


def test_documented_payloads_are_stored_handled_and_shown(
    live_server: Any, reader: Client, listen: Any
) -> None:
    calls = {signal: listen(signal) for signal in SIGNALS}
    for path, body in [
        ("webhook-receiver", DOCUMENTED_RECEIVE),
        ("webhook-status", DOCUMENTED_STATUS),
        ("webhook-receiver", MMS),
        ("webhook-status", FAILURE),
        ("webhook-opt-out", OPT_OUT),
    ]:
        assert post(live_server.url, f"/sms/{path}", body) == 200
        event = WebhookEvent.objects.latest("pk")
        assert (event.body, event.outcome) == (body.decode(), "stored")
        assert event.state == "done"

    replies = Message.objects.inbound().order_by("pk").values_list("contact", "body", "media")
    assert list(replies) == [
        ("+61400000000", "This is reply message", []),
        ("+61400000000", "Here is the form", ["https://media.example.com/1.jpg"]),
    ]
    sent = Message.objects.outbound().order_by("pk").values_list("sender", "contact", "status")
    assert list(sent) == [
        ("cellcast", "+61400000001", "delivered"),
        ("", "+61400000001", "delivered"),
    ]
    assert OptOut.objects.get().contact == "+61404000000"
    assert [len(each) for each in calls.values()] == [2, 2, 1]
    words = text_of(page_of(reader, "message"))
    assert "Here is the form 1 picture: 1" in words
    assert json.loads(MMS)["message"] not in words
