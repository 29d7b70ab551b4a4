"""Read a customer's text as a yes or a no. Anything uncertain is left for staff to read."""

import re

from example_project.appointments.models import Answer

YES = frozenset({"yes", "y", "yep", "yeah", "ok", "okay", "confirm", "confirmed"})
NO = frozenset({"no", "n", "nope", "nah", "cancel", "cancelled"})

# "No worries, see you!" does not cancel; "Yes, but later" and "Yes, I can't come" do not confirm.
DOUBTS = frozenset({"but", "if", "later", "maybe", "problem", "problems", "sure", "worries"})
NEGATIONS = NO | {"can't", "cannot", "cant", "not", "won't", "wont"}


def read_answer(text: str) -> Answer:
    """Take the first word as the answer, unless another word contradicts it.

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
