"""Whether a text asks for no more messages, for certain or perhaps.

For certain when the whole of it is one of ``CELLCAST_STOP_WORDS``; what only speaks of stopping is
for a person to read.
"""

import re
from functools import lru_cache

from cellcast_django.conf import conf


def is_stop_word(text: str) -> bool:
    """Whether the whole text, by its letters and digits alone and without case, is a stop word.

    Never ask whether a text *contains* one: "don't stop" and "nonstop" do, and so does your own
    "Reply STOP to opt out".
    """
    return letters_and_digits(text) in _stop_words(conf.stop_words)


HINTS = re.compile(
    r"stop|unsub|opt[\W_]*out|remove me|take me off|no more|leave me alone", re.IGNORECASE
)


def may_want_to_stop(text: str) -> bool:
    """Whether a person should read the text: it speaks of stopping, and is no stop word."""
    return HINTS.search(text) is not None and not is_stop_word(text)


def letters_and_digits(text: str) -> str:
    """Return what is compared of a text: ``OPT-OUT!`` and ``opt out`` are one word."""
    return re.sub(r"[\W_]+", "", text).casefold()


@lru_cache(maxsize=8)
def _stop_words(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(letters_and_digits, words)) - {""}
