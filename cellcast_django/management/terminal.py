"""Text from elsewhere, made fit for a terminal and a log."""


def printable(text: str) -> str:
    """Return the text without what could move the cursor or colour the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
