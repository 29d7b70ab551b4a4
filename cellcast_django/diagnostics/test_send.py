"""Cellcast's Test Send from your side: a real HTTP request to a webhook URL.

Knows no settings and no database. The request goes straight to the host: redirects are not
followed, and proxies named in the environment are not used. What an answer means is in
``diagnosis``.
"""

import base64
import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.urls import reverse
from django.utils.encoding import iri_to_uri

from cellcast_django.payloads import Endpoint

MAX_ANSWER_BYTES = 65_536

URL_NAMES = {
    Endpoint.RECEIVE: "cellcast_django:webhook-receiver",
    Endpoint.STATUS: "cellcast_django:webhook-status",
    Endpoint.OPT_OUT: "cellcast_django:webhook-opt-out",
}

# Cellcast's own examples, byte for byte; the opt-out as it has been seen on live accounts.
EXAMPLES = {
    Endpoint.RECEIVE: b'{"_id": "66b5b93b1e2c012dfe964000", "status": "delivered", '
    b'"type": "receive", "message": "This is reply message", "sender": "+61400000000", '
    b'"receiver": "+61400000001"}',
    Endpoint.STATUS: b'{"_id": "66b5b93b1e2c012dfe964000", "status": "delivered", '
    b'"type": "send", "sender": "cellcast", "receiver": "+61400000001"}',
    Endpoint.OPT_OUT: b'{"type": "optout", "contact": "404000000"}',
}


def webhook_url(endpoint: Endpoint, base_url: str) -> str:
    """Return the URL to paste into the dashboard. Raises ``NoReverseMatch``."""
    return base_url.rstrip("/") + reverse(URL_NAMES[endpoint])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: a response, or the ``error`` because of which none came.

    ``headers`` have names in lower case, ``body`` ends after ``MAX_ANSWER_BYTES``, and ``seconds``
    is how long it took.
    """

    url: str
    status: int = 0
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", errors="replace")

    @property
    def document(self) -> dict[str, Any]:
        """The body's JSON object; empty where it is none."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in this app's answer; empty where something else has answered."""
        events = self.document.get("events")
        if not isinstance(events, list):
            return []
        return [event for event in events if isinstance(event, dict) and "outcome" in event]

    @property
    def is_accepted(self) -> bool:
        """Whether the app says that all it was sent is stored, now or before."""
        outcomes = [event["outcome"] for event in self.events]
        return (
            self.status == HTTPStatus.OK
            and bool(outcomes)
            and all(outcome in ("stored", "duplicate") for outcome in outcomes)
        )


def send(url: str, body: bytes, credential: str, timeout: float) -> Answer:
    """Post ``body`` with the ``"username:password"`` to ``url``, as Cellcast would.

    ``timeout`` is in seconds, for the connection and for each piece of the answer. Never raises for
    what is wrong with the URL, the network or the other side: see ``Answer.error``.
    """
    started = time.monotonic()
    encoded = base64.b64encode(credential.encode("utf-8", "surrogateescape")).decode()
    headers = {
        "Authorization": f"Basic {encoded}",
        "Connection": "close",
        "Content-Type": "application/json",
        "User-Agent": "cellcast_test_send",
    }
    try:
        parts = urlsplit(url)
        target = iri_to_uri(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
        with closing(_connection_to(parts, timeout)) as connection:
            connection.request("POST", target, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(
                url=url,
                status=response.status,
                reason=response.reason,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(MAX_ANSWER_BYTES),
                seconds=time.monotonic() - started,
            )
    except (OSError, HTTPException, ValueError) as error:
        return Answer(url=url, error=error, seconds=time.monotonic() - started)


def _connection_to(url: SplitResult, timeout: float) -> HTTPConnection:
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError("it needs http:// or https:// and a host, and no username")
    if url.scheme == "https":
        return HTTPSConnection(url.hostname, url.port or 443, timeout=timeout)
    return HTTPConnection(url.hostname, url.port or 80, timeout=timeout)
