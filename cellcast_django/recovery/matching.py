"""Which item of a list is which stored message, where contact and text are the same for all.

Plain Python that knows times alone. One message absorbs one item. As many items as possible are
matched, so that nothing is stored twice; among the ways to do so, that with the shortest intervals
between the times is taken, so that what is missing is the right one.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple


class _Best(NamedTuple):
    """The best way to match the first items with the first messages: compared by its two values."""

    matched: int
    closeness: timedelta
    last: tuple[int, int] | None = None
    before: "_Best | None" = None

    @property
    def rank(self) -> tuple[int, timedelta]:
        return self.matched, self.closeness


def match(
    items: Sequence[datetime],
    messages: Sequence[datetime],
    *,
    earliest: timedelta,
    latest: timedelta,
) -> dict[int, int]:
    """Return the positions of the messages by those of the items that they match.

    Both come in the order of time. A message lies between ``earliest`` and ``latest`` after its
    item. As that is the same for all items, matched pairs never cross each other.
    """
    row = [_Best(0, timedelta())] * (len(messages) + 1)
    for item, received_at in enumerate(items):
        above, row = row, [row[0]]
        for message, created_at in enumerate(messages):
            options = [row[message], above[message + 1]]
            distance = created_at - received_at
            if earliest <= distance <= latest:
                before = above[message]
                options.append(
                    _Best(
                        before.matched + 1,
                        before.closeness - abs(distance),
                        (item, message),
                        before,
                    )
                )
            row.append(max(options, key=lambda best: best.rank))
    return dict(_pairs(row[-1]))


def _pairs(best: _Best) -> list[tuple[int, int]]:
    pairs = []
    while best.last is not None and best.before is not None:
        pairs.append(best.last)
        best = best.before
    return pairs
