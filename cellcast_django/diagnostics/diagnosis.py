"""What the response to a Test Send means, for a person: what is wrong, and what to do."""

import socket
import ssl
from http import HTTPStatus
from http.client import InvalidURL
from typing import Any, NamedTuple

from django.utils.translation import gettext_lazy as _

from cellcast_django.diagnostics.test_send import Response


class Diagnosis(NamedTuple):
    """What is wrong, and what to do about it."""

    id: str
    """A word for scripts and tests: the sentences may change."""
    problem: str
    remedy: Any
    """Text, translated when it is shown."""


DIAGNOSES = {
    "no-such-host": (
        _("There is no such host"),
        _("Check the spelling of the URL, and whether the host's DNS record exists."),
    ),
    "nothing-listens": (
        _("Nothing that speaks HTTP listens on this host and port"),
        _("Start the server, and check the port, the firewall and the limit on the body's size."),
    ),
    "tls-failed": (
        _("TLS failed"),
        _("Check the port, and the certificate: in time, for this host, and with the whole chain."),
    ),
    "timed-out": (
        _("No response came in time"),
        _(
            "A firewall may be dropping the connection, or a handler may be slow: the webhook may "
            "have been stored. A server with one worker and thread cannot respond while it shows "
            "the setup page: give it two, or use “manage.py cellcast_test_send”."
        ),
    ),
    "secret-refused": (
        _("The app refused the username and password"),
        _(
            "Compare them with CELLCAST_WEBHOOK_SECRETS on that server, and restart it after a "
            "change. If they match, a proxy removes the Authorization header (Apache needs "
            '"WSGIPassAuthorization On").'
        ),
    ),
    "in-front": (
        _("Something in front of the app answered, or the app's server failed"),
        _(
            "A redirect loses the webhook: use the URL that it leads to, or exempt the webhook "
            "URLs from the login. 400: look at ALLOWED_HOSTS, or use https://. 401, 403, 413 and "
            "429: exempt the webhook URLs from the password, firewall or limit. 5xx: look at the "
            "server's log, and whether the app and its database are up."
        ),
    ),
    "not-stored": (
        _("It could not be stored"),
        _("The server's log says why. If the app answered: its database is down, or not migrated."),
    ),
    "another-app": (
        _("Another app answered"),
        _(
            "Check the host and path (“manage.py cellcast_setup” on that server prints the URLs), "
            "the order of the project's urlpatterns, and a login in front."
        ),
    ),
    "invalid": (
        _("The app received it, and could not understand all of it"),
        _("Correct the payload. The admin has the invalid events, each with its reason."),
    ),
}
"""The problem and the remedy, by the id."""

BY_ERROR: dict[type, str] = {
    socket.gaierror: "no-such-host",
    InvalidURL: "no-such-host",
    ValueError: "no-such-host",
    ssl.SSLError: "tls-failed",
    TimeoutError: "timed-out",
    Exception: "nothing-listens",
}
"""What it is where there is no response: the entry of the nearest class counts."""


def diagnose(response: Response) -> Diagnosis | None:
    """Return what is wrong; ``None`` if the webhook was accepted."""
    if response.is_accepted:
        return None
    if response.error is not None:
        found = next(BY_ERROR[each] for each in type(response.error).__mro__ if each in BY_ERROR)
        seen = f" ({response.error})"
    else:
        found, seen = _answered_by(response), _seen_in(response)
    problem, remedy = DIAGNOSES[found]
    return Diagnosis(found, f"{problem}{seen}.", remedy)


def _answered_by(response: Response) -> str:
    """Return the id of who has answered."""
    if response.events:
        return "invalid"
    is_realm_ours = 'realm="Cellcast webhook"' in response.headers.get("www-authenticate", "")
    if response.status == HTTPStatus.UNAUTHORIZED and is_realm_ours:
        return "secret-refused"
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE and "detail" in response.document:
        return "not-stored"
    is_elsewhere = response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
    return "another-app" if is_elsewhere or response.status // 100 == 2 else "in-front"


def _seen_in(response: Response) -> str:
    """Return the status, and where it redirects to or what it says."""
    is_redirect = response.status // 100 == 3 and "location" in response.headers
    target = f" → {response.headers['location']}" if is_redirect else ""
    detail = response.document.get("detail")
    said = f": {detail.rstrip('.')}" if isinstance(detail, str) else ""
    return f" ({response.status}{target}){said}"
