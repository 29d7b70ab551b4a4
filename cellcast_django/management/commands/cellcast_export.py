"""Write everything stored about one contact as JSON."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cellcast_django.contact_export import ContactData, lines
from cellcast_django.retention import AboutContact


class Command(BaseCommand):
    help = (
        "Write everything stored about one customer as one JSON object: messages, their history, "
        "events, the opt-out with its history, and what staff did to these in the admin. It finds "
        "what cellcast_prune --contact finds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--contact", metavar="NUMBER", required=True, help="the phone number, in any spelling"
        )
        parser.add_argument(
            "--output",
            metavar="FILE",
            help="where to write it instead of to standard output; a file that only its owner may "
            "read, and that must not exist yet",
        )

    def handle(self, **options: Any) -> None:
        """Write the object. Raises ``CommandError`` if nothing is found, or the file exists."""
        try:
            data = ContactData(AboutContact(options["contact"]))
        except ValueError as error:
            raise CommandError(f"--contact: {error}") from None
        if data.is_empty():
            raise CommandError("Nothing is stored about this contact.")
        if shared := data.shared_events():
            keys = ", ".join(map(str, shared))
            self.stderr.write(
                f"These events name other people too, so only that they exist is written: {keys}. "
                "Look at each in the admin, and add by hand what is about this contact."
            )
        if options["output"] is None:
            for line in lines(data, ensure_ascii=True):  # a redirect may not be UTF-8
                self.stdout.write(line, ending="")
            return
        try:
            with complete_or_absent(Path(options["output"])) as file:
                file.writelines(lines(data))
        except OSError as error:
            raise CommandError(f"--output: {error.strerror}.") from None
        if options["verbosity"]:
            self.stderr.write(
                "Written. Texts may mention other people: look through the file before you hand it "
                "over, and delete it afterwards."
            )


@contextmanager
def complete_or_absent(path: Path) -> Iterator[TextIO]:
    """Write a new file that appears under its name only when the block has ended.

    From its first byte it can be read by its owner alone. Raises ``OSError``: a file of that name
    is never replaced.
    """
    if path.exists():
        raise FileExistsError(None, "The file exists")
    descriptor, unfinished = mkstemp(prefix=".cellcast-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)  # unlike a rename, it fails if somebody else was quicker
    finally:
        with suppress(OSError):
            os.unlink(unfinished)
