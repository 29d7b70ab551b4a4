"""Run what is due: from cron, a timer or a task schedule, or continuously with ``--watch``."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from cellcast_django.handlers import run_again, run_due
from cellcast_django.handlers.schedule import events
from cellcast_django.management.arguments import add_event_option, require_events
from cellcast_django.management.terminal import printable
from cellcast_django.management.watching import Watch
from cellcast_django.models import CommandRun, WebhookEvent, error_type

logger = logging.getLogger("cellcast_django")

Tally = Counter[WebhookEvent.State | None]  # the number of events in each state after their attempt


class Command(BaseCommand):
    help = (
        "Call the handlers of the events that are due: those interrupted by a crash, and those "
        "whose handler raised. Handlers that have already finished with an event are not called "
        "again. Run it every minute from cron or a timer, or continuously with --watch. Running "
        "several at once is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_event_option(parser, "run this event's handlers now, due or failed; may be repeated")
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
            again = run_again(self._chosen(options["event"], failed=options["failed"]))
            tally = self._run(again)
        else:
            tally = self._run(run_due())
            CommandRun.record(CommandRun.Command.RUN_HANDLERS, summary(tally))
        self._print_summary(tally)

    def _chosen(self, pks: list[int], *, failed: bool) -> list[int]:
        require_events(pks, events().filter(pk__in=pks), "event")
        if failed:
            pks = pks + list(events().failed().values_list("pk", flat=True))
        return list(dict.fromkeys(pks))

    def _run(self, attempted: Iterator[WebhookEvent]) -> Tally:
        tally: Tally = Counter()
        for event in attempted:
            tally[event.state] += 1
            self._print_errors(event)
        return tally

    def _print_errors(self, event: WebhookEvent) -> None:
        errors = event.handler_errors() if event.is_unfinished else {}
        for name, error in errors.items():
            # Never the text: it may quote a customer, and cron sends it by mail.
            self.stderr.write(printable(f"event {event.pk}: {name}: {error_type(error)}"))

    def _print_summary(self, tally: Tally) -> None:
        sentence = "{done} done, {pending} to be retried later, {failed} failed."
        self.stdout.write(sentence.format(**summary(tally)))

    def _watch(self) -> None:
        total: Tally = Counter()
        with Watch() as watch:
            for _ in watch.rounds():
                try:
                    tally = self._run(self._due(watch, total))
                    self._record_heartbeat(watch, total)
                except Error as error:
                    watch.note_database_lost(error)
                    continue
                watch.note_database_back()
                if tally:
                    self._print_summary(tally)

    def _due(self, watch: Watch, total: Tally) -> Iterator[WebhookEvent]:
        for event in run_due():
            total[event.state] += 1
            yield event
            self._record_heartbeat(watch, total)
            if watch.is_over:
                return

    def _record_heartbeat(self, watch: Watch, total: Tally) -> None:
        if watch.is_time_for_heartbeat():
            logger.debug("Watching for what is due: %s so far.", summary(total))
            CommandRun.record(CommandRun.Command.RUN_HANDLERS, summary(total))


def summary(tally: Tally) -> dict[str, int]:
    """Return the counts by the name of each state."""
    return {state.value: tally[state] for state in WebhookEvent.State}
