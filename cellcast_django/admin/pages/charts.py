"""Charts as data for a template: rectangles, computed here, drawn by SVG with classes alone.

Numbers of the drawing are strings, so that no locale writes them with a comma. A chart fills the
width that it is given and stretches: so it holds no text, which stands around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from cellcast_django.admin.display.texts import figure

WIDTH = 1000
HEIGHT = 200
GAP = 0.2
"""The part of a column's width that stays empty."""
MAX_LABELS = 7
MIN_FAILURE = 4.0
"""The height of the least failure: one among thousands is to be seen."""


class Series(NamedTuple):
    """Numbers of one kind, one for each column."""

    css_class: str
    name: str | Promise
    numbers: Sequence[int]
    query: str = ""
    """What the address of a bar's messages asks for, beside those of its column."""
    is_failure: bool = False

    @property
    def total(self) -> int:
        """The sum of all columns."""
        return sum(self.numbers)

    @property
    def written(self) -> str:
        """The sum as people write it."""
        return figure(self.total)


class Bar(NamedTuple):
    """A rectangle of the picture, and what it says when it is pointed at."""

    css_class: str
    title: str
    x: str
    y: str
    width: str
    height: str
    url: str = ""
    """Where its messages are listed."""

    def __html__(self) -> str:
        """Return the rectangle; not a stop of the keyboard, for which the table has links."""
        drawn = format_html(RECTANGLE, *self)
        if not self.url:
            return drawn
        return format_html('<a href="{}" tabindex="-1">{}</a>', self.url, drawn)


RECTANGLE = '<rect class="{0}" x="{2}" y="{3}" width="{4}" height="{5}"><title>{1}</title></rect>'


@dataclass(frozen=True, slots=True)
class StackedBars:
    """Columns of series that stand upon each other, the first one at the bottom."""

    series: Sequence[Series]
    labels: Sequence[str]
    """What each column is about."""
    urls: Sequence[str] = ()
    """Where the messages of each column are listed; empty where they are not."""
    title: str | Promise = ""

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
    def rows(self) -> list[tuple[str, str, list[str]]]:
        """The same as a table: for each column its label, address and number of each series."""
        return [
            (label, url, [figure(each.numbers[column]) for each in self.series])
            for column, (label, url) in enumerate(zip(self.labels, self._urls, strict=True))
        ]

    @property
    def written_top(self) -> str:
        """The number at the upper edge as people write it."""
        return figure(self.top)

    @property
    def _urls(self) -> Sequence[str]:
        return self.urls or [""] * len(self.labels)

    @property
    def bars(self) -> list[Bar]:
        """The rectangles, from left to right and from bottom to top."""
        slot, unit = WIDTH / len(self.labels), HEIGHT / self.top
        bars = []
        for column, (label, url) in enumerate(zip(self.labels, self._urls, strict=True)):
            top = float(HEIGHT)
            for each in self.series:
                if number := each.numbers[column]:
                    height = max(number * unit, MIN_FAILURE if each.is_failure else 0)
                    bottom, top = top, max(0, top - height)
                    bar = Bar(
                        each.css_class,
                        f"{label}: {each.name}, {figure(number)}",
                        x=f"{(column + GAP / 2) * slot:.1f}",
                        y=f"{top:.1f}",
                        width=f"{(1 - GAP) * slot:.1f}",
                        height=f"{bottom - top:.1f}",
                        url=f"{url}&{each.query}" if url else "",
                    )
                    bars.append(bar)
        return bars

    @property
    def drawing(self) -> SafeString:
        """The rectangles as SVG: a template takes several times as long for hundreds of them."""
        return format_html_join("\n", "{}", ([bar] for bar in self.bars))


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
