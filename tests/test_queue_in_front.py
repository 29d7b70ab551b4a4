"""A queue in front of the site: with a relay, over HTTP, while the site fails in every way."""

import json
import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import OperationalError

from cellcast_django import inbox
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.signals import message_received, status_changed
from cellcast_django.testing import reply_payload, status_payload
from tests.handlers import connected
from tests.pages import table
from tests.relay import LAST_WORD, Relay
from tests.stress.hosts import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "relay:the-password-of-the-relay"  # noqa: S105
PATHS = {"receive": "/sms/webhook-receiver", "send": "/sms/webhook-status"}


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(port: int = 0, application: Any = None) -> Iterator[int]:
    """Let the site answer on this port; whoever connects before or after is refused."""
    with ThreadedWSGIServer(("127.0.0.1", port), Quiet) as server:
        server.daemon_threads = False
        server.set_app(application or WSGIHandler())
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def port(settings: Any) -> int:
    """Where the site answers, when it does."""
    settings.CELLCAST_WEBHOOK_SECRETS = ["cellcast:the-password-of-cellcast", SECRET]
    with serving() as port:
        return port


@pytest.fixture
def new_relay(port: int, tmp_path: Path) -> Callable[..., Relay]:
    def make(file: str = "relay", secret: str = SECRET) -> Relay:
        header = f"Basic {b64encode(secret.encode()).decode()}"
        return Relay(tmp_path / file, port, header, longest_pause=0.02)

    return make


@pytest.fixture
def heard() -> Iterator[Counter[str]]:
    """How often the handlers were told each fact."""
    heard: Counter[str] = Counter()

    def hear_reply(message: Message, **kwargs: Any) -> None:
        heard[f"reply {message.body}"] += 1

    def hear_status(message: Message, status_change: StatusChange, **kwargs: Any) -> None:
        heard[f"{message.cellcast_id} {status_change.status}"] += 1

    with (
        connected(message_received, hear_reply=hear_reply),
        connected(status_changed, hear_status=hear_status),
    ):
        yield heard


def webhooks(first: int, last: int) -> list[dict[str, Any]]:
    """A reply and two reports for each number, one of the reports twice."""
    found = []
    for number in range(first, last):
        sent = status_payload(_id=f"sent {number}", status="sent")
        delivered = status_payload(_id=f"sent {number}", status="delivered")
        reply = reply_payload(_id=f"reply {number}", message=f"{number}")
        found += [delivered, reply, sent, delivered]
    return found


def facts(first: int, last: int) -> dict[str, int]:
    names = ("reply {}", "sent {} sent", "sent {} delivered")
    return {name.format(number): 1 for number in range(first, last) for name in names}


def post(relay: Relay, payloads: Iterable[dict[str, Any]]) -> set[int]:
    """Send webhooks to the relay as Cellcast would; return its statuses."""
    statuses = set()
    for payload in payloads:
        connection = HTTPConnection("127.0.0.1", relay.server_port, timeout=60)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", PATHS[payload["type"]], json.dumps(payload), headers)
        statuses.add(connection.getresponse().status)
        connection.close()
    return statuses


def waiting(relay: Relay) -> int:
    [(count,)] = relay.execute("SELECT COUNT(*) FROM webhooks")
    return int(count)


def wait_until_empty(relay: Relay) -> None:
    wait_for(lambda: not waiting(relay), seconds=60)


def test_nothing_is_lost_or_repeated_while_the_site_is_down(
    port: int, new_relay: Callable[..., Relay], heard: Counter[str], tmp_path: Path
) -> None:
    with new_relay() as relay:
        with serving(port):
            assert post(relay, webhooks(0, 3)) == {200}
            wait_until_empty(relay)
        assert post(relay, webhooks(3, 6)) == {200}
        wait_for(lambda: relay.seen[None] > 2, seconds=60)
        assert heard == facts(0, 3)
    with new_relay() as restarted, serving(port):
        assert waiting(restarted) > 0
        assert post(restarted, webhooks(6, 9)) == {200}
        wait_until_empty(restarted)

    assert heard == facts(0, 9)
    assert Message.objects.inbound().count() == Message.objects.delivered().count() == 9
    assert StatusChange.objects.filter(message__direction="outbound").count() == 18
    assert set(WebhookEvent.objects.values_list("username", flat=True)) == {"relay"}


def test_what_the_relay_sends_again_is_a_duplicate(
    port: int, new_relay: Callable[..., Relay], heard: Counter[str], tmp_path: Path
) -> None:
    """A relay that dies between the site's response and its own note of it sends again."""
    with new_relay() as relay:
        post(relay, webhooks(0, 3))
    shutil.copy(tmp_path / "relay", tmp_path / "as it was")
    with serving(port):
        for file in ("relay", "as it was"):
            with new_relay(file) as again:
                wait_until_empty(again)
                assert again.seen[200] == 12
    assert heard == facts(0, 3)
    assert Message.objects.count() == 6


def test_response_that_is_lost_after_the_commit_costs_nothing(
    port: int, new_relay: Callable[..., Relay], heard: Counter[str]
) -> None:
    """A proxy says 502 although the site has stored the webhook, for each one the first time."""
    site: Any = WSGIHandler()
    seen: Counter[bytes] = Counter()

    def proxied(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = BytesIO(body)
        seen[body] += 1
        if seen[body] > 1:
            response: Iterable[bytes] = site(environ, start_response)
            return response
        site(environ, lambda *args: None).close()
        start_response("502 Bad Gateway", [("Content-Length", "0")])
        return [b""]

    with serving(port, proxied), new_relay() as relay:
        post(relay, webhooks(0, 3))
        wait_until_empty(relay)
    assert relay.seen[502] == 9
    assert heard == facts(0, 3)


def test_webhook_that_the_database_refuses_is_sent_again(
    port: int, new_relay: Callable[..., Relay], heard: Counter[str]
) -> None:
    with serving(port), new_relay() as relay:
        with patch.object(inbox, "store", side_effect=OperationalError):
            post(relay, webhooks(0, 2))
            wait_for(lambda: relay.seen[503] > 2, seconds=60)
        wait_until_empty(relay)
    assert heard == facts(0, 2)


def test_queue_with_another_password_keeps_its_webhooks(
    port: int, new_relay: Callable[..., Relay], heard: Counter[str]
) -> None:
    with serving(port):
        with new_relay(secret="relay:an-old-password") as relay:
            post(relay, webhooks(0, 2))
            wait_for(lambda: relay.seen[401] > 1, seconds=60)
        assert waiting(relay) == 8
        with new_relay() as corrected:
            wait_until_empty(corrected)
    assert heard == facts(0, 2)


def test_what_the_site_will_never_take_does_not_hold_up_the_rest(
    port: int, new_relay: Callable[..., Relay], heard: Counter[str], settings: Any
) -> None:
    settings.CELLCAST_MAX_BODY_BYTES = 500
    with serving(port), new_relay() as relay:
        post(relay, [reply_payload(message="x" * 600), status_payload(_id=""), *webhooks(0, 1)])
        wait_until_empty(relay)
    assert (relay.seen[413], relay.seen[400], relay.seen[200]) == (1, 1, 4)
    assert WebhookEvent.objects.invalid().count() == 1
    assert heard == facts(0, 1)


def test_page_has_the_relays_last_word() -> None:
    rows = table("docs/queue-in-front.md", "response")
    last = [row[0] for row in rows if row[2].startswith(("forget it", "set it aside"))]
    assert [int(status.split()[0]) for status in last] == sorted(LAST_WORD)
