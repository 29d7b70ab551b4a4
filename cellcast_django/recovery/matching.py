"""Match listed items with stored messages, all of the same contact and text, by their times.

Plain Python. Each message matches at most one item. As many items as possible are matched, so that
nothing is stored twice; of the ways to do so, the one with the smallest total distance in time is
chosen, so that the right item is left over as missing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple


class _Best(NamedTuple):
    """The best way to match the first items with the first messages, compared by ``rank``."""

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
    """Return the position of the message matched to each item, by the position of the item.

    Both sequences are in the order of time. A message must lie between ``earliest`` and ``latest``
    after its item. As these limits are the same for all items, matched pairs never cross.
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
