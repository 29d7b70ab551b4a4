"""Cellcast's Test Send from your side: a real HTTP request, and what its answer means.

Knows no settings and no database. The request goes straight to the host: redirects are not
followed, and proxies named in the environment are not used.
"""

import base64
import json
import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection, InvalidURL
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

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


# Sending


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


# The diagnosis


class Finding(NamedTuple):
    """One thing that is wrong, and what to do about it, for a person to read."""

    problem: str
    remedy: str


def diagnose(answer: Answer) -> list[Finding]:
    """Say what is wrong; nothing when the webhook was accepted."""
    if answer.is_accepted:
        return []
    if answer.error is not None:
        return [_finding_of_error(answer.error)]
    if answer.events:
        return [_finding_of_events(answer)]
    if "location" in answer.headers:
        return _findings_of_redirect(answer)
    return [_finding_of_answer(answer)]


def _finding_of_error(error: Exception) -> Finding:
    return next(
        Finding(f"{problem} ({error}).", remedy)
        for kind, problem, remedy in _ERRORS
        if isinstance(error, kind)
    )


def _finding_of_events(answer: Answer) -> Finding:
    if answer.status == HTTPStatus.OK:
        return Finding(
            "A part of it was kept but not understood.",
            "Look at the invalid events in the admin: each says why.",
        )
    return Finding(
        f"It was kept but not understood: {answer.document.get('detail', '')}",
        "All is well on the way from here to the app; correct what you send.",
    )


_LOGIN = re.compile(r"\b(log-?in|sign-?in|sso|oauth2?|saml2?)\b|[?&]next=", re.IGNORECASE)


def _findings_of_redirect(answer: Answer) -> list[Finding]:
    location = urljoin(answer.url, answer.headers["location"])
    asked, target = urlsplit(answer.url), urlsplit(location)
    hosts = {asked.netloc, target.netloc}
    causes = [
        (
            location == answer.url,
            "It redirects to itself: with SECURE_SSL_REDIRECT, set SECURE_PROXY_SSL_HEADER too.",
        ),
        (
            (asked.scheme, target.scheme) == ("http", "https"),
            "Use the https:// URL, here and in Cellcast's dashboard.",
        ),
        (
            len(hosts) > len({host.removeprefix("www.") for host in hosts}),
            "Use the host to which it redirects: with www., or without.",
        ),
        (
            asked.path != target.path and asked.path.rstrip("/") == target.path.rstrip("/"),
            "Use the path to which it redirects: with a slash at its end, or without.",
        ),
        (
            _LOGIN.search(location) is not None,
            "It asks for a login: something in front of the app must let the webhook URLs through.",
        ),
    ]
    remedies = [remedy for applies, remedy in causes if applies]
    return [
        Finding(f"It redirects to {location}, and a redirect loses the webhook.", remedy)
        for remedy in remedies or ["Use the URL to which it redirects, if that is the app's."]
    ]


def _finding_of_answer(answer: Answer) -> Finding:
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    seen = f"{headers}\n\n{answer.text}"
    return next(
        Finding(problem, remedy)
        for status, pattern, problem, remedy in _ANSWERS
        if re.fullmatch(status, str(answer.status)) and re.search(pattern, seen, re.IGNORECASE)
    )


# The first row that fits is taken: an exception stands above its base classes.
_ERRORS: list[tuple[type[Exception], str, str]] = [
    (
        socket.gaierror,
        "The host name is not in DNS",
        "Look for a typing mistake, and whether the DNS record has been made.",
    ),
    (
        ssl.SSLCertVerificationError,
        "The TLS certificate is not valid for this host",
        "Renew it, or have the server send the intermediate certificates too.",
    ),
    (
        ssl.SSLError,
        "The server does not speak TLS as expected",
        "Look at the port, and whether the URL should begin with http://.",
    ),
    (
        TimeoutError,
        "No answer came in time",
        "A firewall drops the connection, or a handler is slow (and the webhook may be stored).",
    ),
    (
        ConnectionRefusedError,
        "Nothing listens at this host and port",
        "Start the server, and look at the port.",
    ),
    (
        ConnectionError,
        "The server closed the connection without an answer",
        "A firewall or a limit on the body's size does this, or a port that expects https://.",
    ),
    (InvalidURL, "The URL cannot be used", "Look for a typing mistake in it."),
    (
        HTTPException,
        "What answers does not speak HTTP",
        "Look at the port, and whether the URL should begin with https://.",
    ),
    (ValueError, "The URL cannot be used", "Look for a typing mistake in it."),
    (Exception, "The host cannot be reached", "Look at the network and the firewall."),
]

