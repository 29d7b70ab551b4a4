"""Ask Cellcast's API for what never arrived, or for what it knows nothing of."""

import csv
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from cellcast_django import recovery
from cellcast_django.management import terminal
from cellcast_django.management.commands.cellcast_export import output_file
from cellcast_django.management.terminal import parse_moment, printable
from cellcast_django.upkeep.unconfirmed import Comparison, Unconfirmed, find_unconfirmed

WHOSE_KEY = "Is this the key of the account whose webhooks these are?"
ROW = "{:>9}  {:<19}  {:<7}  {:<16}  {:<5}  {}"  # the fields of ``Unconfirmed``


class Command(BaseCommand):
    help = (
        "Ask Cellcast's API for the replies, statuses and opt-outs that no webhook delivered, "
        "store each exactly once, and run its handlers. Run it from cron or a timer, and after an "
        "outage. Interrupting it, running it again and running several at once are safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since",
            type=parse_moment,
            metavar="T",
            help="how far back to look, such as 2d (the default), 36h or 2026-11-10T09:00. What "
            "you have pruned since then comes back",
        )
        parser.add_argument(
            "--until",
            type=parse_moment,
            metavar="T",
            help="with --unconfirmed: up to this time",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="store nothing; print what is missing"
        )
        parser.add_argument(
            "--unconfirmed",
            action="store_true",
            help="change nothing; print which events of webhooks since then are in none of "
            "Cellcast's lists",
        )
        parser.add_argument(
            "--received-as", metavar="USERNAME", help="with --unconfirmed: of this secret alone"
        )
        parser.add_argument(
            "--output",
            metavar="FILE",
            help="with --unconfirmed: write a new CSV file, for cellcast_prune --events-from",
        )

    execute = terminal.says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        """Recover, and print what was found.

        Raises ``CommandError`` if a list was not read to its end, or the database refused.
        """
        since: datetime | None = options["since"]
        if since is not None and since > timezone.now():
            raise CommandError("--since is still to come.")
        if options["unconfirmed"]:
            self._list_unconfirmed(options)
            return
        for name in ("until", "received_as", "output"):
            if options[name] is not None:
                raise CommandError(f"--{name.replace('_', '-')} needs --unconfirmed.")
        try:
            with terminal.ProgressLine(self.stdout, options["verbosity"]) as line:
                by_list = recovery.recover(
                    age=recovery.DEFAULT_AGE if since is None else timezone.now() - since,
                    dry_run=options["dry_run"],
                    progress=lambda each: line.show(
                        f"{each.kind}: {each.seen:,} seen, {each.missing:,} missing"
                    ),
                )
        except recovery.RecoveryError as error:
            raise CommandError(str(error)) from None
        for findings in by_list:
            self.stdout.write(describe_findings(findings, dry_run=options["dry_run"]))
            if findings.knows_no_webhook:
                self.stderr.write(
                    f"{findings.kind}: Cellcast lists none of the {findings.webhooks:,} that "
                    f"webhooks brought. {WHOSE_KEY}"
                )
        if errors := recovery.problems_of(by_list):
            raise CommandError("\n".join(errors))

    def _list_unconfirmed(self, options: dict[str, Any]) -> None:
        if options["since"] is None:
            raise CommandError("--unconfirmed needs --since: when the password may have leaked.")
        if options["until"] is not None and options["until"] < options["since"]:
            raise CommandError("--until is before --since.")
        try:
            with terminal.ProgressLine(self.stdout, options["verbosity"]) as line:
                comparison = find_unconfirmed(
                    options["since"],
                    options["until"],
                    received_as=options["received_as"],
                    progress=lambda each: line.show(f"{each.kind}: {each.seen:,} seen"),
                )
        except recovery.RecoveryError as error:
            raise CommandError(f"{error} Nobody knows which events are genuine.") from None
        rows = [Unconfirmed._fields, *map(cells_of, comparison.events)]
        if options["output"] is None:
            for cells in rows:
                self.stdout.write(printable(ROW.format(*cells)))
        else:
            with output_file(options["output"], self.stderr, newline="") as file:
                csv.writer(file).writerows(rows)
        for sentence in describe_comparison(comparison):
            self.stderr.write(sentence)


def describe_comparison(comparison: Comparison) -> Iterator[str]:
    """Yield what was confirmed, what was not, and what nobody can tell."""
    counts = ", ".join(f"{comparison.confirmed[kind]:,} {kind}" for kind in recovery.ApiList)
    yield f"Confirmed: {counts}."
    yield f"{len(comparison.events):,} events are in none of Cellcast's lists."
    for kind, count in comparison.spared.items():
        yield f"{kind}: Cellcast lists none of {count:,}, so none is accused. {WHOSE_KEY}"
    for count, what in (
        (comparison.deferred, "events are deferred, not compared: run cellcast_run_handlers first"),
        (
            comparison.not_compared,
            "events are invalid, redacted or pruned in part: not compared",
        ),
        (comparison.invalid, "items of the lists could not be understood, and may confirm some"),
    ):
        if count:
            yield f"{count:,} {what}."


def cells_of(event: Unconfirmed) -> list[str]:
    """Return the fields of an event as text, in their order."""
    at = f"{timezone.localtime(event.received_at):%Y-%m-%d %H:%M:%S}"
    alike = "alike" if event.alike else ""
    return [str(event.id), at, event.kind, event.received_as, alike, ", ".join(event.handlers)]


def describe_findings(findings: recovery.Findings, *, dry_run: bool) -> str:
    """Return a line such as "replies: 134 seen, 2 missing, 2 stored"."""
    if not findings.is_read:
        return f"{findings.kind}: not read"
    parts = [f"{findings.seen:,} seen", f"{findings.missing:,} missing"]
    if findings.missing and not dry_run:
        parts.append(f"{findings.stored:,} stored")
    if findings.error:
        parts.append("not read to the end")
    if findings.webhooks:
        parts.append(f"with {findings.webhooks_listed:,} of the webhooks' {findings.webhooks:,}")
    for count, words in (
        (findings.texts, "with a text that was missing"),
        (findings.waiting, "too recent to tell"),
        (findings.invalid, "could not be understood"),
        (findings.not_listed, "stored here but not listed by Cellcast"),
        (findings.ended, "listed by Cellcast but ended here"),
    ):
        if count:
            parts.append(f"{count:,} {words}")
    return f"{findings.kind}: {', '.join(parts)}"
