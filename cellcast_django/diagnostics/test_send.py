"""Test Send: one real HTTP request to a webhook URL, and the removal of what it stored."""

import base64
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.utils.encoding import iri_to_uri

from cellcast_django import payloads
from cellcast_django.error_reports import hides_variables
from cellcast_django.models import WebhookEvent
from cellcast_django.opt_outs import opts_out
from cellcast_django.payloads import read_object
from cellcast_django.upkeep.retention import Pruned
from cellcast_django.upkeep.taken_back import take_back
from cellcast_django.views import TEST_SEND_HEADER
from cellcast_django.webhooks import Webhook

MAX_RESPONSE_BYTES = 65_536
MAX_HEADER_LENGTH = 1_000
MAX_KEY = 2**63 - 1  # of a row, in every database


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The response, or else the ``error``. The server may be hostile: search ``text`` alone."""

    url: str
    status: int = 0
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = field(default=b"", repr=False)
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def text(self) -> str:
        """The beginning of the body as text."""
        return self.body[:2_000].decode("utf-8", errors="replace")

    @property
    def document(self) -> dict[str, Any]:
        """The body's JSON object; empty if it is not one."""
        return read_object(self.body)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in this app's response; empty if something else responded."""
        events = self.document.get("events")
        if not isinstance(events, list):
            return []
        return [event for event in events if isinstance(event, dict) and _is_event(event)]

    @property
    def is_accepted(self) -> bool:
        """Whether the app stored everything it was sent, now or before, or keeps it for later."""
        outcomes = {event["outcome"] for event in self.events}
        is_kept = bool(outcomes) and outcomes <= {"stored", "duplicate", "deferred"}
        return self.status == HTTPStatus.OK and is_kept


def _is_event(found: dict[str, Any]) -> bool:
    key = found.get("id")
    return type(key) is int and 0 < key <= MAX_KEY and isinstance(found.get("outcome"), str)


@hides_variables
def post_as_cellcast(
    url: str, body: bytes, secret: str, timeout: float, *, is_test: bool = True
) -> Response:
    """Post ``body`` with the ``"username:password"`` to ``url``, as Cellcast would.

    ``timeout`` is in seconds, for connecting, for each read, and for the whole body. Does not raise
    if that fails: see ``Response.error``.
    """
    started = time.monotonic()
    try:
        headers = {TEST_SEND_HEADER: "1"} if is_test else {}
        response = _exchange(url, body, secret, timeout, headers, until=started + timeout)
    except (OSError, HTTPException, ValueError) as error:
        response = Response(url=url, error=error.with_traceback(None))  # frames hold the secret
    return replace(response, seconds=time.monotonic() - started)


def _exchange(
    url: str, body: bytes, secret: str, timeout: float, more: dict[str, str], *, until: float
) -> Response:
    encoded = base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode()
    headers = {
        "Authorization": f"Basic {encoded}",
        "Connection": "close",
        "Content-Type": "application/json",
        "User-Agent": "cellcast_test_send",
    } | more
    parts = urlsplit(url)
    target = iri_to_uri(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
    with closing(_connection_to(parts, timeout)) as connection:
        connection.request("POST", target, body, headers)
        with connection.getresponse() as response:
            return Response(
                url=url,
                status=response.status,
                reason=response.reason[:MAX_HEADER_LENGTH],
                headers={
                    name.lower(): value[:MAX_HEADER_LENGTH] for name, value in response.getheaders()
                },
                body=_read(response, until),
            )


def _connection_to(url: SplitResult, timeout: float) -> HTTPConnection:
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError("it must have http:// or https:// and a host, but no username")
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    return kind(url.hostname, url.port or kind.default_port, timeout=timeout)


def _read(response: HTTPResponse, until: float) -> bytes:
    """Return the beginning of the body. Raises ``TimeoutError`` if it has not come by then."""
    body = bytearray()
    while len(body) < MAX_RESPONSE_BYTES and (chunk := response.read1(MAX_RESPONSE_BYTES)):
        body += chunk
        if time.monotonic() > until:
            raise TimeoutError("timed out")
    return bytes(body[:MAX_RESPONSE_BYTES])


def delete_tests() -> Pruned:
    """Take back the events of all Test Sends, and what only they made; opt-outs are kept."""
    tests = WebhookEvent.objects.fresh().filter(is_test=True)
    return take_back(tests.values_list("pk", flat=True))


def would_opt_out(webhook: Webhook, body: bytes, response: Response) -> bool:
    """Whether Cellcast's own webhook would have opted somebody out, as no test does."""
    read = payloads.read(body, "application/json", webhook.endpoint)
    return response.is_accepted and any(map(opts_out, read))


def describe_calls(webhook: Webhook, response: Response) -> str:
    """Return a line about who is called, as far as this process knows, for a terminal."""
    if all(event["outcome"] == "duplicate" for event in response.events):
        return f"A duplicate: no handler is called. Change a key: --set {webhook.news}=…"
    if any(event["outcome"] == "deferred" for event in response.events):
        return "Deferred: not stored for now, as the log says; cellcast_run_handlers reads it."
    if names := webhook.handlers():
        return f"Connected in this process: {', '.join(names)}. The event's page has its calls."
    return "None connected in this process: import yours in ready() of an app in INSTALLED_APPS."
