"""Announce what is due: for cron, a timer or a task schedule, or all the time with ``--watch``."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from cellcast_django.announcements import announce_again, announce_due
from cellcast_django.announcements.schedule import events
from cellcast_django.management.terminal import printable
from cellcast_django.management.watching import Watch
from cellcast_django.models import CommandRun, WebhookEvent, error_type

logger = logging.getLogger("cellcast_django")

Tally = Counter[WebhookEvent.State | None]
"""How many events there are in each state after their attempt."""


class Command(BaseCommand):
    """Announces stored events to the handlers that have not finished with them."""

    help = (
        "Announce what is due to the handlers that have not finished with it: what a crash cut "
        "off, and what a handler raised on. Run it every minute, from cron or a timer, or all the "
        "time with --watch; several at once do no harm. A handler that has finished with an event "
        "is not called again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--event``, ``--failed`` and ``--watch``."""
        parser.add_argument(
            "--event",
            action="append",
            type=int,
            default=[],
            metavar="ID",
            help="announce this event now, whether it is due or has failed; may be repeated",
        )
        parser.add_argument(
            "--failed", action="store_true", help="announce all events that were given up"
        )
        parser.add_argument(
            "--watch",
            action="store_true",
            help="look for what is due every few seconds until SIGTERM, which lets the handlers "
            "of the event at hand finish",
        )

    def handle(self, **options: Any) -> None:
        """Announce, and say what became of it."""
        chosen = options["event"] or options["failed"]
        if options["watch"]:
            if chosen:
                raise CommandError("--watch announces what is due: leave out --event and --failed.")
            self._watch()
            return
        if chosen:
            again = announce_again(self._chosen(options["event"], failed=options["failed"]))
            tally = self._announce(again)
        else:
            tally = self._announce(announce_due())
            CommandRun.record(CommandRun.Command.ANNOUNCE, summary(tally))
        self._say(tally)

    def _chosen(self, pks: list[int], *, failed: bool) -> list[int]:
        known = set(events().filter(pk__in=pks).values_list("pk", flat=True))
        if missing := [str(pk) for pk in pks if pk not in known]:
            raise CommandError(f"There is no event {', '.join(missing)}.")
        if failed:
            pks = pks + list(events().failed().values_list("pk", flat=True))
        return list(dict.fromkeys(pks))

    def _announce(self, attempted: Iterator[WebhookEvent]) -> Tally:
        tally: Tally = Counter()
        for event in attempted:
            tally[event.state] += 1
            self._say_what_failed(event)
        return tally

    def _say_what_failed(self, event: WebhookEvent) -> None:
        errors = event.handler_errors() if event.is_unannounced else {}
        for name, error in errors.items():
            # Never the text: it may be what a customer wrote, and cron mails it.
            self.stderr.write(printable(f"event {event.pk}: {name}: {error_type(error)}"))

    def _say(self, tally: Tally) -> None:
        self.stdout.write(
            "{announced} announced, {pending} to be tried again later, {failed} failed.".format(
                **summary(tally)
            )
        )

    def _watch(self) -> None:
        total: Tally = Counter()
        with Watch() as watch:
            for _ in watch.looks():
                try:
                    tally = self._announce(self._due(watch, total))
                    self._note_heartbeat(watch, total)
                except Error as error:
                    watch.lose_database(error)
                    continue
                watch.has_database()
                if tally:
                    self._say(tally)

    def _due(self, watch: Watch, total: Tally) -> Iterator[WebhookEvent]:
        for event in announce_due():
            total[event.state] += 1
            yield event
            self._note_heartbeat(watch, total)
            if watch.is_over:
                return

    def _note_heartbeat(self, watch: Watch, total: Tally) -> None:
        if watch.is_time_for_heartbeat():
            logger.debug("Watching for what is due: %s so far.", summary(total))
            CommandRun.record(CommandRun.Command.ANNOUNCE, summary(total))


def summary(tally: Tally) -> dict[str, int]:
    """Return the numbers as they are kept and shown."""
    return {state.value: tally[state] for state in WebhookEvent.State}
