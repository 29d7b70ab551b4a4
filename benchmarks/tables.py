"""Tables in Markdown, as benchmarks/README.md has them."""

from collections.abc import Iterable, Sequence


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print the rows below their headings."""
    print()
    for row in [headings, ["---"] * len(headings), *rows]:
        print("|", " | ".join(row), "|")


def ms(seconds: float) -> str:
    """Return a time in milliseconds, as exact as it is worth."""
    milliseconds = seconds * 1_000
    return f"{milliseconds:,.0f}" if milliseconds >= 10 else f"{milliseconds:.1f}"


def short(count: int) -> str:
    """Return a number of messages as people say it."""
    for unit, name in ((1_000_000, " million"), (1_000, ",000")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{name}"
    return str(count) if count else "empty"
