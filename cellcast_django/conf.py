"""The app's settings, one property each, and what the value of one must look like to be used.

Each is read when first used and after ``setting_changed``: a webhook asks for up to eight of them,
and asking Django for one that is not set raises an error each time. Django sends the signal for
``override_settings``, pytest-django for its fixture.
"""

import re
from contextlib import suppress
from functools import cached_property
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

DEFAULT_API_URL = "https://api.cellcast.com"
DEFAULT_STOP_WORDS = ("stop", "stopall", "unsubscribe", "unsub", "optout")


class Settings:
    """Typed access to the ``CELLCAST_…`` settings; system checks validate their values."""

    @cached_property
    def webhook_secrets(self) -> tuple[str, ...]:
        """``"username:password"`` strings, any of which is accepted; with none, all is refused.

        Malformed entries are ignored: a mistake in the settings never lets anybody in, and a system
        check reports it.
        """
        value = getattr(settings, "CELLCAST_WEBHOOK_SECRETS", ())
        if not isinstance(value, (list, tuple)):
            return ()
        return tuple(entry for entry in value if isinstance(entry, str) and is_credential(entry))

    @cached_property
    def default_region(self) -> str:
        """The region (ISO 3166 code) of numbers without a country code."""
        return getattr(settings, "CELLCAST_DEFAULT_REGION", "AU")

    @cached_property
    def max_body_bytes(self) -> int:
        """The largest body in bytes; larger ones are refused with 413, unread."""
        return getattr(settings, "CELLCAST_MAX_BODY_BYTES", 262_144)

    @cached_property
    def run_handlers(self) -> str:
        """``"inline"``: handlers run before the response; ``"task"``: on a Django Tasks backend."""
        return getattr(settings, "CELLCAST_RUN_HANDLERS", "inline")

    @cached_property
    def task_backend(self) -> str:
        """With ``"task"``: the alias in ``TASKS`` that handlers are enqueued on."""
        return getattr(settings, "CELLCAST_TASK_BACKEND", "default")

    @cached_property
    def handler_lease(self) -> int:
        """Seconds for which other processes leave a running attempt alone."""
        return getattr(settings, "CELLCAST_HANDLER_LEASE", 300)

    @cached_property
    def handler_max_attempts(self) -> int:
        """How often a handler is called for an event before that has failed and needs a person."""
        return getattr(settings, "CELLCAST_HANDLER_MAX_ATTEMPTS", 12)

    @cached_property
    def public_url(self) -> str:
        """The site's own base URL, for the setup page and the commands that print or call URLs.

        Without a trailing slash; ``""`` if unset.
        """
        return str(getattr(settings, "CELLCAST_PUBLIC_URL", "")).rstrip("/")

    @cached_property
    def stop_words(self) -> tuple[str, ...]:
        """A reply whose whole text is one of these opts the customer out; ``[]`` turns that off.

        A mistake must not turn opting out off: a value that is not a list means the default, and
        entries that are not strings are ignored. A system check reports both.
        """
        value = getattr(settings, "CELLCAST_STOP_WORDS", DEFAULT_STOP_WORDS)
        if not isinstance(value, (list, tuple)):
            return DEFAULT_STOP_WORDS
        return tuple(word for word in value if isinstance(word, str))

    @cached_property
    def contact_names(self) -> str:
        """The dotted path of ``(contacts: list[str]) -> dict[str, str]``: names for the admin."""
        return getattr(settings, "CELLCAST_CONTACT_NAMES", "")

    @cached_property
    def contact_search(self) -> str:
        """The dotted path of ``(words: str) -> Iterable[str]``: whose numbers these words may mean.

        For the search of the admin's lists; at most 200 are used.
        """
        return getattr(settings, "CELLCAST_CONTACT_SEARCH", "")

    @cached_property
    def send_with(self) -> str:
        """The dotted path of ``(receiver: str, body: str, sender: str) -> str``: lets staff answer.

        It sends, and returns Cellcast's id. ``sender`` is the own number the customer wrote to.
        ``"cellcast_django.api.send_sms"`` is one.
        """
        return getattr(settings, "CELLCAST_SEND_WITH", "")

    @cached_property
    def api_key(self) -> str:
        """The API key, for ``cellcast_recover`` and ``send_sms``; never shown or logged.

        ``""`` if it is unset or cannot be a bearer token.
        """
        value = getattr(settings, "CELLCAST_API_KEY", "")
        return value if is_api_key(value) else ""

    @cached_property
    def api_url(self) -> str:
        """The base URL of Cellcast's API; accounts in the US and the UK have other hosts."""
        return str(getattr(settings, "CELLCAST_API_URL", DEFAULT_API_URL)).rstrip("/")


conf = Settings()


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    vars(conf).clear()


# What a value must look like

BASE_URL = re.compile(r"(?i:https?)://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:\d{1,5})?/*")


def is_base_url(url: object) -> bool:
    """Whether this is a scheme and a host, with or without a port, and nothing else."""
    with suppress(ValueError):  # of a host name that looks like two parts of a URL
        return isinstance(url, str) and BASE_URL.fullmatch(url) is not None and bool(urlsplit(url))
    return False


def is_credential(entry: object) -> bool:
    """Whether this is a printable ``"username:password"`` string with both parts present.

    An environment variable that is not UTF-8 contains lone surrogates, which are not printable.
    """
    if not isinstance(entry, str):
        return False
    username, _, password = entry.partition(":")
    return bool(username and password) and entry.isprintable()


def is_api_key(value: object) -> bool:
    """Whether this can be put into an HTTP header unchanged."""
    return (
        isinstance(value, str)
        and value != ""
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def is_api_url(url: object) -> bool:
    """Whether the API key may be sent there: over HTTPS, or to this machine."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    if not host or "@" in parts.netloc or parts.query or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host))


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
