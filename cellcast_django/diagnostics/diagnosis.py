"""What the response to a Test Send means, for a person: what is wrong, and what to do."""

import re
import socket
import ssl
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, InvalidURL
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.diagnostics.test_send import Response


class Finding(NamedTuple):
    """One thing that is wrong, and what to do about it."""

    id: str
    """A word for scripts and tests: the sentences may change."""
    problem: Any
    """Text, translated when it is shown, as the remedy."""
    remedy: Any


ERRORS: dict[type[Exception] | tuple[type[Exception], ...], Finding] = {
    socket.gaierror: Finding(
        "host-not-in-dns",
        _("The host name is not in DNS"),
        _("Check the spelling, and whether the DNS record exists."),
    ),
    ssl.SSLCertVerificationError: Finding(
        "certificate-invalid",
        _("The TLS certificate is not valid for this host"),
        _(
            "It must be unexpired, and issued for this host by a public certificate authority. The "
            "server must send the intermediate certificates too. Cellcast may not accept a "
            "self-signed one."
        ),
    ),
    ssl.SSLError: Finding(
        "tls-failed",
        _("The TLS handshake failed"),
        _("Check the port, and whether the URL should begin with http://."),
    ),
    TimeoutError: Finding(
        "timed-out",
        _("The request timed out"),
        _(
            "A firewall may be dropping the connection, or a handler may be slow (the webhook may "
            "have been stored)."
        ),
    ),
    ConnectionRefusedError: Finding(
        "nothing-listens",
        _("Nothing is listening on this host and port"),
        _("Start the server, and check the port."),
    ),
    ConnectionError: Finding(
        "connection-closed",
        _("The server closed the connection without a response"),
        _(
            "A firewall or a limit on the body's size may be the cause, or the port expects https://."
        ),
    ),
    (InvalidURL, ValueError): Finding(
        "url-invalid",
        _("The URL is not valid"),
        _("Check its spelling."),
    ),
    HTTPException: Finding(
        "no-http",
        _("The server does not speak HTTP"),
        _("Check the port, and whether the URL should begin with https://."),
    ),
    Exception: Finding(
        "unreachable",
        _("The host cannot be reached"),
        _("Check the network and the firewall."),
    ),
}
"""What each exception means. The first match counts: subclasses come first."""

RESPONSES: dict[tuple[str, str], Finding] = {
    ("2..", r"<input[^>]{1,200}type=.?password"): Finding(
        "login-page",
        _("A login page responded instead of the app."),
        _("Exempt the webhook URLs from the login in front of the app."),
    ),
    ("2..", r"content-type: text/html|<html"): Finding(
        "web-page",
        _("A web page responded instead of the app."),
        _("Check the host and path: this may be a catch-all page, a parking page or another site."),
    ),
    ("2..", r"content-type: application/json"): Finding(
        "json-of-another-app",
        _("The response is JSON from another app."),
        _("Check the host and path, and the order of the project's urlpatterns."),
    ),
    ("2..", ""): Finding(
        "another-app",
        _("The response does not come from the app."),
        _("Check the host and path."),
    ),
    ("400", r"DisallowedHost|<h1>Bad Request \(400\)"): Finding(
        "host-refused",
        _("Django refused the host, or took the request for an attack."),
        _("Add the host to ALLOWED_HOSTS. A proxy must pass the Host header on."),
    ),
    ("400", r"HTTP request.{0,100}HTTPS|plain HTTP to an SSL-enabled"): Finding(
        "https-expected",
        _("The port expects HTTPS."),
        _("Use the https:// URL, here and in Cellcast's dashboard."),
    ),
    ("400", "No required SSL certificate was sent"): Finding(
        "client-certificate",
        _("The server asks for a client certificate."),
        _("Cellcast has none: exempt the webhook URLs from that."),
    ),
    ("401", r'realm="Cellcast webhook"'): Finding(
        "secret-refused",
        _("The app refused the username and password."),
        _(
            "Compare them with CELLCAST_WEBHOOK_SECRETS on that server, and restart it after a "
            "change. If they match, a proxy removes the Authorization header (Apache needs "
            '"WSGIPassAuthorization On").'
        ),
    ),
    ("401", ""): Finding(
        "password-in-front",
        _("Something in front of the app asks for its own password."),
        _("Exempt the webhook URLs there."),
    ),
    ("403", "csrf"): Finding(
        "csrf",
        _("Django's CSRF protection refused it."),
        _("Check the path: the app's views are exempt, unless something wraps them."),
    ),
    ("403", ""): Finding(
        "firewall",
        _("Something in front of the app refused it: a firewall, bot filter or IP allow list."),
        _("Allow POST requests to the webhook URLs. Cellcast publishes no IP addresses."),
    ),
    ("404", ""): Finding(
        "no-such-path",
        _("There is nothing at this path."),
        _('Check the host and path; "manage.py cellcast_setup" on that server prints the URLs.'),
    ),
    ("405", ""): Finding(
        "no-post",
        _("Whatever is at this path does not accept POST, so it is not the app."),
        _("Check the host and path: this may be another view or a static file server."),
    ),
    ("411", ""): Finding(
        "length-required",
        _("The server needs the body's length, and something on the way removes it."),
        _("Let the proxy buffer requests, or use a server that accepts chunked bodies."),
    ),
    ("413", ""): Finding(
        "body-too-large",
        _("The body is too large."),
        _("Raise CELLCAST_MAX_BODY_BYTES, or the proxy's limit (nginx: client_max_body_size)."),
    ),
    ("429", ""): Finding(
        "rate-limited",
        _("Something in front of the app limits the rate of requests."),
        _("Exempt the webhook URLs: after a bulk send, a thousand reports arrive at once."),
    ),
    ("503", r'retry-after: [\s\S]{0,4096}\n\n\{"detail"'): Finding(
        "database-failed",
        _("The app responded, but its database failed: nothing was stored."),
        _('Run "manage.py migrate", and check that the database is up.'),
    ),
    ("50[234]|52.", ""): Finding(  # the latter are Cloudflare's
        "app-down",
        _("The proxy responded, but the app behind it does not."),
        _("Check that the app's server is running, and look at its log."),
    ),
    ("5..", ""): Finding(
        "server-failed",
        _("The server failed."),
        _("Look for the exception in the server's log."),
    ),
    ("...", ""): Finding(
        "unknown",
        _("The response does not show the cause."),
        _("Look at the server's log."),
    ),
}
"""By the status, and a pattern in the headers ("name: value") or body. The first match counts."""


