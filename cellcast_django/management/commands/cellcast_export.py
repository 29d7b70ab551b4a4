"""Write everything stored about one contact as JSON."""

import os
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper

from cellcast_django.days import day_of
from cellcast_django.management.terminal import plural, says_if_refused
from cellcast_django.upkeep.contact_export import ContactData
from cellcast_django.upkeep.retention import AboutContact


class Command(BaseCommand):
    help = (
        "Write everything filed under one customer's number as one JSON object. That is messages, "
        "their history, events, the opt-out with its history, and what staff did to these in the "
        "admin."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--contact", metavar="NUMBER", required=True, help="the phone number, in any spelling"
        )
        for name, words in (("since", "from this day on"), ("until", "until this day, included")):
            parser.add_argument(
                f"--{name}", type=parse_day, metavar="D", help=f"only {words}, such as 2026-05-31"
            )
        parser.add_argument(
            "--output",
            metavar="FILE",
            help="a new file, which only its owner may read; else it goes to standard output",
        )

    execute = says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        """Write the object. Raises ``CommandError`` if nothing is found, or the file exists."""
        first, last = options["since"], options["until"]
        if first and last and first > last:
            raise CommandError("--until is before --since.")
        try:
            data = ContactData(AboutContact(options["contact"]), first=first, last=last)
        except ValueError as error:
            raise CommandError(f"--contact: {error}") from None
        if data.is_empty():
            days = " on these days" if first or last else ""
            raise CommandError(f"Nothing is stored about this contact{days}.")
        if count := data.not_understood().count():
            self.stderr.write(say_not_understood(count))
        if options["output"] is None:
            self.stdout.write(data.as_json(ensure_ascii=True))  # a redirect may not be UTF-8
            return
        with output_file(options["output"], self.stderr) as file:
            file.write(data.as_json())
        if options["verbosity"]:
            self.stderr.write(
                "Written. Texts may mention other people: look through the file before you hand it "
                "over, and delete it afterwards."
            )


def parse_day(text: str) -> date:
    """Parse a day such as ``2026-05-31``. Raises ``ArgumentTypeError``."""
    if (day := day_of(text)) is None:
        raise ArgumentTypeError(f'"{text}" is not a day, such as 2026-05-31.')
    return day


def say_not_understood(count: int) -> str:
    """Return what to do about the events that are in nobody's file."""
    return (
        f"{plural(count, 'event')} could not be understood and may name this contact. Look through "
        "them in the admin (events, invalid or dismissed), or search them for the number's last "
        'digits: WebhookEvent.objects.filter(outcome="invalid", body__contains="…").'
    )


UNFINISHED = ".cellcast-unfinished"


@contextmanager
def output_file(name: str, stderr: OutputWrapper, newline: str | None = None) -> Iterator[TextIO]:
    """Write a new file that appears under its name only when the block has ended.

    Only its owner may read it. A process that is killed leaves it ``UNFINISHED``; the next one to
    write into that folder says so. Raises ``CommandError``: no file is ever replaced.
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
