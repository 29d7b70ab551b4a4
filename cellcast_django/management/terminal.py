"""What several commands take and show: times, events, counts and a line of progress."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

from django.core.management.base import CommandError, OutputWrapper
from django.db import Error as DatabaseError
from django.db.models import BigIntegerField
from django.utils import timezone

from cellcast_django.database.transactions import hint_of
from cellcast_django.days import duration_of
from cellcast_django.error_reports import hides_variables
from cellcast_django.models import WebhookEventQuerySet

P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 60


def printable(text: str) -> str:
    """Replace what could move the cursor or colour the terminal by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


class ProgressLine:
    """A line on a terminal that the next one overwrites, and the end of the block clears."""

    def __init__(self, stdout: OutputWrapper, verbosity: int) -> None:
        self._stdout = stdout
        self.is_shown = stdout.isatty() and verbosity > 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.show("")

    def show(self, text: str) -> None:
        """Replace the line by this text."""
        if self.is_shown:
            self._stdout.write(f"\r{text:<{WIDTH}}\r", ending="")
            self._stdout.flush()


def parse_duration(text: str, units: str = "mhdw") -> timedelta:
    """Parse a duration, as an option's type. Raises ``ArgumentTypeError``."""
    try:
        return duration_of(text, units)
    except ValueError as error:  # whose text argparse would not show
        raise ArgumentTypeError(str(error)) from None


def parse_moment(text: str) -> datetime:
    """Parse ``2026-11-10T09:00`` in the current zone, or ``30d``. Raises ``ArgumentTypeError``."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
    except (ValueError, OverflowError):
        pass
    try:
        return timezone.now() - parse_duration(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{error} Or write a time, such as 2026-11-10T09:00.") from None


def says_if_refused(execute: Callable[P, T]) -> Callable[P, T]:
    """Decorate ``execute``: a refusal of the database is a ``CommandError`` that holds no value."""

    @hides_variables
    @wraps(execute)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return execute(*args, **kwargs)
        except DatabaseError as error:
            name = type(error).__name__
            cause = hint_of(error) or "Perhaps it is down or locked."
        # Outside the except block, so that it does not carry the database's error along.
        raise CommandError(
            f"The database refused ({name}). {cause} "
            "What was done before that stays; run this again for the rest."
        )

    return wrapper


def add_event_option(parser: Any, help_text: str) -> None:
    """Add ``--event``; its value is a list of primary keys, empty if it is not given."""
    parser.add_argument(
        "--event", nargs="+", action="extend", type=int, default=[], metavar="ID", help=help_text
    )


def require_events(pks: Collection[int], events: WebhookEventQuerySet, noun: str) -> None:
    """Raise ``CommandError`` unless all these keys are among the events."""
    known = keys_among(events, pks)
    if missing := [str(pk) for pk in pks if pk not in known]:
        raise CommandError(f"No such {noun}: {', '.join(missing)}.")


def keys_among(events: WebhookEventQuerySet, pks: Collection[int]) -> set[int]:
    """Return those of the keys that are among the events."""
    possible = [pk for pk in pks if abs(pk) <= BigIntegerField.MAX_BIGINT]
    return set(events.only("pk").in_bulk(possible))  # in parts: SQLite limits them
