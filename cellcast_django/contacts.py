"""One spelling for each phone number."""

import re
from contextlib import suppress
from functools import lru_cache

import phonenumbers
from phonenumbers import PhoneNumber

from cellcast_django.conf import conf
from cellcast_django.payloads import clean

AUSTRALIAN_MOBILE = re.compile(r"\+614[0-9]{8}")
AUSTRALIAN_MOBILES = range(400_000_000, 500_000_000)


def to_contact(number: str | PhoneNumber, region: str | None = None) -> str:
    """Return the number as every model and signal spells it: compare your own numbers with this.

    In E.164 (``+61400000000``), or as written if it is no phone number. Cellcast writes the same
    number as ``+61400000000``, ``61400000000``, ``0400000000`` or ``400000000``; one without a
    country code belongs to ``region``, else to ``CELLCAST_DEFAULT_REGION``. Senders such as
    ``cellcast`` or ``#SharedNum#``, and numbers that are not valid anywhere, stay as they are.
    Raises ``TypeError`` for what is neither text nor a phone number object of ``phonenumbers``.
    """
    return spelt(clean(text_of(number)), conf.default_region if region is None else region)


@lru_cache(maxsize=4096)
def spelt(number: str, region: str) -> str:
    """Return a clean text as ``to_contact`` does."""
    if AUSTRALIAN_MOBILE.fullmatch(number):
        return number  # most numbers look like this, and parsing is slow
    parsed = _parse(number, region)
    return number if parsed is None else _e164(parsed)


def text_of(number: str | PhoneNumber) -> str:
    """Return text as it is, and a phone number object in E.164. Raises ``TypeError`` otherwise."""
    if isinstance(number, str):
        return number
    if not isinstance(number, PhoneNumber):
        raise TypeError(f"A phone number must be a string, not {type(number).__name__}.")
    if number.country_code is None:  # django-phonenumber-field's, where it could not parse the text
        return number.raw_input or ""
    return _e164(number)


def is_phone_number(number: str, region: str) -> bool:
    """Whether ``to_contact`` recognises ``number``, in any spelling."""
    return _parse(number, region) is not None


_URI = re.compile(r"^\s*tel:", re.IGNORECASE)  # RFC 3966


def _parse(number: str, region: str) -> PhoneNumber | None:
    """Return a valid phone number, ``None`` if it is not one."""
    text = " ".join(_URI.sub("", number, count=1).split())
    if any(character.isalpha() for character in text):
        return None  # phonenumbers would read letters as telephone keys
    # Abroad, 00 is what 0011 is in Australia.
    for spelling in [text, f"+{text[2:]}"] if text.startswith("00") else [text]:
        with suppress(phonenumbers.NumberParseException):
            parsed = phonenumbers.parse(spelling, region)
            # It lists new Australian ranges some time after customers have numbers in them.
            is_mobile = parsed.country_code == 61 and parsed.national_number in AUSTRALIAN_MOBILES
            if is_mobile or phonenumbers.is_valid_number(parsed):
                return parsed
    return None


def _e164(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
