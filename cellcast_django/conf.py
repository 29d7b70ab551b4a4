"""The app's settings, one property each: its rule, what it means, and as its body the default.

A value that breaks its rule counts as unset, so that a mistake never lets anybody in; a system
check reports it. Each is cached until ``setting_changed``: reading an unset Django setting raises
and catches an exception every time.
"""

import re
from collections.abc import Callable
from functools import cached_property, update_wrapper
from operator import methodcaller
from typing import Any, NamedTuple, TypeVar

import phonenumbers
from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

T = TypeVar("T")

PREFIX = "CELLCAST_"


class Rule(NamedTuple):
    """What a setting's value has to be."""

    how: str
    """How to write one."""
    fits: Callable[[Any], bool]
    use: Callable[[Any], Any] = lambda value: value
    """What is used of a value that fits."""


RULES: dict[str, Rule] = {}
"""By the setting's name."""


def setting(rule: Rule) -> Callable[[Callable[[Any], T]], "cached_property[T]"]:
    """Make the setting of that name of a function that returns its default."""

    def decorate(default: Callable[[Any], T]) -> "cached_property[T]":
        name = PREFIX + default.__name__.upper()
        RULES[name] = rule

        def read(conf: "Settings") -> T:
            value = getattr(settings, name, None)
            return rule.use(value) if rule.fits(value) else default(conf)

        return cached_property(update_wrapper(read, default))

    return decorate


def _text(how: str, pattern: str, use: Callable[[str], str] = str) -> Rule:
    """Return the rule for printable texts that match: lone surrogates are not printable."""
    matches = re.compile(pattern, re.ASCII).fullmatch
    return Rule(
        how,
        lambda value: isinstance(value, str) and value.isprintable() and bool(matches(value)),
        use,
    )


_without_slash = methodcaller("rstrip", "/")
HOST = r"(\[::1\]|[\w.-]+)(:[1-9]\d{0,4})?/*"
BASE_URL = _text(
    'a scheme and a host alone, such as "https://sms.example.com" (DNS spells a host that is not '
    "ASCII as xn--…)",
    f"((?i:https?)://{HOST})?",
    _without_slash,
)
API_URL = _text(
    "the base URL with https://, without a path (http:// for localhost alone)",
    rf"(?i:https)://{HOST}|(?i:http)://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?/*",
    _without_slash,
)
API_KEY = _text("the key alone, without white space or line breaks", "[!-~]*")
PATH = _text('a dotted path, such as "shop.sms.send_sms"', ".*")
WAY = _text('"inline", or the alias of a backend in TASKS, such as "default"', ".+")
LOOPBACK = re.compile(r"(?i)https?://(localhost|127(\.\d+){3}|\[::1\])(:\d+)?/*")
"""The base URL of something that only this machine can reach."""
SECRET = _text('"username:password", with both parts', "[^:]+:.+")
SECRETS = Rule(
    'a list, ["username:password"] with the brackets, or .split() an environment variable',
    lambda value: isinstance(value, (list, tuple)),
    lambda value: tuple(filter(SECRET.fits, value)),
)
TEXTS = Rule(
    'a list with the brackets, ["one text", "another"], each text with a letter or a digit',
    lambda value: (
        isinstance(value, (list, tuple))
        and all(isinstance(entry, str) and any(map(str.isalnum, entry)) for entry in value)
    ),
    tuple,
)
ADDRESSES = Rule(
    'a list of e-mail addresses, such as ["reception@example.com"]',
    lambda value: TEXTS.fits(value) and all("@" in entry for entry in value),
    tuple,
)
COUNT = Rule(
    "a whole number above zero",
    lambda value: type(value) is int and value > 0,  # True is an int too, hence not isinstance
)
REGION = Rule(
    'an ISO 3166 code of two capital letters, such as "AU" or "NZ"',
    lambda value: isinstance(value, str) and value in phonenumbers.SUPPORTED_REGIONS,
)


class Settings:
    """Typed access to the ``CELLCAST_…`` settings."""

    @setting(SECRETS)
    def webhook_secrets(self) -> tuple[str, ...]:
        """``"username:password"`` strings, any of which is accepted; with none, all is refused.

        A malformed entry lets nobody in.
        """
        return ()

    @setting(REGION)
    def default_region(self) -> str:
        """The region (ISO 3166 code) of numbers without a country code."""
        return "AU"

    @setting(COUNT)
    def max_body_bytes(self) -> int:
        """The largest body in bytes; larger ones are refused with 413, unread."""
        return 262_144

    @setting(WAY)
    def run_handlers(self) -> str:
        """``"inline"`` runs handlers before the response; else the alias of a Tasks backend.

        With ``"inline"`` the tasks of a schedule are of the alias ``"default"``.
        """
        return "inline"

    @setting(COUNT)
    def handler_lease(self) -> int:
        """Seconds for which other processes leave a running attempt alone."""
        return 300

    @setting(COUNT)
    def handler_max_attempts(self) -> int:
        """How often a handler is called for an event before it needs a person."""
        return 12

    @setting(BASE_URL)
    def public_url(self) -> str:
        """The site's own base URL, for the setup page and the commands that print or call URLs."""
        return ""

    @setting(TEXTS)
    def stop_words(self) -> tuple[str, ...]:
        """A reply whose whole text is one of these opts the customer out; ``[]`` turns that off."""
        return ("stop", "stopall", "unsubscribe", "unsub", "optout")

    @setting(TEXTS)
    def stop_hints(self) -> tuple[str, ...]:
        """Words that make a reply *may want to stop*, beside the app's English ones.

        In any language, found anywhere in a text, without case. They opt nobody out.
        """
        return ()

    @setting(TEXTS)
    def own_numbers(self) -> tuple[str, ...]:
        """Your phone numbers, in any spelling, and sender names, exactly as they are.

        What staff may answer from, and what the filters offer.
        """
        return ()

    @setting(PATH)
    def directory(self) -> str:
        """The dotted path of a class like ``cellcast_django.directory.Directory``.

        Its methods say what your own tables know of customers.
        """
        return ""

    @setting(PATH)
    def send_with(self) -> str:
        """The dotted path of the function that sends, for ``send`` and the answers of staff.

        ``"cellcast_django.api.send_sms"`` is one.
        """
        return ""

    @setting(ADDRESSES)
    def mail_replies_to(self) -> tuple[str, ...]:
        """Addresses to which ``cellcast_run_handlers`` mails that replies wait.

        At most every 15 minutes.
        """
        return ()

    @setting(API_KEY)
    def api_key(self) -> str:
        """The API key, for ``cellcast_recover`` and ``send_sms``; never shown or logged."""
        return ""

    @setting(API_URL)
    def api_url(self) -> str:
        """The base URL of Cellcast's API; accounts in the US and the UK have other hosts.

        ``""`` if the key must not be sent there.
        """
        return "" if hasattr(settings, "CELLCAST_API_URL") else "https://api.cellcast.com"


conf = Settings()


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    vars(conf).clear()
