"""What the response to a Test Send means, for a person: what is wrong, and what to do."""

import re
import socket
import ssl
from contextlib import suppress
from http import HTTPStatus
from http.client import InvalidURL
from typing import Any, NamedTuple
from urllib.parse import urljoin

from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.diagnostics.test_send import Response


class Diagnosis(NamedTuple):
    """What is wrong, and what to do about it."""

    id: str
    """A word for scripts and tests: the sentences may change."""
    problem: Any
    """Text, translated when it is shown, as the remedy."""
    remedy: Any


ERRORS: dict[type[Exception] | tuple[type[Exception], ...], Diagnosis] = {
    socket.gaierror: Diagnosis(
        "host-not-in-dns",
        _("The host name is not in DNS"),
        _("Check the spelling, and whether the DNS record exists."),
    ),
    ssl.SSLCertVerificationError: Diagnosis(
        "certificate-invalid",
        _("The TLS certificate is not valid for this host"),
        _(
            "It must be unexpired, and issued for this host by a public certificate authority. The "
            "server must send the intermediate certificates too. Cellcast may not accept a "
            "self-signed one."
        ),
    ),
    ssl.SSLError: Diagnosis(
        "tls-failed",
        _("The TLS handshake failed"),
        _("Check the port, and whether the URL should begin with http://."),
    ),
    TimeoutError: Diagnosis(
        "timed-out",
        _("The request timed out"),
        _(
            "A firewall may be dropping the connection, or a handler may be slow: the webhook may "
            "have been stored. A server with one worker and thread cannot respond while it shows "
            "the setup page: give it two, or use “manage.py cellcast_test_send”."
        ),
    ),
    ConnectionRefusedError: Diagnosis(
        "nothing-listens",
        _("Nothing is listening on this host and port"),
        _("Start the server, and check the port."),
    ),
    (InvalidURL, ValueError): Diagnosis(
        "url-invalid",
        _("The URL is not valid"),
        _("Check its spelling."),
    ),
    Exception: Diagnosis(
        "no-response",
        _("The server gave no HTTP response"),
        _(
            "Check the port, and whether that expects https://. A firewall, or a limit on the "
            "body's size, may have closed the connection."
        ),
    ),
}
"""What each exception means. The first match counts: subclasses come first."""

RESPONSES: dict[tuple[str, str], Diagnosis] = {
    ("2..", r"<input[^>]{1,200}type=.?password"): Diagnosis(
        "login-page",
        _("A login page responded instead of the app."),
        _("Exempt the webhook URLs from the login in front of the app."),
    ),
    ("2..", ""): Diagnosis(
        "another-app",
        _("The response does not come from the app."),
        _("Check the host and path, and the order of the project's urlpatterns."),
    ),
    ("400", r"DisallowedHost|<h1>Bad Request \(400\)"): Diagnosis(
        "host-refused",
        _("Django refused the host, or took the request for an attack."),
        _("Add the host to ALLOWED_HOSTS. A proxy must pass the Host header on."),
    ),
    ("400", r"HTTP request.{0,100}HTTPS|plain HTTP to an SSL-enabled"): Diagnosis(
        "https-expected",
        _("The port expects HTTPS."),
        _("Use the https:// URL, here and in Cellcast's dashboard."),
    ),
    ("401", r'realm="Cellcast webhook"'): Diagnosis(
        "secret-refused",
        _("The app refused the username and password."),
        _(
            "Compare them with CELLCAST_WEBHOOK_SECRETS on that server, and restart it after a "
            "change. If they match, a proxy removes the Authorization header (Apache needs "
            '"WSGIPassAuthorization On").'
        ),
    ),
    ("403", "csrf"): Diagnosis(
        "csrf",
        _("Django's CSRF protection refused it."),
        _("Check the path: the app's views are exempt, unless something wraps them."),
    ),
    ("401|403|429", ""): Diagnosis(
        "refused-in-front",
        _(
            "Something in front of the app refused it: a password, a firewall, a bot filter or a "
            "rate limit."
        ),
        _(
            "Exempt the webhook URLs there. Cellcast publishes no IP addresses, and after a bulk "
            "send a thousand reports arrive at once."
        ),
    ),
    ("404|405", ""): Diagnosis(
        "wrong-path",
        _("The app is not at this path."),
        _('Check the host and path; "manage.py cellcast_setup" on that server prints the URLs.'),
    ),
    ("413", ""): Diagnosis(
        "body-too-large",
        _("The body is too large."),
        _("Raise CELLCAST_MAX_BODY_BYTES, or the proxy's limit (nginx: client_max_body_size)."),
    ),
    ("503", r'retry-after: [\s\S]{0,4096}\n\n\{"detail"'): Diagnosis(
        "database-failed",
        _("The app responded, but its database failed: nothing was stored."),
        _('Run "manage.py migrate", and check that the database is up.'),
    ),
    ("50[234]|52.", ""): Diagnosis(  # the latter are Cloudflare's
        "app-down",
        _("The proxy responded, but the app behind it does not."),
        _("Check that the app's server is running, and look at its log."),
    ),
    ("5..", ""): Diagnosis(
        "server-failed",
        _("The server failed."),
        _("Look for the exception in the server's log."),
    ),
    ("...", ""): Diagnosis(
        "unknown",
        _("The response does not show the cause."),
        _("Look at the server's log."),
    ),
}
"""By the status, and a pattern in the headers ("name: value") or body. The first match counts."""