MAX_HEADERS_LENGTH = 4_096  # how many characters of the headers are searched for a cause


def diagnose(response: Response) -> list[Finding]:
    """Return what is wrong; nothing if the webhook was accepted."""
    if response.is_accepted:
        return []
    if response.error is not None:
        return [_finding_of_error(response.error)]
    if response.events:
        return [_finding_of_events(response)]
    if "location" in response.headers:
        return _findings_of_redirect(response)
    return [_finding_of_status(response)]


def _finding_of_error(error: Exception) -> Finding:
    found = next(finding for kind, finding in ERRORS.items() if isinstance(error, kind))
    return found._replace(problem=f"{found.problem} ({error}).")


def _finding_of_events(response: Response) -> Finding:
    if response.status == HTTPStatus.OK:
        return Finding(
            "partly-invalid",
            gettext("The app received it, but could not understand all of it."),
            gettext("See the invalid events in the admin: each gives its reason."),
        )
    return Finding(
        "invalid",
        gettext("The app received it, but could not understand it: %(detail)s")
        % {"detail": response.document.get("detail", "")},
        gettext("The connection works; correct the payload."),
    )


_LOGIN = re.compile(r"\b(log-?in|sign-?in|sso|oauth2?|saml2?)\b|[?&]next=", re.IGNORECASE)


def _findings_of_redirect(response: Response) -> list[Finding]:
    location = response.headers["location"]
    found: list[tuple[str, str]] = []
    with suppress(ValueError):  # what is no URL has none of these causes
        location = urljoin(response.url, location)
        found = _causes_of_redirect(response.url, location)
    problem = gettext("It redirects to %(location)s, and a redirect loses the webhook.")
    return [
        Finding(identity, problem % {"location": location}, remedy)
        for identity, remedy in found
        or [("redirect", gettext("If that is one of the app's URLs, use it."))]
    ]


def _causes_of_redirect(url: str, location: str) -> list[tuple[str, str]]:
    asked, target = urlsplit(url), urlsplit(location)
    hosts = {asked.netloc, target.netloc}
    causes = [
        (
            location == url,
            "redirect-to-itself",
            gettext(
                "It redirects to itself: with SECURE_SSL_REDIRECT, set SECURE_PROXY_SSL_HEADER too."
            ),
        ),
        (
            (asked.scheme, target.scheme) == ("http", "https"),
            "redirect-to-https",
            gettext("Use the https:// URL, here and in Cellcast's dashboard."),
        ),
        (
            len(hosts) > len({host.removeprefix("www.") for host in hosts}),
            "redirect-to-www",
            gettext("Use the host it redirects to, with or without www."),
        ),
        (
            asked.path != target.path and asked.path.rstrip("/") == target.path.rstrip("/"),
            "redirect-to-slash",
            gettext("Use the path it redirects to, with or without a trailing slash."),
        ),
        (
            _LOGIN.search(location) is not None,
            "redirect-to-login",
            gettext(
                "It asks for a login. Exempt the webhook URLs from whatever is in front of the app."
            ),
        ),
    ]
    return [(identity, remedy) for applies, identity, remedy in causes if applies]


def _finding_of_status(response: Response) -> Finding:
    headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
    seen = f"{headers[:MAX_HEADERS_LENGTH]}\n\n{response.text}"
    return next(
        finding
        for (status, pattern), finding in RESPONSES.items()
        if re.fullmatch(status, str(response.status)) and re.search(pattern, seen, re.IGNORECASE)
    )
