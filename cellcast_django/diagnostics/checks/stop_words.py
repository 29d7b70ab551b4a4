"""The stop words must be words, and must not be ordinary answers of customers."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning as Notice
from django.utils.translation import gettext

from cellcast_django.conf import conf, letters_and_digits

ANSWERS = frozenset(
    {"yes", "yep", "yeah", "no", "nope", "ok", "okay", "thanks", "thankyou", "confirm", "cancel"}
)
"""Reduced to their letters and digits, in lower case."""


def check_stop_words(**_: Any) -> Iterator[CheckMessage]:
    """Each must have a letter or a digit; one that may be an ordinary answer is a warning."""
    value = getattr(settings, "CELLCAST_STOP_WORDS", None)
    if value is not None and not (isinstance(value, (list, tuple)) and all(map(_is_word, value))):
        yield Error(
            gettext("CELLCAST_STOP_WORDS is not a list of words."),
            hint=gettext(
                'Use a list of strings, such as ["stop", "opt out"]; [] turns stop words off.'
            ),
            id="cellcast_django.E017",
        )
    answers = [word for word in conf.stop_words if _is_answer(letters_and_digits(word))]
    if answers:
        yield Notice(
            gettext("CELLCAST_STOP_WORDS contains %(words)s, which may be an ordinary answer.")
            % {"words": ", ".join(map(repr, answers))},
            hint=gettext(
                "A customer who replies with it is opted out. Use words that mean nothing else."
            ),
            id="cellcast_django.W010",
        )


def _is_word(entry: object) -> bool:
    return isinstance(entry, str) and letters_and_digits(entry) != ""


def _is_answer(word: str) -> bool:
    return len(word) == 1 or word.isdigit() or word in ANSWERS
