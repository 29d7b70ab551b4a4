"""Whether a text asks for no more messages, certainly or perhaps.

It certainly does if the whole text is one of ``CELLCAST_STOP_WORDS``. One that only mentions
stopping is for a person to read.
"""

import re
from functools import lru_cache

from cellcast_django.conf import conf


def is_stop_word(text: str) -> bool:
    """Whether the whole text is a stop word, comparing only letters and digits, without case.

    Never whether it *contains* one: "don't stop" and "nonstop" do, and so does your own "Reply STOP
    to opt out".
    """
    return letters_and_digits(text) in _stop_words(conf.stop_words)


HINTS = re.compile(
    r"stop|unsub|opt[\W_]*out|remove me|take me off|no more|leave me alone", re.IGNORECASE
)


def may_want_to_stop(text: str) -> bool:
    """Whether a person should read the text: it mentions stopping but is not a stop word."""
    return HINTS.search(text) is not None and not is_stop_word(text)


def letters_and_digits(text: str) -> str:
    """Return the part of a text that is compared: ``OPT-OUT!`` and ``opt out`` are one word."""
    return re.sub(r"[\W_]+", "", text).casefold()


@lru_cache(maxsize=8)
def _stop_words(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(letters_and_digits, words)) - {""}
