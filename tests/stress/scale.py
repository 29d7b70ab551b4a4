"""How much of the full load a run takes: ``STRESS_SCALE=0.1`` for a quick look."""

import os

SCALE = float(os.environ.get("STRESS_SCALE", "1"))


def scaled(count: int) -> int:
    """Return that share of a count of the full load."""
    return max(1, round(count * SCALE))
