"""Text from elsewhere, made safe for a terminal and a log."""


def printable(text: str) -> str:
    """Replace what could move the cursor or colour the terminal by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)
