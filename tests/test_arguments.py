"""Arguments that commands share: durations as people type them."""

from datetime import timedelta

import pytest

from cellcast_django.management.terminal import parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("15m", timedelta(minutes=15)),
        ("36h", timedelta(hours=36)),
        ("90d", timedelta(days=90)),
        ("12w", timedelta(weeks=12)),
        ("007d", timedelta(days=7)),
        (" 1d\n", timedelta(days=1)),
        ("9999w", timedelta(weeks=9_999)),
    ],
)
def test_duration_is_a_number_and_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
