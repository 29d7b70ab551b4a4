"""What the answer to a Test Send means, for a person to read: what is wrong, and what to do."""

import re
import socket
import ssl
from http import HTTPStatus
from http.client import HTTPException, InvalidURL
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.diagnostics.test_send import Answer

MAX_HEADERS = 4_096
"""Characters of an answer's headers that are searched for its cause."""


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
        Finding(f"{problem} ({error}).", str(remedy))
        for kind, problem, remedy in _ERRORS
        if isinstance(error, kind)
    )


def _finding_of_events(answer: Answer) -> Finding:
    if answer.status == HTTPStatus.OK:
        return Finding(
            gettext("Received, but a part of it is not readable."),
            gettext("Look at the invalid events in the admin: each says why."),
        )
    return Finding(
        gettext("Received, but not readable: %(detail)s")
        % {"detail": answer.document.get("detail", "")},
        gettext("The connection works; correct what you send."),
    )


_LOGIN = re.compile(r"\b(log-?in|sign-?in|sso|oauth2?|saml2?)\b|[?&]next=", re.IGNORECASE)


def _findings_of_redirect(answer: Answer) -> list[Finding]:
    location = urljoin(answer.url, answer.headers["location"])
    asked, target = urlsplit(answer.url), urlsplit(location)
    hosts = {asked.netloc, target.netloc}
    causes = [
        (
            location == answer.url,
            gettext(
                "It redirects to itself: with SECURE_SSL_REDIRECT, set SECURE_PROXY_SSL_HEADER too."
            ),
        ),
        (
            (asked.scheme, target.scheme) == ("http", "https"),
            gettext("Use the https:// URL, here and in Cellcast's dashboard."),
        ),
        (
            len(hosts) > len({host.removeprefix("www.") for host in hosts}),
            gettext("Use the host to which it redirects: with www., or without."),
        ),
        (
            asked.path != target.path and asked.path.rstrip("/") == target.path.rstrip("/"),
            gettext("Use the path to which it redirects: with a slash at its end, or without."),
        ),
        (
            _LOGIN.search(location) is not None,
            gettext(
                "It asks for a login: something in front of the app must let the webhook URLs "
                "through."
            ),
        ),
    ]
    remedies = [remedy for applies, remedy in causes if applies]
    problem = gettext("It redirects to %(location)s, and a redirect loses the webhook.")
    return [
        Finding(problem % {"location": location}, remedy)
        for remedy in remedies
        or [gettext("Use the URL to which it redirects, if that is the app's.")]
    ]


def _finding_of_answer(answer: Answer) -> Finding:
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    seen = f"{headers[:MAX_HEADERS]}\n\n{answer.text}"
    return next(
        Finding(str(problem), str(remedy))
        for status, pattern, problem, remedy in _ANSWERS
        if re.fullmatch(status, str(answer.status)) and re.search(pattern, seen, re.IGNORECASE)
    )


# The first row that fits is taken: an exception stands above its base classes.
_ERRORS: list[tuple[type[Exception], Promise, Promise]] = [
    (
        socket.gaierror,
        _("The host name is not in DNS"),
        _("Look for a typing mistake, and whether the DNS record has been made."),
    ),
    (
        ssl.SSLCertVerificationError,
        _("The TLS certificate is not valid for this host"),
        _(
            "It must be issued by a public authority for this very host, and not have expired; the "
            "server must send the intermediate certificates too. Cellcast may not take one that "
            "you have signed yourself."
        ),
    ),
    (
        ssl.SSLError,
        _("The server does not speak TLS as expected"),
        _("Look at the port, and whether the URL should begin with http://."),
    ),
    (
        TimeoutError,
        _("No answer came in time"),
        _("A firewall drops the connection, or a handler is slow (and the webhook may be stored)."),
    ),
    (
        ConnectionRefusedError,
        _("Nothing listens at this host and port"),
        _("Start the server, and look at the port."),
    ),
    (
        ConnectionError,
        _("The server closed the connection without an answer"),
        _("A firewall or a limit on the body's size does this, or a port that expects https://."),
    ),
    (InvalidURL, _("The URL cannot be used"), _("Look for a typing mistake in it.")),
    (
        HTTPException,
        _("What answers does not speak HTTP"),
        _("Look at the port, and whether the URL should begin with https://."),
    ),
    (ValueError, _("The URL cannot be used"), _("Look for a typing mistake in it.")),
    (Exception, _("The host cannot be reached"), _("Look at the network and the firewall.")),
]

