"""What your own tables know of customers: derive the class that ``CELLCAST_DIRECTORY`` names."""

from collections.abc import Iterable, Mapping


class Directory:
    """Knows nobody. The admin's pages make one for each page, and ask each method once.

    What a method raises, or returns of a wrong shape, is logged and left out. All are optional.
    """

    def names(self, contacts: list[str]) -> Mapping[str, str | tuple[str, str]]:
        """Return names by contact, each alone or with the address of your own page about them.

        ``contacts`` are spelt as by ``contacts.to_contact``. ``None`` or ``""`` is no name.
        """
        return {}

    def search(self, words: str) -> Iterable[str]:
        """Return the numbers, in any spelling, of those whom these words may mean.

        201 are asked for and 200 used; the page says when there are more.
        """
        return []

    def references(self, references: list[str]) -> Mapping[str, tuple[str, str]]:
        """Return what each reference is called, and the address of your own page about it."""
        return {}

    def answers(self, contact: str) -> Iterable[str]:
        """Return texts to choose from when answering this customer, the likeliest first.

        Asked once a conversation, for those who may answer. The first 20 are looked at. One that is
        no text, or longer than 1,600 characters, is left out alone. ``None`` is none.
        """
        return []
