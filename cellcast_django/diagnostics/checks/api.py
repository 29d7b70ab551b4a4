"""Cellcast's API key must fit into a header, and must be sent encrypted."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.utils.translation import gettext

from cellcast_django.conf import DEFAULT_API_URL, is_api_key, is_api_url


def check_api_key(**_: Any) -> Iterator[CheckMessage]:
    """An HTTP header must be able to carry the key."""
    key = getattr(settings, "CELLCAST_API_KEY", "")
    if key != "" and not is_api_key(key):
        yield Error(
            gettext("CELLCAST_API_KEY is not a valid API key, so nothing can be recovered."),
            hint=gettext(
                "Write the key as a string without white space or line breaks, or remove the "
                "setting to switch recovery off."
            ),
            id="cellcast_django.E015",
        )


def check_api_url(**_: Any) -> Iterator[CheckMessage]:
    """Over plain HTTP, anybody on the network could read the key."""
    if not is_api_url(getattr(settings, "CELLCAST_API_URL", DEFAULT_API_URL)):
        yield Error(
            gettext("CELLCAST_API_URL is not an https:// URL, so the API key is not sent there."),
            hint=gettext(
                'Write only the base URL, such as "%(url)s", without a query or username. http:// '
                "is allowed only for localhost."
            )
            % {"url": DEFAULT_API_URL},
            id="cellcast_django.E016",
        )