# Status, then what is to be found in the headers (as "name: value") or in the body.
_ANSWERS: list[tuple[str, str, Promise, Promise]] = [
    (
        "2..",
        r"<input[^>]{1,200}type=.?password",
        _("A login page answered, not the app."),
        _("Something in front of the app must let the webhook URLs through without a login."),
    ),
    (
        "2..",
        r"content-type: text/html|<html",
        _("A web page answered, not the app."),
        _("Look at host and path: a catch-all page, a parking page or another site is there."),
    ),
    (
        "2..",
        r"content-type: application/json",
        _("Another app answered with JSON of its own."),
        _("Look at host and path, and at the order of the project's urlpatterns."),
    ),
    (
        "2..",
        "",
        _("Something else answered, not the app."),
        _("Look at host and path."),
    ),
    (
        "400",
        r"DisallowedHost|<h1>Bad Request \(400\)",
        _("Django refused the host, or took the request for an attack."),
        _("Add the host to ALLOWED_HOSTS; a proxy must pass the Host header on."),
    ),
    (
        "400",
        r"HTTP request.{0,100}HTTPS|plain HTTP to an SSL-enabled",
        _("The port expects HTTPS."),
        _("Use the https:// URL, here and in Cellcast's dashboard."),
    ),
    (
        "400",
        "No required SSL certificate was sent",
        _("The server asks for a TLS certificate of the client."),
        _("Cellcast has none: let the webhook URLs through without one."),
    ),
    (
        "401",
        r'realm="Cellcast webhook"',
        _("The app is there and refused the username and password."),
        _(
            "Compare them with CELLCAST_WEBHOOK_SECRETS on that server, and restart it after a "
            "change. If they are equal, a proxy removes the Authorization header (Apache needs "
            '"WSGIPassAuthorization On").'
        ),
    ),
    (
        "401",
        "",
        _("Something in front of the app asks for a password of its own."),
        _("It must let the webhook URLs through, or pass the Authorization header on to the app."),
    ),
    (
        "403",
        "csrf",
        _("Django's CSRF protection refused it, so another view answered."),
        _(
            "Look at the path; if the view is the app's, it has been wrapped and lost its "
            "exemption."
        ),
    ),
    (
        "403",
        "",
        _(
            "Something in front of the app refused it: a firewall, a bot filter, a list of "
            "addresses."
        ),
        _(
            "Let POST requests to the webhook URLs through; Cellcast does not document its "
            "addresses."
        ),
    ),
    (
        "404",
        "",
        _("Nothing is at this path."),
        _(
            'Look at host and path; "manage.py cellcast_setup", run on that server, prints the '
            "URLs."
        ),
    ),
    (
        "405",
        "",
        _("What is at this path takes no POST, so it is not the app."),
        _("Look at host and path: another view or a server of static files is there."),
    ),
    (
        "411",
        "",
        _("The server wants the length of the body, and something on the way removes it."),
        _("Let the proxy buffer requests, or the server take chunked bodies."),
    ),
    (
        "413",
        "",
        _("The body is too large."),
        _(
            "Raise CELLCAST_MAX_BODY_BYTES, or the limit of the proxy (nginx: "
            "client_max_body_size)."
        ),
    ),
    (
        "429",
        "",
        _("Something in front of the app counts requests and refused this one."),
        _("Exempt the webhook URLs from its limit: a bulk send brings a thousand reports at once."),
    ),
    (
        "503",
        r'retry-after: [\s\S]{0,4096}\n\n\{"detail"',
        _("The app is there, but its database refused: nothing was stored."),
        _('Run "manage.py migrate", and look whether the database is up.'),
    ),
    (
        "50[234]|52.",  # the latter are Cloudflare's
        "",
        _("The proxy is there, but the app behind it does not answer."),
        _("Look whether the app's server runs, and into its log."),
    ),
    (
        "5..",
        "",
        _("The server failed."),
        _("Check the server log for the exception."),
    ),
    (
        "...",
        "",
        _("This answer says nothing about the cause."),
        _("Look into the server's log."),
    ),
]
