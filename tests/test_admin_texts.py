"""Texts, numbers and times as the pages show them, and what their templates are given."""

from datetime import timedelta

import pytest
from django.template import Context, Template
from django.utils import timezone, translation

from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import ago, day
from tests.admin_pages import text_of


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-90), "just now"),  # clocks differ
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=3, seconds=50), "3 min ago"),
        (timedelta(hours=2, minutes=59), "2 h ago"),
        (timedelta(days=6, hours=23), "6 days ago"),
    ],
)
def test_ago_uses_the_largest_unit(age: timedelta, words: str) -> None:
    assert f">{words}<" in ago(timezone.now() - age)
    week_ago = timezone.now() - timedelta(days=7)
    assert f">{day(week_ago)}<" in ago(week_ago)


def test_ago_has_the_exact_time_in_datetime_title_and_hidden_text() -> None:
    time = timezone.now().replace(year=2024, month=8, day=9, hour=6, minute=37, second=47)

    html = ago(time)

    assert 'datetime="2024-08-09T16:37:47' in html  # in Sydney
    assert 'title="9 Aug 2024, 16:37 AEST"' in html
    assert text_of(html).endswith(", 9 Aug 2024, 16:37 AEST")


def test_times_are_in_the_readers_language() -> None:
    with translation.override("de"):
        assert "3 min ago" in ago(timezone.now() - timedelta(minutes=3))  # as all around it
        assert "9 Mär 2024, 12:" in ago(timezone.now().replace(year=2024, month=3, day=9, hour=1))


@pytest.mark.parametrize(
    "tag",
    ["{{ page.nme }}", "{% if not page.nme %}{% endif %}", "{% for a in page.nme %}{% endfor %}"],
)
def test_template_that_misspells_a_name_fails_its_test(tag: str) -> None:
    with pytest.raises(pytest.fail.Exception):
        Template(tag).render(Context({"page": Content(name="Anna")}))


def test_content_prints_nothing_personal() -> None:
    assert "Anna" not in repr(Content(name="Anna"))
