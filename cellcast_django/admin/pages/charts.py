"""Charts as data for a template: rectangles, computed here, drawn by SVG with classes alone.

Numbers of the drawing are strings, so that no locale writes them with a comma. A chart fills the
width that it is given and stretches: so it holds no text, which stands around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

WIDTH = 1000
HEIGHT = 200
GAP = 0.2
"""The part of a column's width that stays empty."""
MAX_LABELS = 7


class Series(NamedTuple):
    """Numbers of one kind, one for each column."""

    css_class: str
    name: str | Promise
    numbers: Sequence[int]

    @property
    def total(self) -> int:
        """The sum of all columns."""
        return sum(self.numbers)


class Bar(NamedTuple):
    """A rectangle of the picture, and what it says when it is pointed at."""

    css_class: str
    title: str
    x: str
    y: str
    width: str
    height: str


RECTANGLE = '<rect class="{0}" x="{2}" y="{3}" width="{4}" height="{5}"><title>{1}</title></rect>'


@dataclass(frozen=True, slots=True)
class StackedBars:
    """Columns of series that stand upon each other, the first one at the bottom."""

    series: Sequence[Series]
    labels: Sequence[str]
    """What each column is about."""

    view_box = f"0 0 {WIDTH} {HEIGHT}"

    @property
    def top(self) -> int:
        """The number at the upper edge: the highest column, rounded up."""
        columns = zip(*(each.numbers for each in self.series), strict=True)
        return round_up(max(map(sum, columns), default=0))

    @property
    def axis(self) -> list[str]:
        """The labels that there is room for: all of a few, else the ends and the middle."""
        if len(self.labels) <= MAX_LABELS:
            return list(self.labels)
        return [self.labels[0], self.labels[len(self.labels) // 2], self.labels[-1]]

    @property
    def rows(self) -> list[tuple[str, list[int]]]:
        """The same as a table: for each column its label and the number of each series."""
        return [
            (label, [each.numbers[column] for each in self.series])
            for column, label in enumerate(self.labels)
        ]

    @property
    def bars(self) -> list[Bar]:
        """The rectangles, from left to right and from bottom to top."""
        slot, unit = WIDTH / len(self.labels), HEIGHT / self.top
        in_words = {
            number: number_format(number, force_grouping=True)
            for number in {number for each in self.series for number in each.numbers}
        }
        bars = []
        for column, label in enumerate(self.labels):
            below = 0
            for each in self.series:
                if number := each.numbers[column]:
                    below += number
                    bar = Bar(
                        each.css_class,
                        f"{label}: {each.name}, {in_words[number]}",
                        x=f"{(column + GAP / 2) * slot:.1f}",
                        y=f"{HEIGHT - below * unit:.1f}",
                        width=f"{(1 - GAP) * slot:.1f}",
                        height=f"{number * unit:.1f}",
                    )
                    bars.append(bar)
        return bars

    @property
    def drawing(self) -> SafeString:
        """The rectangles as SVG: a template takes several times as long for hundreds of them."""
        return format_html_join("\n", RECTANGLE, self.bars)


def round_up(number: int) -> int:
    """Return the next number of one digit, and zeros behind it, that is not below ``number``."""
    power = 1
    while True:
        for digit in range(1, 10):
            if digit * power >= number:
                return digit * power
        power *= 10


def share(number: int, highest: int) -> str:
    """Return how long the bar of ``number`` is where that of ``highest`` fills the width."""
    return f"{WIDTH * number / highest:.1f}" if highest else "0"