MAX_HEADERS_LENGTH = 4_096  # how many characters of the headers are searched for a cause


def diagnose(response: Response) -> Diagnosis | None:
    """Return what is wrong; ``None`` if the webhook was accepted."""
    if response.is_accepted:
        return None
    if response.error is not None:
        return _of_error(response.error)
    if response.events:
        return _of_events(response)
    if "location" in response.headers:
        return _of_redirect(response)
    return _of_status(response)


def _of_error(error: Exception) -> Diagnosis:
    found = next(each for kind, each in ERRORS.items() if isinstance(error, kind))
    return found._replace(problem=f"{found.problem} ({error}).")


def _of_events(response: Response) -> Diagnosis:
    if response.status == HTTPStatus.OK:
        return Diagnosis(
            "partly-invalid",
            gettext("The app received it, but could not understand all of it."),
            gettext("See the invalid events in the admin: each gives its reason."),
        )
    return Diagnosis(
        "invalid",
        gettext("The app received it, but could not understand it: %(detail)s")
        % {"detail": response.document.get("detail", "")},
        gettext("The connection works; correct the payload."),
    )


_LOGIN = re.compile(r"\b(log-?in|sign-?in|sso|oauth2?|saml2?)\b|[?&]next=", re.IGNORECASE)


def _of_redirect(response: Response) -> Diagnosis:
    location = response.headers["location"]
    with suppress(ValueError):  # it is no URL
        location = urljoin(response.url, location)
    if location == response.url:
        identity = "redirect-to-itself"
        remedy = gettext("With SECURE_SSL_REDIRECT, set SECURE_PROXY_SSL_HEADER too.")
    elif _LOGIN.search(location):
        identity = "redirect-to-login"
        remedy = gettext("Exempt the webhook URLs from whatever asks for a login there.")
    else:
        identity = "redirect"
        remedy = gettext(
            "If only https://, www. or the slash at the end differs, use that URL, here and in "
            "Cellcast's dashboard."
        )
    problem = gettext("It redirects to %(location)s, and a redirect loses the webhook.")
    return Diagnosis(identity, problem % {"location": location}, remedy)


def _of_status(response: Response) -> Diagnosis:
    headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
    seen = f"{headers[:MAX_HEADERS_LENGTH]}\n\n{response.text}"
    return next(
        each
        for (status, pattern), each in RESPONSES.items()
        if re.fullmatch(status, str(response.status)) and re.search(pattern, seen, re.IGNORECASE)
    )
