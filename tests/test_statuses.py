"""The statuses: their order, which of them are final, and what people are told."""

from itertools import pairwise, product

import pytest
from django.apps import apps

from cellcast_django.factories import MessageFactory, StatusChangeFactory
from cellcast_django.models import Message
from cellcast_django.statuses import (
    FINAL,
    PRECEDENCE,
    REASONS,
    UNDELIVERED,
    Status,
    description_of,
    explain_reason,
    highest,
    recompute,
    supersedes,
)

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

each_status = pytest.mark.parametrize("status", Status, ids=str)


def test_statuses_are_the_documented_words_in_order() -> None:
    documented = IN_ORDER.split()
    assert [word for word in Status.values if word in documented] == documented


@each_status
def test_status_has_name_label_and_description(status: Status) -> None:
    assert status.name == status.value.upper()
    assert str(status.label)
    assert str(status.description).endswith(".")


@each_status
def test_label_and_description_are_translated_lazily(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, sentence = str(status.label), str(status.description)
    monkeypatch.setattr("django.utils.translation._trans.gettext", str.upper)
    assert str(status.label) == label.upper()
    assert str(status.description) == sentence.upper()


def test_each_status_has_its_own_rank() -> None:
    assert all(lower < higher for lower, higher in pairwise(PRECEDENCE.values()))


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


# A word becomes known


@pytest.mark.django_db
def test_recompute_moves_messages_with_the_word_in_their_history() -> None:
    moved = MessageFactory.create(status="paused")  # as an older version saw "expired", say
    expired = StatusChangeFactory.create(message=moved, status="expired")
    Message.objects.filter(pk=moved.pk).update(status="paused")
    others = [MessageFactory.create(delivered=True), MessageFactory.create(status="paused")]
    before = list(Message.objects.exclude(pk=moved.pk).order_by("pk").values())

    for _ in range(2):
        recompute(apps, "default", "expired")
        moved.refresh_from_db()
        assert (moved.status, moved.status_changed_at) == ("expired", expired.recorded_at)
        assert list(Message.objects.filter(pk__in=[each.pk for each in others]).values()) == before


@pytest.mark.django_db
def test_recompute_keeps_a_higher_status() -> None:
    message = MessageFactory.create(status="expired")
    StatusChangeFactory.create(message=message, status="delivered")
    recompute(apps, "default", "expired")
    message.refresh_from_db()
    assert message.status == "delivered"


# For people


@each_status
def test_replies_have_their_own_descriptions(status: Status) -> None:
    assert description_of(status.value) == status.description
    assert description_of(status.value, is_reply=True) != status.description


@pytest.mark.parametrize("status", ["", "zombie"])
def test_unknown_status_has_no_description(status: str) -> None:
    assert description_of(status) == ""
    assert description_of(status, is_reply=True) == ""


CARRIERS_WRITE = [
    ("Recipient has opted out", "OPT-OUT", "Number is blacklisted"),
    ("Absent subscriber", "ABSENT_SUBSCRIBER", "Handset switched off"),
    ("Content blocked", "Spam filter", "Message contains a blocked URL"),
    ("Number is linked to a landline", "fixed-line"),
    ("no such number", "Unknown subscriber", "Invalid destination address"),
    ("Call barred", "Teleservice not provisioned"),
    ("Memory capacity exceeded", "Inbox is full"),
    ("Insufficient credit", "Your balance is too low for this request"),
    ("Invalid sender id", "Your sender id is not registered.", "source address"),
    ("Validity period expired", "timed-out"),
    ("Network congestion", "Temporary failure"),
]
"""For each meaning, what a carrier may write."""


def test_known_reasons_are_explained() -> None:
    for reasons, (_, meaning) in zip(CARRIERS_WRITE, REASONS, strict=True):
        assert {explain_reason(reason) for reason in reasons} == {meaning}


def test_phrases_are_compared_word_by_word() -> None:
    for phrase in (phrase for phrases, _ in REASONS for phrase in phrases.split(", ")):
        assert explain_reason(phrase.upper().replace(" ", "_"))
        assert explain_reason(f"x{phrase}") == explain_reason(f"{phrase}x") == ""


@pytest.mark.parametrize(
    "reason",
    [
        *("", "42", "Because", "Blinking phone", "Balance of routes", "content-type not supported"),
        *("Carrier link failure", "Failed: link down to SMSC", "Returned to sender"),
        "Invalid sender id: system error",  # which of the two?
    ],
)
def test_reason_that_may_mean_something_else_is_not_explained(reason: str) -> None:
    assert explain_reason(reason) == ""
