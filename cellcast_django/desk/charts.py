"""Charts as SVG rectangles, coloured by CSS classes.

Coordinates are strings, so that no locale writes them with a comma. A chart stretches to the width
of the page, so its text is outside the drawing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from cellcast_django.admin.display.texts import LinkedCount, grouped

WIDTH = 1000
HEIGHT = 200
GAP = 0.2  # the share of a column's width that stays empty
MAX_LABELS = 7
MIN_FAILURE_HEIGHT = 4.0  # the least height of failures: one among thousands must be visible


class Series(NamedTuple):
    """Counts of one kind, one per column."""

    kind: str
    """Ends the CSS class of its bars."""
    name: str | Promise
    counts: Sequence[int]
    query: str = ""
    """Added to the query string of a bar's link, beside that of its column."""
    is_failure: bool = False

    @property
    def total(self) -> int:
        return sum(self.counts)


class Bar(NamedTuple):
    """A rectangle of the drawing, with its tooltip."""

    kind: str
    title: str
    x: str
    y: str
    width: str
    height: str
    url: str = ""

    def __html__(self) -> str:
        """Return the rectangle; keyboard users have the links in the table."""
        drawn = format_html(RECTANGLE, *self)
        if not self.url:
            return drawn
        return format_html('<a href="{}" tabindex="-1">{}</a>', self.url, drawn)


RECTANGLE = (
    '<rect class="cellcast-series-{0}" x="{2}" y="{3}" width="{4}" height="{5}">'
    "<title>{1}</title></rect>"
)


@dataclass(frozen=True, slots=True)
class StackedBars:
    """Columns of stacked series, the first one at the bottom."""

    series: Sequence[Series]
    labels: Sequence[str]
    urls: Sequence[str] = ()
    """Link to the messages of each column; empty without links."""
    title: str | Promise = ""
    total_url: str = ""
    """Link to the messages of all columns."""

    view_box = f"0 0 {WIDTH} {HEIGHT}"

    @property
    def top(self) -> int:
        """The value at the upper edge: the highest column, rounded up."""
        columns = zip(*(each.counts for each in self.series), strict=True)
        return round_up(max(map(sum, columns), default=0))

    @property
    def axis(self) -> list[str]:
        """The labels that fit: all of a few, otherwise the ends and the middle."""
        if len(self.labels) <= MAX_LABELS:
            return list(self.labels)
        return [self.labels[0], self.labels[len(self.labels) // 2], self.labels[-1]]

    @property
    def rows(self) -> list[tuple[str, list[LinkedCount]]]:
        """The chart as a table: each column's label, and its counts with their links."""
        return [
            (label, [LinkedCount.of(each.counts[column], url, each.query) for each in self.series])
            for column, (label, url) in enumerate(zip(self.labels, self._urls, strict=True))
        ]

    @property
    def totals(self) -> list[LinkedCount]:
        return [LinkedCount.of(each.total, self.total_url, each.query) for each in self.series]

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
                if count := each.counts[column]:
                    height = max(count * unit, MIN_FAILURE_HEIGHT if each.is_failure else 0)
                    bottom, top = top, max(0, top - height)
                    bar = Bar(
                        each.kind,
                        f"{label}: {each.name}, {grouped(count)}",
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
        """The rectangles as SVG: for hundreds of them, a template is several times slower."""
        return format_html_join("\n", "{}", ([bar] for bar in self.bars))


def round_up(count: int) -> int:
    """Round up to one significant digit."""
    power = int(10 ** (len(str(count)) - 1))
    return max(1, -(-count // power)) * power
