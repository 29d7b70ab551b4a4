"""The page about keeping pictures: its handler, against a host of pictures over HTTP."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from django.core.files.storage import default_storage
from django.utils import timezone

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.retention import Selection, prune
from cellcast_django.testing import WebhookClient, mms_payload
from tests.pages import blocks
from tests.scripted_server import ScriptedServer, scripted_server

__all__ = ["scripted_server"]

pytestmark = pytest.mark.django_db

URL = "https://media.example.com/1.jpg"


@pytest.fixture
def page(
    settings: Any,
    tmp_path: Path,
    scripted_server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    disconnected_afterwards: None,
) -> Iterator[dict[str, Any]]:
    """The page's names, its handler connected; its host of pictures is the scripted server."""
    settings.MEDIA_ROOT = tmp_path
    namespace: dict[str, Any] = {"__name__": "shop.pictures"}
    [block] = blocks("docs/pictures.md", "python")
    block.run(namespace)
    pool, requests = namespace["http"], []
    request = pool.request

    def to_the_server(method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        requests.append(url)
        local = url.replace("https://media.example.com", scripted_server.url)
        response: urllib3.BaseHTTPResponse = request("POST", local, body=b"", **options)
        return response

    monkeypatch.setattr(pool, "request", to_the_server)
    yield namespace | {"requests": requests}
    pool.clear()


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def receive() -> Callable[[str], WebhookEvent]:
    def receive(url: str) -> WebhookEvent:
        client = WebhookClient(raise_handler_errors=False)
        client.webhook(mms_payload(media=[url]), "receive")
        return WebhookEvent.objects.latest("pk")

    return receive


def files() -> list[str]:
    return default_storage.listdir("sms")[1] if default_storage.exists("sms") else []


def test_picture_is_kept_and_goes_with_its_message(
    page: dict[str, Any], receive: Any, scripted_server: ScriptedServer
) -> None:
    scripted_server.response = response("200 OK", b"a picture")
    event = receive(URL)
    assert event.done_at
    message = Message.objects.get()
    page["keep_pictures"](message)
    assert page["requests"] == [URL], "fetched once, though the handler was called twice"
    [name] = files()
    with default_storage.open(f"sms/{name}") as file:
        assert file.read() == b"a picture"
    page["forget_pictures"]()
    assert files() == [name]
    prune(Selection(before=timezone.now() + timedelta(days=1), redact=True))
    page["forget_pictures"]()
    assert files() == []


@pytest.mark.parametrize(
    ("answer", "is_tried_again"),
    [
        pytest.param(response("503 Busy"), True, id="busy"),
        pytest.param(response("302 Found", b"", "Location: http://10.0.0.1/"), True, id="redirect"),
        pytest.param(response("200 OK", b"x" * 101), False, id="too large"),
    ],
)
def test_picture_that_cannot_be_kept_fails_the_handler(
    answer: bytes,
    is_tried_again: bool,
    page: dict[str, Any],
    receive: Any,
    scripted_server: ScriptedServer,
) -> None:
    page["keep_pictures"].__globals__["LARGEST"] = 100
    scripted_server.response = answer
    event = receive(URL)
    assert bool(event.next_run_at) is is_tried_again
    assert len(page["requests"]) == len(scripted_server.requests) == 1
    assert files() == []


@pytest.mark.parametrize(
    "url", ["http://media.example.com/1.jpg", "https://10.0.0.1/", "https://localhost/admin/"]
)
def test_address_that_is_not_listed_is_not_asked(
    url: str, page: dict[str, Any], receive: Any
) -> None:
    event = receive(url)
    assert event in WebhookEvent.objects.failed()
    assert page["requests"] == []
