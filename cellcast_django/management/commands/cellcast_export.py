"""Write everything stored about one contact as JSON."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser

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
        with output_file(options["output"]) as file:
            file.writelines(lines(data))
        if options["verbosity"]:
            self.stderr.write(
                "Written. Texts may mention other people: look through the file before you hand it "
                "over, and delete it afterwards."
            )


@contextmanager
def output_file(name: str, newline: str | None = None) -> Iterator[TextIO]:
    """Write a new file that appears under its name only when the block has ended.

    From its first byte it can be read by its owner alone. SIGTERM and SIGHUP leave nothing behind.
    Raises ``CommandError``: a file of that name is never replaced.
    """
    path = Path(name)
    try:
        if path.exists():
            raise FileExistsError(None, "The file exists")
        unfinished = path.with_name(f".cellcast-{token_hex(8)}")
        with exiting_on_signals():
            try:
                with open(
                    unfinished,
                    "x",
                    encoding="utf-8",
                    newline=newline,
                    opener=lambda path, flags: os.open(path, flags, mode=0o600),
                ) as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.link(unfinished, path)  # unlike a rename, it fails if somebody else was quicker
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"--output: {error.strerror}.") from None


@contextmanager
def exiting_on_signals() -> Iterator[None]:
    """Let the signals that end a process at once end it by an exception, and so tidy up."""
    is_main = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP") if is_main else ()  # elsewhere Python handles none
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # What nohup ignores stays ignored.
    ending = [each for each in numbers if signal.getsignal(each) == signal.SIG_DFL]

    def handle_all(handler: Any) -> None:
        for number in ending:
            signal.signal(number, handler)

    def end(number: int, _frame: object) -> None:
        handle_all(signal.SIG_IGN)  # a second one must not interrupt the tidying up
        sys.exit(128 + number)

    handle_all(end)
    try:
        yield
    finally:
        handle_all(signal.SIG_DFL)
