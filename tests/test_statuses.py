"""The statuses: their order, which of them are final, and what people are told."""

from itertools import product

import pytest

from cellcast_django.statuses import FINAL, UNDELIVERED, Status, description_of, highest, supersedes

UNKNOWN = ["Unknown", "paused", "unknown", "ünknown"]
LOWEST_FIRST = [
    "",
    *[each.value for each in Status if not each.final],
    *UNKNOWN,
    *[each.value for each in Status if each.final],
]
IN_ORDER = (
    "scheduled pending queued dispatched sent received "
    "dead failed aborted canceled expired rejected blocked delivered"
)


def test_statuses_are_the_documented_words_in_order() -> None:
    documented = IN_ORDER.split()
    assert [word for word in Status.values if word in documented] == documented


@pytest.mark.parametrize("status", Status, ids=str)
def test_status_has_name_label_and_descriptions_that_are_translated_lazily(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, sentence = str(status.label), str(status.description)
    assert status.name == status.value.upper() and label and sentence.endswith(".")
    assert description_of(status.value) == status.description
    assert description_of(status.value, is_reply=True) != status.description
    monkeypatch.setattr("django.utils.translation._trans.gettext", str.upper)
    assert (str(status.label), str(status.description)) == (label.upper(), sentence.upper())


def test_only_a_higher_status_supersedes() -> None:
    for (place, status), (current_place, current) in product(enumerate(LOWEST_FIRST), repeat=2):
        assert supersedes(status, current) is (place > current_place), (status, current)


def test_every_status_above_unknown_words_is_final() -> None:
    first_final = LOWEST_FIRST.index(UNKNOWN[-1]) + 1
    assert [word for word in LOWEST_FIRST if word in FINAL] == LOWEST_FIRST[first_final:]
    assert {"delivered"} == FINAL - UNDELIVERED


def test_highest_status_of_a_history_wins() -> None:
    assert highest([]) == ""
    assert highest(reversed(LOWEST_FIRST)) == highest(LOWEST_FIRST) == LOWEST_FIRST[-1]
