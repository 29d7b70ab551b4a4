"""Texts, numbers and times as the pages show them."""

from datetime import timedelta

import pytest
from django.utils import timezone, translation

from cellcast_django.admin.display.texts import ago, beginning, duration
from tests.admin_pages import text_of


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-90), "just now"),  # clocks differ
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=3, seconds=50), "3\xa0minutes ago"),
        (timedelta(days=1, hours=5), "1\xa0day ago"),
    ],
)
def test_time_is_said_as_how_long_ago_it_was(age: timedelta, words: str) -> None:
    assert f">{words}<" in ago(timezone.now() - age)


def test_exact_time_is_there_for_machines_on_hover_and_for_screen_readers() -> None:
    time = timezone.now().replace(year=2024, month=8, day=9, hour=6, minute=37, second=47)

    html = ago(time)

    assert 'datetime="2024-08-09T16:37:47' in html  # in Sydney
    assert 'title="Aug. 9, 2024, 4:37 p.m."' in html
    assert text_of(html).endswith(", Aug. 9, 2024, 4:37 p.m.")


def test_time_is_said_in_the_readers_language() -> None:
    with translation.override("de"):
        assert "9. August 2024" in ago(timezone.now().replace(year=2024, month=8, day=9, hour=1))


@pytest.mark.parametrize("use_tz", [True, False])
def test_time_is_said_with_and_without_time_zones(use_tz: bool, settings: object) -> None:
    settings.USE_TZ = use_tz  # type: ignore[attr-defined]

    assert "just now" in ago(timezone.now())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3_599, "59 min 59 s"),
        (3_600, "1 h"),
        (86_399, "23 h 59 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration_is_said_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words


def test_beginning_of_a_text_is_one_line() -> None:
    assert beginning("Yes,\n I  will", 20) == "Yes, I will"
    assert beginning("Yes, I will", 4) == "Yes,…"
