"""One spelling for each phone number."""

import re
from functools import lru_cache

import phonenumbers

AUSTRALIAN_MOBILE = re.compile(r"\+614[0-9]{8}")


@lru_cache(maxsize=4096)
def normalise(number: str, region: str) -> str:
    """Return ``number`` in E.164 (``+61400000000``), or as written where it is no phone number.

    Cellcast writes the same number as ``+61400000000``, ``61400000000``, ``0400000000`` or
    ``400000000``; ``region`` decides what a number without a country code belongs to. Senders such
    as ``cellcast`` or ``#SharedNum#``, and numbers that are not valid anywhere, stay as they are.
    """
    if AUSTRALIAN_MOBILE.fullmatch(number):
        return number  # most numbers are such, valid or not, and a parser takes its time
    if any(character.isalpha() for character in number):
        return number  # phonenumbers would read letters as the keys of a telephone
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return number
    if not phonenumbers.is_valid_number(parsed):
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
