"""Write everything stored about one contact as JSON."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    OutputWrapper,
)

from cellcast_django.contact_export import ContactData, lines
from cellcast_django.management.terminal import says_if_refused
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

    execute = says_if_refused(BaseCommand.execute)

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
        with output_file(options["output"], self.stderr) as file:
            file.writelines(lines(data))
        if options["verbosity"]:
            self.stderr.write(
                "Written. Texts may mention other people: look through the file before you hand it "
                "over, and delete it afterwards."
            )


UNFINISHED = ".cellcast-unfinished"


@contextmanager
def output_file(name: str, stderr: OutputWrapper, newline: str | None = None) -> Iterator[TextIO]:
    """Write a new file that appears under its name only when the block has ended.

    From its first byte it can be read by its owner alone. A process that is killed leaves it with
    ``UNFINISHED`` at the end of its name; the next one to write into that folder says so. Raises
    ``CommandError``: a file of that name is never replaced.
    """
    path = Path(name)
    try:
        if path.exists():
            raise FileExistsError(None, "The file exists")
        for left in path.parent.glob(f"*{UNFINISHED}"):
            stderr.write(f"{left} is unfinished. Delete it, unless a run still writes it.")
        unfinished = path.with_name(f"{path.name}{UNFINISHED}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
        try:
            with open(descriptor, "w", encoding="utf-8", newline=newline) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, path)  # unlike a rename, it fails if somebody else was quicker
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"--output: {error.strerror}.") from None
