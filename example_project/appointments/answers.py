"""From a customer's words to an answer. What is not certain is for a person to read."""

import re

from example_project.appointments.models import Answer

YES = frozenset({"yes", "y", "yep", "yeah", "ok", "okay", "confirm", "confirmed"})
NO = frozenset({"no", "n", "nope", "nah", "cancel", "cancelled"})

# "No worries, see you!" cancels nothing, "Yes, but later" and "Yes, I can't come" confirm nothing.
DOUBTS = frozenset({"but", "if", "later", "maybe", "problem", "problems", "sure", "worries"})
NEGATIONS = NO | {"can't", "cannot", "cant", "not", "won't", "wont"}


def read_answer(text: str) -> Answer:
    """Read the first word as the answer, unless another one speaks against it.

    Whole words: "Yes, I'll come" and "NOPE can't" are clear; "Yesterday", "Nobody told me" and
    "not sure" are not.
    """
    words = re.findall(r"\w+(?:'\w+)*", text.lower().replace("’", "'"))
    first, others = " ".join(words[:1]), set(words[1:])
    if "?" in text or others & DOUBTS:
        return Answer.UNCLEAR
    if first in YES and not others & NEGATIONS:
        return Answer.YES
    if first in NO and not others & YES:
        return Answer.NO
    return Answer.UNCLEAR
