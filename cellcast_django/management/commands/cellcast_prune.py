"""Delete what is old, or what is about one contact; or empty it of personal data."""

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import ProtectedError, RestrictedError
from django.utils import timezone

from cellcast_django.conf import conf
from cellcast_django.contacts import is_phone_number
from cellcast_django.management.durations import parse_duration
from cellcast_django.payloads import clean
from cellcast_django.retention import Kept, Removed, Selection, forget_opt_outs, prune


def age(text: str) -> timedelta:
    """Read ``--older-than``: no minutes, because ``3m`` might be meant as months."""
    return parse_duration(text, units="hdw")


class Command(BaseCommand):
    """Prunes messages and events, in batches that may be interrupted."""

    help = (
        "Delete messages, with their history and their events, once the last event about them is "
        "older than a given age; with --redact, keep the rows with their statuses and times, and "
        "empty the numbers, the texts and the webhooks' bodies. With --contact, do so for one "
        "customer who asks to be erased. What is still to be announced is left alone, and so are "
        "opt-outs, which must outlive the messages. Works in small batches: interrupt it at any "
        "time, and run it again to go on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add what is to go, and how."""
        parser.add_argument(
            "--older-than",
            type=age,
            metavar="AGE",
            help="90d, 12w or 36h; required, but for --contact",
        )
        parser.add_argument(
            "--contact",
            metavar="NUMBER",
            help="only what is about this customer, webhooks that name the number in an unexpected "
            "place included; any spelling of the number. Not found are mentions of the number in "
            "other customers' messages",
        )
        parser.add_argument(
            "--opt-outs",
            action="store_true",
            help="with --contact: the customer's opt-out too, so that nothing here says any more "
            "that they must not be texted",
        )
        parser.add_argument(
            "--redact",
            action="store_true",
            help="empty the rows of personal data instead of deleting them",
        )
        parser.add_argument(
            "--include-failed",
            action="store_true",
            help="also events whose announcement was given up and that wait for a person",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="change nothing, and say how much there is to do"
        )

    def handle(self, **options: Any) -> None:
        """Prune, and say what was done. Raises ``CommandError`` when an erasure is incomplete."""
        selection = find_selection(options)
        if options["dry_run"]:
            removed = selection.count()
            opt_outs = selection.ledger().count() if selection.opt_outs else 0
        else:
            removed = self._prune(selection, is_quiet=options["verbosity"] == 0)
            opt_outs = forget_opt_outs(selection)
        kept = selection.kept()
        kept_opt_outs = 0 if selection.opt_outs else selection.ledger().count()
        if is_mistyped(selection.number) and not any((*removed, *kept, opt_outs, kept_opt_outs)):
            raise CommandError("Nothing is about this contact, which is not a valid phone number.")
        verb = "emptied" if selection.redact else "deleted"
        done = f"Would be {verb}" if options["dry_run"] else verb.capitalize()
        self.stdout.write(self.style.SUCCESS(f"{done}: {describe(removed)}{scope(selection)}."))
        if selection.opt_outs:
            done = "Would be deleted" if options["dry_run"] else "Deleted"
            self.stdout.write(f"{done}: {counted(opt_outs, 'opt-out')}.")
        for line in [*reasons(kept), *reason_of_opt_outs(selection, kept_opt_outs)]:
            self.stdout.write(line)
        if selection.number is not None and any(kept) and not options["dry_run"]:
            raise CommandError("Not everything about this contact is gone yet: see above.")

    def _prune(self, selection: Selection, *, is_quiet: bool) -> Removed:
        """Prune, with a line that counts along on a terminal."""
        shows_progress = self.stdout.isatty() and not is_quiet
        total = sum(selection.count()) if shows_progress else 0
        messages = events = 0
        try:
            for batch in prune(selection):
                messages += batch.messages
                events += batch.events
                if shows_progress:
                    self._show(f"{messages + events:,} of {total:,} rows")
        except (ProtectedError, RestrictedError) as error:
            raise CommandError(
                f"{error.args[0]} Until then {describe(Removed(messages, events))} were deleted. "
                "Remove what refers to the messages first, or use --redact, which keeps the rows."
            ) from None
        finally:
            if shows_progress:
                self._show("")
        return Removed(messages, events)

    def _show(self, text: str) -> None:
        self.stdout.write(f"\r{text:<40}\r", ending="")
        self.stdout.flush()


def find_selection(options: dict[str, Any]) -> Selection:
    """Return what the options select. Raises ``CommandError`` where they select nothing."""
    older_than: timedelta | None = options["older_than"]
    if options["opt_outs"] and options["contact"] is None:
        raise CommandError("--opt-outs needs --contact: an opt-out must outlive the messages.")
    if older_than is None and options["contact"] is None:
        raise CommandError("Say what is to go: --older-than 90d, --contact NUMBER, or both.")
    try:
        before = None if older_than is None else timezone.now() - older_than
    except OverflowError:
        raise CommandError("--older-than goes back further than the calendar.") from None
    try:
        return Selection(
            before=before,
            number=options["contact"],
            redact=options["redact"],
            include_failed=options["include_failed"],
            opt_outs=options["opt_outs"],
        )
    except ValueError as error:
        raise CommandError(f"--contact: {error}") from None


def is_mistyped(number: str | None) -> bool:
    """Whether there is a number that is none."""
    return number is not None and not is_phone_number(clean(number), conf.default_region)


def describe(removed: Removed) -> str:
    """Return the numbers in words."""
    return f"{counted(removed.messages, 'message')} and {counted(removed.events, 'event')}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def scope(selection: Selection) -> str:
    """Return what was selected, without the number: this may end in a log."""
    about = "" if selection.number is None else " about this contact"
    return about + ("" if selection.before is None else f" from before {day(selection.before)}")


def day(moment: datetime) -> str:
    """Return a time to the minute, in the project's time zone."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return f"{local:%Y-%m-%d %H:%M}"


def reasons(kept: Kept) -> list[str]:
    """Return a sentence for each reason for which events were kept."""
    lines = []
    if kept.pending:
        lines.append(f"Kept: {counted(kept.pending, 'event')} still to be announced.")
    if kept.failed:
        lines.append(
            f"Kept: {counted(kept.failed, 'event')} whose announcement was given up. Announce "
            "again with cellcast_announce --failed, or prune too with --include-failed."
        )
    return lines


def reason_of_opt_outs(selection: Selection, number: int) -> list[str]:
    """Return a sentence about the opt-outs that were left alone."""
    if not number:
        return []
    if selection.number is None:
        return [f"Kept: {counted(number, 'opt-out')}, which must outlive the messages."]
    return ["Kept: the opt-out of this contact. With --opt-outs it goes too."]
