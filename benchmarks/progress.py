"""One line that counts along on a terminal, and nothing in a log."""

import sys


def show(text: str) -> None:
    """Put this text in place of the one before."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
