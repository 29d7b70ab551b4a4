"""The app's settings, one property each: what can be used of it. System checks report the rest.

Each is read when first used and after ``setting_changed``: a webhook asks for up to eight of them,
and asking Django for one that is not set raises an error each time. Django sends the signal for
``override_settings``, pytest-django for its fixture.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

DEFAULT_API_URL = "https://api.cellcast.com"
DEFAULT_STOP_WORDS = ("stop", "stopall", "unsubscribe", "unsub", "optout")


def is_secret(entry: object) -> bool:
    """Whether this is a printable ``"username:password"`` string with both parts present.

    An environment variable that is not UTF-8 contains lone surrogates, which are not printable.
    """
    if not isinstance(entry, str):
        return False
    username, _, password = entry.partition(":")
    return bool(username and password) and entry.isprintable()


BASE_URL = re.compile(r"(?i:https?)://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:\d{1,5})?/*")


def is_base_url(url: object) -> bool:
    """Whether this is a scheme and an ASCII host, with or without a port, and nothing else."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable():
        return False
    with suppress(ValueError):  # no such port, or no such IPv6 address
        return BASE_URL.fullmatch(url) is not None and urlsplit(url).port != 0
    return False


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
    if not isinstance(url, str) or not is_base_url(url):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _texts(name: str, default: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the strings in a setting; the default if it is not a list."""
    value = getattr(settings, name, default)
    if not isinstance(value, (list, tuple)):
        return tuple(default)
    return tuple(entry for entry in value if isinstance(entry, str))


class Settings:
    """Typed access to the ``CELLCAST_…`` settings."""

    @cached_property
    def webhook_secrets(self) -> tuple[str, ...]:
        """``"username:password"`` strings, any of which is accepted; with none, all is refused.

        Malformed entries are ignored: a mistake in the settings never lets anybody in.
        """
        return tuple(filter(is_secret, _texts("CELLCAST_WEBHOOK_SECRETS")))

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
        """How often a handler is called for an event before it needs a person."""
        return getattr(settings, "CELLCAST_HANDLER_MAX_ATTEMPTS", 12)

    @cached_property
    def public_url(self) -> str:
        """The site's own base URL, for the setup page and the commands that print or call URLs.

        Without a trailing slash; ``""`` if it is unset or no such URL.
        """
        url = getattr(settings, "CELLCAST_PUBLIC_URL", "")
        return str(url).rstrip("/") if is_base_url(url) else ""

    @cached_property
    def stop_words(self) -> tuple[str, ...]:
        """A reply whose whole text is one of these opts the customer out; ``[]`` turns that off.

        A mistake must not turn opting out off: a value that is not a list means the default.
        """
        return _texts("CELLCAST_STOP_WORDS", DEFAULT_STOP_WORDS)

    @cached_property
    def stop_hints(self) -> tuple[str, ...]:
        """Words that make a reply *may want to stop*, beside the app's English ones.

        Words and phrases in any language, found anywhere in a text, without case. They opt nobody
        out.
        """
        return _texts("CELLCAST_STOP_HINTS")

    @cached_property
    def own_numbers(self) -> tuple[str, ...]:
        """Your phone numbers, in any spelling, and sender names, exactly as they are.

        What staff may answer from, and what the filters offer.
        """
        return _texts("CELLCAST_OWN_NUMBERS")

    @cached_property
    def contact_names(self) -> str:
        """The dotted path of ``(contacts: list[str]) -> dict[str, str | tuple[str, str]]``: names.

        For the admin's pages, each with the address of your own page about the customer if you have
        one. Asked once a page.
        """
        return getattr(settings, "CELLCAST_CONTACT_NAMES", "")

    @cached_property
    def reference_links(self) -> str:
        """The dotted path of ``(references: list[str]) -> dict[str, tuple[str, str]]``.

        What each reference is called, and the address of your own page about it. Asked once a page.
        """
        return getattr(settings, "CELLCAST_REFERENCE_LINKS", "")

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
    def mail_replies_to(self) -> tuple[str, ...]:
        """Addresses that are told by e-mail that replies wait, by each run of what is due.

        At most once in 15 minutes, if a reply waits that came after the last mail. How many wait,
        and the address of *To answer* below ``CELLCAST_PUBLIC_URL``; no number, name or text.
        """
        return _texts("CELLCAST_MAIL_REPLIES_TO")

    @cached_property
    def api_key(self) -> str:
        """The API key, for ``cellcast_recover`` and ``send_sms``; never shown or logged.

        ``""`` if it is unset or cannot be a bearer token.
        """
        value = getattr(settings, "CELLCAST_API_KEY", "")
        return value if is_api_key(value) else ""

    @cached_property
    def api_url(self) -> str:
        """The base URL of Cellcast's API; accounts in the US and the UK have other hosts.

        ``""`` if the key must not be sent there.
        """
        url = getattr(settings, "CELLCAST_API_URL", DEFAULT_API_URL)
        return str(url).rstrip("/") if is_api_url(url) else ""


conf = Settings()


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    vars(conf).clear()
