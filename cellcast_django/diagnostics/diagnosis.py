"""What the response to a Test Send means, for a person: what is wrong, and what to do."""

import re
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from django.utils.translation import gettext

from cellcast_django.diagnostics.causes import ERRORS, RESPONSES
from cellcast_django.diagnostics.test_send import Response

MAX_HEADERS_LENGTH = 4_096  # how many characters of the headers are searched for a cause


class Finding(NamedTuple):
    """One thing that is wrong, and what to do about it."""

    problem: str
    remedy: str


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
    return next(
        Finding(f"{problem} ({error}).", str(remedy))
        for kind, problem, remedy in ERRORS
        if isinstance(error, kind)
    )


def _finding_of_events(response: Response) -> Finding:
    if response.status == HTTPStatus.OK:
        return Finding(
            gettext("The app received it, but could not understand all of it."),
            gettext("See the invalid events in the admin: each gives its reason."),
        )
    return Finding(
        gettext("The app received it, but could not understand it: %(detail)s")
        % {"detail": response.document.get("detail", "")},
        gettext("The connection works; correct the payload."),
    )


_LOGIN = re.compile(r"\b(log-?in|sign-?in|sso|oauth2?|saml2?)\b|[?&]next=", re.IGNORECASE)


def _findings_of_redirect(response: Response) -> list[Finding]:
    location = urljoin(response.url, response.headers["location"])
    asked, target = urlsplit(response.url), urlsplit(location)
    hosts = {asked.netloc, target.netloc}
    causes = [
        (
            location == response.url,
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
            gettext("Use the host it redirects to, with or without www."),
        ),
        (
            asked.path != target.path and asked.path.rstrip("/") == target.path.rstrip("/"),
            gettext("Use the path it redirects to, with or without a trailing slash."),
        ),
        (
            _LOGIN.search(location) is not None,
            gettext(
                "It asks for a login. Exempt the webhook URLs from whatever is in front of the app."
            ),
        ),
    ]
    remedies = [remedy for applies, remedy in causes if applies]
    problem = gettext("It redirects to %(location)s, and a redirect loses the webhook.")
    return [
        Finding(problem % {"location": location}, remedy)
        for remedy in remedies or [gettext("If that is one of the app's URLs, use it.")]
    ]


def _finding_of_status(response: Response) -> Finding:
    headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
    seen = f"{headers[:MAX_HEADERS_LENGTH]}\n\n{response.text}"
    return next(
        Finding(str(problem), str(remedy))
        for status, pattern, problem, remedy in RESPONSES
        if re.fullmatch(status, str(response.status)) and re.search(pattern, seen, re.IGNORECASE)
    )
