"""The stop words must be words, and none of them one that customers answer with."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning as Notice
from django.utils.translation import gettext

from cellcast_django.conf import conf
from cellcast_django.stop_words import letters_and_digits

ANSWERS = frozenset(
    {"yes", "yep", "yeah", "no", "nope", "ok", "okay", "thanks", "thankyou", "confirm", "cancel"}
)
"""By their letters and digits, in lower case."""


def check_stop_words(**_: Any) -> Iterator[CheckMessage]:
    """Each must be a text with a letter or a digit; warn of one that may be an ordinary answer."""
    value = getattr(settings, "CELLCAST_STOP_WORDS", None)
    if value is not None and not (isinstance(value, (list, tuple)) and all(map(_is_word, value))):
        yield Error(
            gettext("CELLCAST_STOP_WORDS is not a list of words."),
            hint=gettext('Use a list of strings, such as ["stop", "opt out"]; [] turns it off.'),
            id="cellcast_django.E017",
        )
    answers = [word for word in conf.stop_words if _is_answer(letters_and_digits(word))]
    if answers:
        yield Notice(
            gettext("CELLCAST_STOP_WORDS has %(words)s, which may be an ordinary answer.")
            % {"words": ", ".join(map(repr, answers))},
            hint=gettext(
                "Whoever sends it is not texted any more. Use words that mean nothing else."
            ),
            id="cellcast_django.W010",
        )


def _is_word(entry: object) -> bool:
    return isinstance(entry, str) and letters_and_digits(entry) != ""


def _is_answer(word: str) -> bool:
    return len(word) == 1 or word.isdigit() or word in ANSWERS
