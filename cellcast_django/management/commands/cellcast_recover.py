"""Ask Cellcast's API for what never arrived."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cellcast_django.management.terminal import ProgressLine, parse_duration, says_if_refused
from cellcast_django.recovery import (
    DEFAULT_AGE,
    Findings,
    Kind,
    RecoveryError,
    problems_of,
    recover,
)


class Command(BaseCommand):
    help = (
        "Ask Cellcast's API for the replies, statuses and opt-outs that no webhook delivered, "
        "store each exactly once, and run its handlers. Run it from cron or a timer, and after an "
        "outage. Interrupting it, running it again and running several at once are safe. It never "
        "sends a message and never deletes anything."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since",
            type=parse_duration,
            default=DEFAULT_AGE,
            metavar="AGE",
            help="how far back to look, such as 2d (the default), 36h or 90m. Keep it shorter than "
            "your retention, or what you have pruned comes back",
        )
        parser.add_argument("--replies", action="store_true", help="look for replies")
        parser.add_argument("--statuses", action="store_true", help="look for delivery reports")
        parser.add_argument("--opt-outs", action="store_true", help="look for opt-outs")
        parser.add_argument(
            "--dry-run", action="store_true", help="store nothing; print what is missing"
        )

    execute = says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        """Recover, and print what was found.

        Raises ``CommandError`` if a list was not read to its end, or the database refused.
        """
        chosen = [kind for kind in Kind if options[kind.name.lower()]]
        line = ProgressLine(self.stdout, options["verbosity"])
        try:
            found = recover(
                chosen or list(Kind),
                age=options["since"],
                dry_run=options["dry_run"],
                progress=lambda each: line.show(
                    f"{each.kind}: {each.seen:,} seen, {each.missing:,} missing"
                ),
            )
        except RecoveryError as error:
            raise CommandError(str(error)) from None
        finally:
            line.show("")
        for findings in found:
            self.stdout.write(describe_findings(findings, dry_run=options["dry_run"]))
        if errors := problems_of(found):
            raise CommandError("\n".join(errors))


def describe_findings(findings: Findings, *, dry_run: bool) -> str:
    """Return a line such as "replies: 134 seen, 2 were missing and are now stored"."""
    if not findings.is_read:
        return f"{findings.kind}: not read"
    parts = [f"{findings.seen:,} seen", missing_in_words(findings, dry_run=dry_run)]
    notes = [
        (findings.waiting, "too recent to tell"),
        (findings.unreadable, "could not be understood"),
        (findings.not_listed, "stored here but not listed by Cellcast"),
        (findings.ended, "listed by Cellcast but ended here"),
    ]
    parts += [f"{count:,} {words}" for count, words in notes if count]
    return f"{findings.kind}: {', '.join(filter(None, parts))}"


def missing_in_words(findings: Findings, *, dry_run: bool) -> str:
    """Return how many items were missing and are now stored, as far as the list could be read."""
    unread = "not read to the end" if findings.error else ""
    were, are = ("was", "is") if findings.missing == 1 else ("were", "are")
    if not findings.missing:
        return unread or "none missing"
    if dry_run:
        words = f"{findings.missing:,} {are} missing"
    else:
        arrived = findings.missing - findings.stored
        meanwhile = f" ({arrived:,} arrived meanwhile)" if arrived else ""
        words = f"{findings.missing:,} {were} missing and {are} now stored{meanwhile}"
    return ", ".join(filter(None, [words, unread]))
