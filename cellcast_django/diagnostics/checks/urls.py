"""How webhooks reach the views: the project's URLs, HTTPS, and redirects."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Warning as Notice
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext

from cellcast_django.conf import conf
from cellcast_django.diagnostics.checks.values import is_base_url

Messages = Iterator[CheckMessage]


def check_urls(**_: Any) -> Messages:
    """The webhook views must be in the project's URLs."""
    if not _webhook_path():
        yield Notice(
            gettext("The webhook URLs are not in ROOT_URLCONF, so no webhook can arrive."),
            hint=gettext('Add path("sms/", include("cellcast_django.urls")) to its urlpatterns.'),
            id="cellcast_django.W006",
        )


def _webhook_path() -> str:
    """Return the path of the Receive URL; empty if it is not in the project's URLs."""
    if not getattr(settings, "ROOT_URLCONF", ""):
        return ""
    try:
        return reverse("cellcast_django:webhook-receiver")
    except NoReverseMatch:
        return ""


def check_https(**_: Any) -> Messages:
    """HTTP Basic sends the password in clear, so the connection must be encrypted."""
    scheme = urlsplit(conf.public_url).scheme if is_base_url(conf.public_url) else ""
    mentions_https = (
        settings.SECURE_SSL_REDIRECT
        or settings.SECURE_PROXY_SSL_HEADER
        or settings.SECURE_HSTS_SECONDS
    )
    if scheme != "https" and (scheme or not mentions_https):
        yield Notice(
            gettext(
                "No setting shows that the site uses HTTPS. Over plain HTTP, anyone on the network "
                "can read the password and the messages."
            ),
            hint=gettext('Serve the site over HTTPS and set CELLCAST_PUBLIC_URL = "https://…".'),
            id="cellcast_django.W007",
        )


def check_redirects(**_: Any) -> Messages:
    """A redirect drops the body of a POST, so the URL in the dashboard must be the final one."""
    url = urlsplit(conf.public_url if is_base_url(conf.public_url) else "")
    if url.scheme == "http" and _redirects_to_https():
        yield Notice(
            gettext(
                "SECURE_SSL_REDIRECT redirects webhooks to https://, and a redirect loses them."
            ),
            hint=gettext(
                'Set CELLCAST_PUBLIC_URL = "https://…" and paste the https:// URLs into '
                "Cellcast's dashboard."
            ),
            id="cellcast_django.W008",
        )
    if _redirects_to_www() and not (url.hostname or "").startswith("www."):
        yield Notice(
            gettext("PREPEND_WWW redirects webhooks to www., and a redirect loses them."),
            hint=gettext(
                'Set CELLCAST_PUBLIC_URL = "https://www.…" and paste the URLs with www. '
                "into Cellcast's dashboard."
            ),
            id="cellcast_django.W009",
        )


def _redirects_to_https() -> bool:
    path = _webhook_path().lstrip("/")
    return (
        settings.SECURE_SSL_REDIRECT
        and "django.middleware.security.SecurityMiddleware" in settings.MIDDLEWARE
        and not any(re.search(pattern, path) for pattern in settings.SECURE_REDIRECT_EXEMPT)
    )


def _redirects_to_www() -> bool:
    return (
        settings.PREPEND_WWW and "django.middleware.common.CommonMiddleware" in settings.MIDDLEWARE
    )
