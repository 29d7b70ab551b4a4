"""Run what is due: from cron, a timer or a task schedule, or continuously with ``--watch``.

With ``--again``, past events are given to one handler.
"""

import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections
from django.utils import timezone

from cellcast_django.handlers import Tally, run_again, run_due, summary
from cellcast_django.handlers.attempts import replay
from cellcast_django.handlers.calls import connected_handlers
from cellcast_django.handlers.past import Count, PastEvents
from cellcast_django.management.terminal import (
    ProgressLine,
    add_event_option,
    add_time_options,
    plural,
    printable,
    require_events,
    says_if_refused,
)
from cellcast_django.models import CommandRun, WebhookEvent, error_type
from cellcast_django.reply_mail import mail_waiting_replies

logger = logging.getLogger("cellcast_django")

NAP_SECONDS = 0.25  # how long a wait may go on after SIGTERM
NAPS_BETWEEN_ROUNDS = 12
HEARTBEAT_SECONDS = 60


class Command(BaseCommand):
    help = (
        "Call the handlers of the events that are due: those interrupted by a crash, and those "
        "whose handler raised. Handlers that have already finished with an event are not called "
        "again. Run it every minute from cron or a timer, or continuously with --watch. Running "
        "several at once is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_event_option(
            parser,
            "run this event's handlers now: due, failed, or waiting for an earlier event of the "
            "same contact (@in_order); may be repeated",
        )
        parser.add_argument(
            "--failed", action="store_true", help="run all failed events' handlers again"
        )
        parser.add_argument(
            "--watch",
            action="store_true",
            help="keep running and check every few seconds; on SIGTERM, the handlers of the "
            "current event finish first",
        )
        parser.add_argument(
            "--again",
            metavar="NAME",
            help="give past events to this handler alone: those that it has not finished, in the "
            "order in which they were stored. Interrupt it at any time, and give it again to "
            "continue",
        )
        add_time_options(
            parser,
            since="with --again: events received from then on; a time such as 2026-11-10T09:00 in "
            "the current time zone, or an age such as 30d",
            until="with --again: events received until then, that moment included; else until now",
        )
        parser.add_argument(
            "--done",
            action="store_true",
            help="with --again: also events that the handler has finished, or that were skipped "
            "for it; given again, it begins anew",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="with --again: only say how many events"
        )

    execute = says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        events, failed = options["event"], options["failed"]
        check(options)
        if options["again"] is not None:
            self._give_past_events(options)
        elif options["watch"]:
            self._watch_until_sigterm()
        elif events or failed:
            self._print(run_again(self._chosen(events, failed=failed), progress=self._report))
        else:
            tally = run_due(progress=self._report)
            CommandRun.record(CommandRun.Command.RUN_HANDLERS, summary(tally))
            mail_waiting_replies()
            self._print(tally)

    def _chosen(self, pks: list[int], *, failed: bool) -> list[int]:
        """Return the keys, in the order in which the events were stored."""
        require_events(pks, WebhookEvent.objects.fresh(), "event")
        also = WebhookEvent.objects.fresh().failed().values_list("pk", flat=True) if failed else ()
        return sorted({*pks, *also})

    def _give_past_events(self, options: dict[str, Any]) -> None:
        """Give events to one handler, and say before how many, and how many not."""
        until = options["until"] or timezone.now()
        past = PastEvents(options["again"], options["since"], until, finished=options["done"])
        count = past.count()
        self.stdout.write(f"For {printable(past.handler)}: {plural(count.given, 'event')}.")
        if left_out := ", ".join(reasons(count)):
            self.stdout.write(f"Not for it: {left_out}.")
        if options["dry_run"]:
            return
        with ProgressLine(self.stdout, options["verbosity"]) as line:

            def pks() -> Iterator[int]:
                for done, pk in enumerate(past.pks(), start=1):
                    yield pk
                    line.show(f"{done:,} of {count.given:,} events")

            tally = replay(pks(), past.handler, finished=options["done"], progress=self._report)
        self._print(tally)

    def _report(self, event: WebhookEvent) -> None:
        errors = event.handler_errors() if event.is_unfinished else {}
        for name, error in errors.items():
            # Never the text: it may quote a customer, and cron sends it by mail.
            self.stderr.write(printable(f"event {event.pk}: {name}: {error_type(error)}"))

    def _print(self, tally: Tally) -> None:
        sentence = "{done} done, {pending} to be retried later, {failed} failed."
        self.stdout.write(sentence.format(**summary(tally)))
        self.stdout.flush()  # a supervisor's pipe would keep it for hours

    # --watch

    _is_over = False
    _beats_at = 0.0

    def _watch_until_sigterm(self) -> None:
        """Run what is due every few seconds; at the end, what is running then may finish."""
        previous = signal.signal(signal.SIGTERM, self._end)
        try:
            self._watch()
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _end(self, *_signal_and_frame: Any) -> None:
        self._is_over = True

    def _watch(self) -> None:
        total: Tally = Counter()
        has_database = True
        mails_at = 0.0

        def report(event: WebhookEvent) -> None:
            total[event.state] += 1
            self._report(event)
            self._beat(total)

        self.stdout.write("Watching for what is due. Stop it by Ctrl-C or SIGTERM.")
        self.stdout.flush()
        while not self._is_over:
            for connection in connections.all(initialized_only=True):
                if not connection.in_atomic_block:  # as it is in a test
                    connection.close_if_unusable_or_obsolete()
            try:
                tally = run_due(progress=report, is_over=lambda: self._is_over)
                self._beat(total)
                if time.monotonic() >= mails_at:
                    mails_at = time.monotonic() + HEARTBEAT_SECONDS
                    mail_waiting_replies()
            except Error as error:
                if has_database:
                    logger.warning(
                        "The database is unavailable (%s); trying again.",
                        type(error).__qualname__,
                    )
                has_database = False
            else:
                if not has_database:
                    logger.warning("The database is available again.")
                has_database = True
                if tally:
                    self._print(tally)
            for _ in range(NAPS_BETWEEN_ROUNDS):
                if not self._is_over:
                    time.sleep(NAP_SECONDS)

    def _beat(self, total: Tally) -> None:
        """Log and record what was done since the start, once a minute."""
        if time.monotonic() >= self._beats_at:
            self._beats_at = time.monotonic() + HEARTBEAT_SECONDS
            logger.debug("Watching for what is due: %s so far.", summary(total))
            CommandRun.record(CommandRun.Command.RUN_HANDLERS, summary(total))