# Status, then what is to be found in the headers (as "name: value") or in the body.
_ANSWERS: list[tuple[str, str, str, str]] = [
    (
        "2..",
        r"<input[^>]+type=.?password",
        "A login page answered, not the app.",
        "Something in front of the app must let the webhook URLs through without a login.",
    ),
    (
        "2..",
        r"content-type: text/html|<html",
        "A web page answered, not the app.",
        "Look at host and path: a catch-all page, a parking page or another site is there.",
    ),
    (
        "2..",
        r"content-type: application/json",
        "Another app answered with JSON of its own.",
        "Look at host and path, and at the order of the project's urlpatterns.",
    ),
    (
        "2..",
        "",
        "Something else answered, not the app.",
        "Look at host and path.",
    ),
    (
        "400",
        r"DisallowedHost|<h1>Bad Request \(400\)",
        "Django refused the host, or took the request for an attack.",
        "Add the host to ALLOWED_HOSTS; a proxy must pass the Host header on.",
    ),
    (
        "400",
        r"HTTP request.*HTTPS",
        "The port expects HTTPS.",
        "Use the https:// URL, here and in Cellcast's dashboard.",
    ),
    (
        "401",
        r'realm="Cellcast webhook"',
        "The app is there and refused the username and password.",
        (
            "Compare them with CELLCAST_WEBHOOK_CREDENTIALS on that server, and restart it after a "
            "change. If they are equal, a proxy removes the Authorization header (Apache needs "
            '"WSGIPassAuthorization On").'
        ),
    ),
    (
        "401",
        "",
        "Something in front of the app asks for a password of its own.",
        "It must let the webhook URLs through, or pass the Authorization header on to the app.",
    ),
    (
        "403",
        "csrf",
        "Django's CSRF protection refused it, so another view answered.",
        "Look at the path; if the view is the app's, it has been wrapped and lost its exemption.",
    ),
    (
        "403",
        "",
        "Something in front of the app refused it: a firewall, a bot filter, a list of addresses.",
        "Let POST requests to the webhook URLs through; Cellcast does not document its addresses.",
    ),
    (
        "404",
        "",
        "Nothing is at this path.",
        'Look at host and path; "manage.py cellcast_setup", run on that server, prints the URLs.',
    ),
    (
        "405",
        "",
        "What is at this path takes no POST, so it is not the app.",
        "Look at host and path: another view or a server of static files is there.",
    ),
    (
        "413",
        "",
        "The body is too large.",
        "Raise CELLCAST_MAX_BODY_BYTES, or the limit of the proxy (nginx: client_max_body_size).",
    ),
    (
        "429",
        "",
        "Something in front of the app counts requests and refused this one.",
        "Except the webhook URLs from its limit: a bulk send brings a thousand reports at once.",
    ),
    (
        "503",
        r'retry-after: [\s\S]*\n\n\{"detail"',
        "The app is there, but its database refused: nothing was stored.",
        'Run "manage.py migrate", and look whether the database is up.',
    ),
    (
        "50[234]",
        "",
        "The proxy is there, but the app behind it does not answer.",
        "Look whether the app's server runs, and into its log.",
    ),
    (
        "5..",
        "",
        "The server failed.",
        "Look into its log for the exception.",
    ),
    (
        "...",
        "",
        "This answer says nothing about the cause.",
        "Look into the server's log.",
    ),
]
