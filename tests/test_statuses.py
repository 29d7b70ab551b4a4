"""The statuses: their words, their order, and which of them are final."""

from itertools import product

import pytest

from cellcast_django.statuses import FINAL, UNDELIVERED, Status, is_final, supersedes

NOT_FINAL = ["scheduled", "pending", "queued", "dispatched", "sent", "received"]
UNDELIVERED_LOWEST_FIRST = [
    "dead",
    "failed",
    "aborted",
    "canceled",
    "expired",
    "rejected",
    "blocked",
]
LOWEST_FIRST = [
    "",
    *NOT_FINAL,
    "Unknown",
    "paused",
    "unknown",
    "ünknown",
    *UNDELIVERED_LOWEST_FIRST,
    "delivered",
]

CELLCASTS_SENTENCES = {
    "received": "Message has been received",
    "dead": "Message has been deleted",
    "failed": "Message delivery status has failed",
    "expired": (
        "The carrier was unable to deliver the message in a specified amount of time, "
        "for instance when the phone was turned off"
    ),
    "rejected": "The carrier rejected the message",
    "delivered": "Message has been delivered by the carrier transport",
}


def test_words_in_their_order() -> None:
    assert Status.values == [*NOT_FINAL, *UNDELIVERED_LOWEST_FIRST, "delivered"]
    assert [status.name for status in Status] == [word.upper() for word in Status.values]


@pytest.mark.parametrize("status", Status, ids=str)
def test_label_is_the_word_and_description_a_sentence(status: Status) -> None:
    assert str(status.label) == status.value
    sentence = str(status.description)
    assert sentence == CELLCASTS_SENTENCES.get(status.value, sentence)
    assert len(sentence.split()) > 3


@pytest.mark.parametrize("status", Status, ids=str)
def test_label_and_description_are_translated_when_shown(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = str(status.description)
    monkeypatch.setattr("django.utils.translation._trans.gettext", str.upper)
    assert str(status.label) == status.value.upper()
    assert str(status.description) == sentence.upper()


def test_higher_status_supersedes_and_no_other() -> None:
    for (place, status), (current_place, current) in product(enumerate(LOWEST_FIRST), repeat=2):
        assert supersedes(status, current) is (place > current_place), (status, current)


def test_dead_and_everything_above_it_is_final() -> None:
    final = [status for status in LOWEST_FIRST if is_final(status)]
    assert final == [*UNDELIVERED_LOWEST_FIRST, "delivered"]
    assert set(final) == FINAL
    assert set(UNDELIVERED_LOWEST_FIRST) == UNDELIVERED
