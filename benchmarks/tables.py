"""Tables in Markdown, as benchmarks/README.md has them."""

from collections.abc import Iterable, Sequence


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print the rows below their headings."""
    print()
    for row in [headings, ["---"] * len(headings), *rows]:
        print("|", " | ".join(row), "|")
