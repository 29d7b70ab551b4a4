"""The rectangles of the charts."""

import pytest
from django.utils import translation

from cellcast_django.desk.charts import Series, StackedBars, round_up


def chart(*numbers: list[int]) -> StackedBars:
    series = [Series(f"kind-{i}", f"kind {i}", values) for i, values in enumerate(numbers)]
    return StackedBars(series, [f"day {day}" for day in range(len(numbers[0]))])


def test_series_are_stacked() -> None:
    bars = chart([30, 0], [20, 50]).bars
    assert [(bar.kind, bar.x, bar.y, bar.width, bar.height) for bar in bars] == [
        ("kind-0", "50.0", "80.0", "400.0", "120.0"),
        ("kind-1", "50.0", "0.0", "400.0", "80.0"),
        ("kind-1", "550.0", "0.0", "400.0", "200.0"),
    ]


def test_bar_title_names_day_series_and_count() -> None:
    assert [bar.title for bar in chart([1234]).bars] == ["day 0: kind 0, 1,234"]


def test_coordinates_use_decimal_points_in_every_language() -> None:
    with translation.override("de"):
        [bar] = chart([1234]).bars
    assert bar.title == "day 0: kind 0, 1.234"
    assert bar.x == "100.0"


def test_table_has_the_same_numbers_and_links() -> None:
    rows = chart([1, 0], [3, 4]).rows
    counts = [(label, [each.count for each in figures]) for label, figures in rows]
    assert counts == [("day 0", [1, 3]), ("day 1", [0, 4])]
    sent = Series("", "sent", [1, 0], "status=sent")
    linked = StackedBars([sent], ["a", "b"], ["?day=a", "?day=b"], total_url="?all=1")
    assert [figures[0].url for _label, figures in linked.rows] == ["?day=a&status=sent", ""]
    assert [(each.count, each.url) for each in linked.totals] == [(1, "?all=1&status=sent")]


def test_single_failure_among_thousands_is_visible() -> None:
    failed = Series("failed", "failed", [1], is_failure=True)
    sent = Series("sent", "sent", [8_999])
    bars = StackedBars([failed, sent], ["today"]).bars
    assert [(bar.kind, bar.y, bar.height) for bar in bars] == [
        ("failed", "196.0", "4.0"),
        ("sent", "0.0", "196.0"),
    ]


def test_bar_links_to_its_messages() -> None:
    series = Series("failed", "failed", [1], "status=failed")
    drawing = StackedBars([series], ["today"], ["/list/?day=1"]).drawing
    assert drawing.startswith('<a href="/list/?day=1&amp;status=failed" tabindex="-1"><rect ')
    assert chart([1]).drawing.startswith("<rect ")


def test_empty_chart_has_no_bars() -> None:
    assert chart([0, 0]).bars == []
    assert chart([0, 0]).top == 1


@pytest.mark.parametrize(
    ("number", "top"),
    [(0, 1), (1, 1), (3, 3), (9, 9), (10, 10), (11, 20), (230, 300), (999, 1000), (1001, 2000)],
)
def test_axis_ends_at_a_round_number(number: int, top: int) -> None:
    assert round_up(number) == top


def test_long_axis_labels_only_ends_and_middle() -> None:
    assert chart([0] * 7).axis == [f"day {day}" for day in range(7)]
    assert chart([0] * 30).axis == ["day 0", "day 15", "day 29"]
