"""The figures of a run, for the one table at its end."""

from typing import NamedTuple


class Figure(NamedTuple):
    """One thing that was counted or measured."""

    test: str
    what: str
    value: str


FIGURES: list[Figure] = []


def record(test: str, **figures: object) -> None:
    """Note figures; ``of_a_name`` is shown as "of a name"."""
    for what, value in figures.items():
        FIGURES.append(Figure(test, what.replace("_", " "), _text(value)))


def percentile(values: list[float], percent: float) -> float:
    """Return the value that ``percent`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def milliseconds(seconds: float) -> str:
    """Return a duration as it stands in the table."""
    return f"{seconds * 1_000:,.1f} ms"


def table() -> list[str]:
    """Return the table's lines; a test's name stands once."""
    widths = [max(len(figure[column]) for figure in FIGURES) for column in range(2)]
    lines = []
    previous = ""
    for test, what, value in FIGURES:
        name = "" if test == previous else test
        lines.append(f"{name:<{widths[0]}}  {what:<{widths[1]}}  {value}")
        previous = test
    return lines


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
