"""The statuses: their words, their order, and which of them are final."""

from itertools import permutations, product

import pytest

from cellcast_django.statuses import Status, is_final, supersedes

LOWEST_FIRST = ["", "received", "queued", "dead", "failed", "expired", "rejected", "delivered"]

SENTENCES = {
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


def test_documented_statuses() -> None:
    assert {status.name: status.value for status in Status} == {
        "RECEIVED": "received",
        "DEAD": "dead",
        "FAILED": "failed",
        "EXPIRED": "expired",
        "REJECTED": "rejected",
        "DELIVERED": "delivered",
    }


@pytest.mark.parametrize("status", Status, ids=str)
def test_label_is_the_word_and_description_is_cellcasts_sentence(status: Status) -> None:
    assert str(status.label) == status.value
    assert str(status.description) == SENTENCES[status.value]


@pytest.mark.parametrize("status", Status, ids=str)
def test_label_and_description_are_translated_when_shown(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.utils.translation._trans.gettext", str.upper)
    assert str(status.label) == status.value.upper()
    assert str(status.description) == SENTENCES[status.value].upper()


@pytest.mark.parametrize(("status", "current"), [*product(LOWEST_FIRST, repeat=2)])
def test_higher_status_supersedes_and_no_other(status: str, current: str) -> None:
    assert supersedes(status, current) is (LOWEST_FIRST.index(status) > LOWEST_FIRST.index(current))


@pytest.mark.parametrize(("status", "current"), [*permutations(["queued", "dispatched", "zz"], 2)])
def test_of_two_unknown_statuses_the_later_wins(status: str, current: str) -> None:
    assert supersedes(status, current)


@pytest.mark.parametrize("unknown", ["queued", "sent", "scheduled", "canceled", "aborted"])
@pytest.mark.parametrize("known", Status.values)
def test_unknown_status_beats_only_received(unknown: str, known: str) -> None:
    assert supersedes(unknown, known) is (known == "received")
    assert supersedes(known, unknown) is (known != "received")


def test_every_order_of_arrival_ends_in_the_same_status() -> None:
    words = ["received", "queued", "dead", "failed", "expired", "rejected"]
    endings = set()
    for order in permutations(words):
        current = ""
        for status in order:
            if supersedes(status, current):
                current = status
        endings.add(current)
    assert endings == {"rejected"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("dead", True),
        ("failed", True),
        ("expired", True),
        ("rejected", True),
        ("delivered", True),
        ("received", False),
        ("queued", False),
        ("", False),
    ],
)
def test_all_but_received_and_the_unknown_are_final(status: str, expected: bool) -> None:
    assert is_final(status) is expected
