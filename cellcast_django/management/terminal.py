"""Output for a terminal: text from elsewhere made safe, and a line that shows progress."""

from django.core.management.base import OutputWrapper

WIDTH = 60


def printable(text: str) -> str:
    """Replace what could move the cursor or colour the terminal by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


class ProgressLine:
    """A line that the next one overwrites; shown only on a terminal, and not with verbosity 0."""

    def __init__(self, stdout: OutputWrapper, verbosity: int) -> None:
        self._stdout = stdout
        self.is_shown = stdout.isatty() and verbosity > 0

    def show(self, text: str) -> None:
        """Replace the line by this text; an empty one clears it."""
        if self.is_shown:
            self._stdout.write(f"\r{text:<{WIDTH}}\r", ending="")
            self._stdout.flush()
