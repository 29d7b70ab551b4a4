"""What the demo prints, and whether it can be typed to."""

import sys
from io import TextIOWrapper

IS_TERMINAL = sys.stdout.isatty()
CAN_TYPE = sys.stdin is not None and sys.stdin.isatty()
for stream in (sys.stdin, sys.stdout):
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")  # a terminal without ✓ must not stop the demo


def heading(text: str) -> None:
    """Print a heading."""
    print(f"\n{_styled(text, 1)}")


def done(text: str) -> None:
    """Print what has been done."""
    print(f"  {_styled('✓', 32)} {text}", flush=True)


def wrong(text: str) -> None:
    """Print what is wrong."""
    print(f"  {_styled('✗', 31)} {text}", flush=True)


def line(text: str = "") -> None:
    """Print a detail."""
    print(f"    {text}".rstrip(), flush=True)


def progress(position: int, total: int) -> None:
    """Show progress on a terminal, in a line that the next one overwrites."""
    if IS_TERMINAL:
        print(f"  … {position} of {total}", end="\r", flush=True)


def _styled(text: str, code: int) -> str:
    return f"\033[{code}m{text}\033[0m" if IS_TERMINAL else text
