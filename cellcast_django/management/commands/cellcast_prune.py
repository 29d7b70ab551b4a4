"""Delete or redact messages and events by age or by contact."""

import csv
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from cellcast_django.management import terminal
from cellcast_django.management.commands.cellcast_export import say_not_understood
from cellcast_django.management.terminal import keys_among, plural, printable
from cellcast_django.models import WebhookEvent
from cellcast_django.upkeep.retention import Kept, Pruned, Selection, not_understood, prune
from cellcast_django.upkeep.taken_back import effects_of, take_back


class Command(BaseCommand):
    help = (
        "Delete messages, with their history and events, once the last event about them is older "
        "than the given age. Events whose handlers have not finished are kept, and so are "
        "opt-outs. Interrupt it at any time, and run it again to go on. With --event, take these "
        "events back, with the messages, statuses and texts that only they brought."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=partial(terminal.parse_duration, units="hdw"),  # 3m might be meant as months
            metavar="AGE",
            help="such as 90d, 12w or 36h; required without --contact and --event",
        )
        parser.add_argument(
            "--contact",
            metavar="NUMBER",
            help="only what is filed under this customer's number, in any spelling",
        )
        parser.add_argument(
            "--opt-outs",
            action="store_true",
            help="with --contact: delete the customer's opt-out and its proof, too",
        )
        parser.add_argument(
            "--redact",
            action="store_true",
            help="keep the rows, and empty the numbers, texts and webhook bodies",
        )
        parser.add_argument(
            "--include-failed", action="store_true", help="also prune events that have failed"
        )
        terminal.add_event_option(parser, "take these events back, as if they had never come")
        parser.add_argument(
            "--events-from",
            metavar="FILE",
            help="the same, with an id in each line, or the CSV of cellcast_recover --unconfirmed",
        )
        parser.add_argument(
            "--end-opt-outs",
            metavar="NOTE",
            help="with these: end the opt-outs that nothing else has begun, for this reason",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="change nothing; print how much would be pruned"
        )

    execute = terminal.says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        """Prune, and print what was done. Raises ``CommandError`` if an erasure is incomplete."""
        if options["event"] or options["events_from"] is not None:
            self._take_back(*find_events(options), options)
        else:
            self._prune(find_selection(options), options)

    def _prune(self, selection: Selection, options: dict[str, Any]) -> None:
        with terminal.ProgressLine(self.stdout, options["verbosity"]) as line:
            if options["dry_run"]:
                pruned = selection.count()
            else:
                total = selection.count().rows if line.is_shown else 0  # for it alone
                pruned = prune(
                    selection, progress=lambda each: line.show(f"{each.rows:,} of {total:,} rows")
                )
        kept = selection.kept()
        self._say("redacted" if selection.redact else "deleted", rows_of(pruned), options)
        if selection.opt_outs:
            self._say("deleted", plural(pruned.opt_outs, "opt-out"), options)
        for reason in reasons_to_keep(selection, pruned, kept):
            self.stdout.write(f"Kept: {reason}")
        if selection.number is None:
            return
        if count := not_understood().count():
            self.stderr.write(say_not_understood(count))
        if (pruned.protected_by or any(kept)) and not options["dry_run"]:
            raise CommandError("Some of it was kept: see above, and run this again after that.")

    def _take_back(self, events: set[int], gone: int, options: dict[str, Any]) -> None:
        effects = effects_of(events)  # while they are there
        pruned, total = Pruned(), len(events)
        if not options["dry_run"]:
            with terminal.ProgressLine(self.stdout, options["verbosity"]) as line:
                pruned = take_back(
                    events,
                    end_opt_outs=options["end_opt_outs"],
                    progress=lambda each: line.show(f"{each.events:,} of {total:,} events"),
                )
        what = plural(total, "event") if options["dry_run"] else rows_of(pruned)
        self._say("taken back", what, options)
        if gone:
            self.stdout.write(f"{plural(gone, 'event')} of the list had gone before.")
        if effects.handlers:
            names = ", ".join(map(printable, sorted(effects.handlers)))
            self.stdout.write(f"Handlers that had been told, and did what they do: {names}.")
        if effects.opt_outs:
            self.stdout.write(
                f"Opt-outs begun by these events: {pruned.opt_outs:,} ended, "
                f"{effects.opt_outs - pruned.opt_outs:,} left."
            )
        if pruned.protected_by:
            raise CommandError(f"Kept: {PROTECTED} {pruned.protected_by}")
        if not options["dry_run"] and (left := keys_among(WebhookEvent.objects.fresh(), events)):
            raise CommandError(f"Left: {plural(len(left), 'event')} just being read. Try again.")

    def _say(self, done: str, what: str, options: dict[str, Any]) -> None:
        words = f"Would be {done}" if options["dry_run"] else done.capitalize()
        self.stdout.write(self.style.SUCCESS(f"{words}: {what}."))


def find_events(options: dict[str, Any]) -> tuple[set[int], int]:
    """Return the events to take back, and how many are not there. Raises ``CommandError``."""
    others = ("contact", "older_than", "redact", "opt_outs", "include_failed")
    if given := [name for name in others if options[name] not in (None, False)]:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise CommandError(f"Events are taken back whole: give --event without {names}.")
    named = set(options["event"])
    if options["events_from"] is not None:
        named |= read_events(options["events_from"])
    events = keys_among(WebhookEvent.objects.fresh(), named)
    if not events:
        raise CommandError("None of these events is there. Nothing was done.")
    return events, len(named) - len(events)


def read_events(name: str) -> set[int]:
    """Return the keys in the first column of a file. Raises ``CommandError``."""
    try:
        with open(name, encoding="utf-8-sig", newline="") as file:
            first = [row[0].strip() for row in csv.reader(file) if row]
        return {int(key) for key in first if key not in ("", "id")}
    except OSError as error:
        raise CommandError(f"--events-from: {error.strerror}.") from None
    except (ValueError, csv.Error):
        raise CommandError("--events-from: not a list with an id in each line.") from None


def find_selection(options: dict[str, Any]) -> Selection:
    """Return what the options select. Raises ``CommandError`` if they make no sense."""
    if options["end_opt_outs"] is not None:
        raise CommandError("--end-opt-outs needs --event or --events-from.")
    older_than: timedelta | None = options["older_than"]
    try:
        return Selection(
            before=None if older_than is None else timezone.now() - older_than,
            number=options["contact"],
            redact=options["redact"],
            include_failed=options["include_failed"],
            opt_outs=options["opt_outs"],
        )
    except ValueError as error:
        raise CommandError(str(error)) from None


def rows_of(pruned: Pruned) -> str:
    """Return how many messages and events were pruned."""
    return f"{plural(pruned.messages, 'message')} and {plural(pruned.events, 'event')}"


PROTECTED = "rows that your own models protect: remove what refers to them first."


def reasons_to_keep(selection: Selection, pruned: Pruned, kept: Kept) -> Iterator[str]:
    """Yield a sentence for each reason why rows were kept."""
    if pruned.protected_by:
        yield f"{PROTECTED} Or use --redact, which keeps the rows. {pruned.protected_by}"
    for count, why in (
        (kept.pending, "whose handlers have not finished: see cellcast_run_handlers"),
        (kept.deferred, "that have not been read yet (deferred): see cellcast_run_handlers"),
        (kept.failed, "that failed: see cellcast_run_handlers --failed, or use --include-failed"),
    ):
        if count:
            yield f"{plural(count, 'event')} {why}."
    if not selection.opt_outs and selection.opt_out_rows().exists():
        yield "the opt-out of this contact. Use --opt-outs to delete it too."
