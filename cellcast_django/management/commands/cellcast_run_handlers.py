"""Run what is due: from cron, a timer or a task schedule, or continuously with ``--watch``."""

import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from typing import Any, Self

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from cellcast_django.handlers import Tally, run_again, run_due, summary
from cellcast_django.handlers.schedule import due_ids
from cellcast_django.management.terminal import add_event_option, printable, require_events
from cellcast_django.models import CommandRun, WebhookEvent, error_type, fresh_events

logger = logging.getLogger("cellcast_django")

NAP_SECONDS = 0.25  # how long a wait may go on after SIGTERM
NAPS_BETWEEN_ROUNDS = 12
HEARTBEAT_SECONDS = 60


class Rounds:
    """Repeats until SIGTERM; whatever is running then may finish."""

    def __init__(self) -> None:
        self.is_over = False
        self._heartbeat_at = 0.0

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGTERM, self._end)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _end(self, *_signal_and_frame: Any) -> None:
        self.is_over = True

    def __iter__(self) -> Iterator[None]:
        """Yield every few seconds, after closing connections that are too old or broken."""
        while not self.is_over:
            for connection in connections.all(initialized_only=True):
                if not connection.in_atomic_block:  # as it is in a test
                    connection.close_if_unusable_or_obsolete()
            yield
            for _ in range(NAPS_BETWEEN_ROUNDS):
                if self.is_over:
                    return
                time.sleep(NAP_SECONDS)

    def is_time_for_heartbeat(self) -> bool:
        """Whether a minute has passed since this was last true."""
        now = time.monotonic()
        is_time = now >= self._heartbeat_at
        if is_time:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
        return is_time


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

    def handle(self, **options: Any) -> None:
        chosen = options["event"] or options["failed"]
        if options["watch"]:
            if chosen:
                raise CommandError(
                    "--watch runs what is due: it takes neither --event nor --failed."
                )
            self._watch()
            return
        if chosen:
            tally = run_again(
                self._chosen(options["event"], failed=options["failed"]), progress=self._report
            )
        else:
            tally = run_due(progress=self._report)
            CommandRun.record(CommandRun.Command.RUN_HANDLERS, summary(tally))
        self._print_summary(tally)

    def _chosen(self, pks: list[int], *, failed: bool) -> list[int]:
        require_events(pks, fresh_events(), "event")
        if failed:
            pks = pks + list(fresh_events().failed().order_by("pk").values_list("pk", flat=True))
        return list(dict.fromkeys(pks))

    def _report(self, event: WebhookEvent) -> None:
        errors = event.handler_errors() if event.is_unfinished else {}
        for name, error in errors.items():
            # Never the text: it may quote a customer, and cron sends it by mail.
            self.stderr.write(printable(f"event {event.pk}: {name}: {error_type(error)}"))

    def _print_summary(self, tally: Tally) -> None:
        sentence = "{done} done, {pending} to be retried later, {failed} failed."
        self._say(sentence.format(**summary(tally)))

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()  # a supervisor's pipe would keep it for hours

    def _watch(self) -> None:
        total: Tally = Counter()
        has_database = True

        def report(event: WebhookEvent) -> None:
            total[event.state] += 1
            self._report(event)
            self._record_heartbeat(rounds, total)

        with Rounds() as rounds:
            self._say("Watching for what is due. Stop it by Ctrl-C or SIGTERM.")
            for _ in rounds:
                try:
                    pks = takewhile(lambda _: not rounds.is_over, due_ids())
                    tally = run_due(pks, progress=report)
                    self._record_heartbeat(rounds, total)
                except Error as error:
                    if has_database:
                        logger.warning(
                            "The database is unavailable (%s); trying again.",
                            type(error).__qualname__,
                        )
                    has_database = False
                    continue
                if not has_database:
                    logger.warning("The database is available again.")
                has_database = True
                if tally:
                    self._print_summary(tally)

    def _record_heartbeat(self, rounds: Rounds, total: Tally) -> None:
        if rounds.is_time_for_heartbeat():
            logger.debug("Watching for what is due: %s so far.", summary(total))
            CommandRun.record(CommandRun.Command.RUN_HANDLERS, summary(total))