def check(options: dict[str, Any]) -> None:
    """Raise ``CommandError`` if the options make no sense together."""
    others = options["event"] or options["failed"]
    if options["watch"] and others:
        raise CommandError("--watch runs what is due: it takes neither --event nor --failed.")
    if options["again"] is None:
        if options["since"] or options["until"] or options["done"] or options["dry_run"]:
            raise CommandError("--since, --until, --done and --dry-run need --again.")
        return
    if options["watch"] or others:
        raise CommandError("--again takes neither --event, --failed nor --watch.")
    if options["since"] is None:
        raise CommandError("--again needs --since: a time, or an age such as 30d.")
    if options["until"] is not None and options["until"] < options["since"]:
        raise CommandError("--until is before --since.")
    if options["again"] not in (names := connected_handlers()):
        known = printable(", ".join(names)) or "none"
        raise CommandError(f"No handler of this name is connected. Connected are: {known}.")


WHY_NOT = {
    "finished": "that it has finished",
    "tests": "tests",
    "duplicates": "duplicates",
    "invalid": "invalid",
    "redacted": "redacted",
    "without_fact": "without a fact for it",
}


def reasons(count: Count) -> Iterator[str]:
    """Yield why events are not given, each with how many."""
    for field, why in WHY_NOT.items():
        if number := getattr(count, field):
            yield f"{number:,} {why}"
