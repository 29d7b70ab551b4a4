"""What the response to a Test Send means, for a person: what is wrong, and what to do."""

import socket
import ssl
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import InvalidURL
from typing import Any

from django.utils.translation import gettext_lazy as _

from cellcast_django.diagnostics.test_send import Response


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is wrong, and what to do about it."""

    id: str
    """A word for scripts and tests: the sentences may change."""
    problem: Any
    """Text, translated when it is shown, as the remedy."""
    remedy: Any
    errors: tuple[type[Exception], ...] = ()
    """What it is taken from where there is no response: these, unless a subclass is another's."""


DIAGNOSES = (
    Diagnosis(
        id="no-such-host",
        problem=_("There is no such host"),
        remedy=_("Check the spelling of the URL, and whether the host's DNS record exists."),
        errors=(socket.gaierror, InvalidURL, ValueError),
    ),
    Diagnosis(
        id="nothing-listens",
        problem=_("Nothing that speaks HTTP listens on this host and port"),
        remedy=_(
            "Start the server, and check the port. A firewall, or a limit on the body's size, may "
            "have closed the connection."
        ),
        errors=(Exception,),
    ),
    Diagnosis(
        id="tls-failed",
        problem=_("TLS failed"),
        remedy=_(
            "Check the port, and whether the URL should begin with http://. The certificate must "
            "be unexpired, and issued for this host by a public authority; the server must send "
            "the intermediate certificates too."
        ),
        errors=(ssl.SSLError,),
    ),
    Diagnosis(
        id="timed-out",
        problem=_("No response came in time"),
        remedy=_(
            "A firewall may be dropping the connection, or a handler may be slow: the webhook may "
            "have been stored. A server with one worker and thread cannot respond while it shows "
            "the setup page: give it two, or use “manage.py cellcast_test_send”."
        ),
        errors=(TimeoutError,),
    ),
    Diagnosis(
        id="secret-refused",
        problem=_("The app refused the username and password"),
        remedy=_(
            "Compare them with CELLCAST_WEBHOOK_SECRETS on that server, and restart it after a "
            "change. If they match, a proxy removes the Authorization header (Apache needs "
            '"WSGIPassAuthorization On").'
        ),
    ),
    Diagnosis(
        id="in-front",
        problem=_("Something in front of the app answered, or the app's server failed"),
        remedy=_(
            "A redirect loses the webhook: use the URL that it leads to, or exempt the webhook "
            "URLs from the login. 400: add the host to ALLOWED_HOSTS, or use https://. 401, 403 "
            "and 429: exempt the webhook URLs from the password, firewall or rate limit. 413: "
            "raise the limit. 5xx: look at the server's log, and whether the app and its database "
            "are up."
        ),
    ),
    Diagnosis(
        id="another-app",
        problem=_("Another app answered"),
        remedy=_(
            "Check the host and path (“manage.py cellcast_setup” on that server prints the URLs), "
            "and the order of the project's urlpatterns. A login in front has to let the webhook "
            "URLs through."
        ),
    ),
    Diagnosis(
        id="invalid",
        problem=_("The app received it, and could not understand all of it"),
        remedy=_(
            "The connection works; correct the payload. The admin has the invalid events, each "
            "with its reason."
        ),
    ),
)
"""Each is found by its id or by its errors, so their order means nothing."""

BY_ID = {each.id: each for each in DIAGNOSES}
BY_ERROR = {error: each for each in DIAGNOSES for error in each.errors}


def diagnose(response: Response) -> Diagnosis | None:
    """Return what is wrong; ``None`` if the webhook was accepted."""
    if response.is_accepted:
        return None
    if response.error is not None:
        kinds = type(response.error).__mro__
        found = next(BY_ERROR[kind] for kind in kinds if kind in BY_ERROR)
        seen = f" ({response.error})"
    else:
        found = BY_ID[_answered_by(response)]
        seen = _seen_in(response)
    return replace(found, problem=f"{found.problem}{seen}.")


def _answered_by(response: Response) -> str:
    """Return the id of who has answered."""
    if response.events:
        return "invalid"
    is_realm_ours = 'realm="Cellcast webhook"' in response.headers.get("www-authenticate", "")
    if response.status == HTTPStatus.UNAUTHORIZED and is_realm_ours:
        return "secret-refused"
    is_elsewhere = response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
    return "another-app" if is_elsewhere or response.status // 100 == 2 else "in-front"


def _seen_in(response: Response) -> str:
    """Return the status, and where it redirects to or what it says."""
    seen = f" ({response.status}"
    if response.status // 100 == 3 and "location" in response.headers:
        seen += f" → {response.headers['location']}"
    detail = response.document.get("detail")
    said = f": {detail.rstrip('.')}" if isinstance(detail, str) else ""
    return f"{seen}){said}"
