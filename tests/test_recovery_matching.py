"""Matching by time alone: as many as possible, then the closest."""

from datetime import UTC, datetime, timedelta

import pytest

from cellcast_django.recovery.matching import match

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def matched(items: list[float], messages: list[float]) -> dict[int, int]:
    """Match times in hours, where a message comes from an hour before to a day after its item."""
    items_at, messages_at = (
        [MIDNIGHT + timedelta(hours=hour) for hour in hours] for hours in (items, messages)
    )
    earliest, latest = timedelta(hours=-1), timedelta(hours=24)
    return match(items_at, messages_at, earliest=earliest, latest=latest)


@pytest.mark.parametrize(
    ("items", "messages", "expected"),
    [
        ([], [], {}),
        ([9], [], {}),
        ([], [9], {}),
        ([9], [9], {0: 0}),
        ([9], [8], {0: 0}),
        ([9], [33], {0: 0}),
        ([9], [7.9], {}),
        ([9], [33.1], {}),
        ([9, 15], [9, 15], {0: 0, 1: 1}),
        ([9, 15], [15], {1: 0}),  # the first is missing, though it could have come so late
        ([9, 15], [9], {0: 0}),
        ([9, 10], [10, 33.5], {0: 0, 1: 1}),  # the closest pair would leave the first without one
        ([9, 9.1, 9.2], [9.1], {1: 0}),
        ([9], [8.5, 9.1, 9.6], {0: 1}),
        ([1, 2, 3, 4], [2, 3], {1: 0, 2: 1}),
    ],
)
def test_match(items: list[float], messages: list[float], expected: dict[int, int]) -> None:
    assert matched(items, messages) == expected
