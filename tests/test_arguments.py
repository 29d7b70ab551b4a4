"""Arguments that commands share: durations as people type them."""

from argparse import ArgumentTypeError
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


@pytest.mark.parametrize(
    "text",
    ["", "d", "90", "90 d", "90D", "0d", "000h", "-1d", "1.5h", "90days", "1d1h", "٣d", "10000w"],
)
def test_malformed_duration_is_refused_naming_the_units(text: str) -> None:
    with pytest.raises(ArgumentTypeError) as raised:
        parse_duration(text)
    assert str(raised.value) == (
        f'"{text}" is not a duration: write a whole number from 1 to 9999 and a unit, one of '
        "m (minutes), h (hours), d (days), w (weeks)."
    )
