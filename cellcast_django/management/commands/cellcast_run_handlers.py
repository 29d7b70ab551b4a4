"""Make the calls that are due: from cron, a timer or a task schedule, or with ``--watch``.

With ``--again``, past events are given to one handler.
"""

import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from cellcast_django.connected import connected_handlers
from cellcast_django.handlers import Progress, Tally, run_again, run_due, summary
from cellcast_django.handlers.past import give, past_events
from cellcast_django.management.terminal import (
    ProgressLine,
    add_event_option,
    parse_moment,
    plural,
    printable,
    require_events,
    says_if_refused,
)
from cellcast_django.models import CommandRun, HandlerCall, HandlerCallQuerySet, WebhookEvent
from cellcast_django.receiving import read_deferred
from cellcast_django.reply_mail import mail_waiting_replies

logger = logging.getLogger("cellcast_django")

NAP_SECONDS = 0.25  # how long a wait may go on after SIGTERM
NAPS_BETWEEN_ROUNDS = 12
HEARTBEAT_SECONDS = 60


class Command(BaseCommand):
    help = (
        "Make the calls of handlers that are due: those interrupted by a crash, and those whose "
        "handler raised. What a handler has finished is not called again. A run begins nothing "
        "after a minute. Run it every minute from cron or a timer, or continuously with --watch. "
        "Running several at once is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_event_option(
            parser,
            "make this event's unfinished and failed calls now, also if they wait for an earlier "
            "event of the same contact (@in_order); may be repeated",
        )
        parser.add_argument("--failed", action="store_true", help="make all failed calls again")
        parser.add_argument(
            "--watch",
            action="store_true",
            help="keep running and check every few seconds; on SIGTERM, the handler that is being "
            "called finishes first",
        )
        parser.add_argument(
            "--again",
            metavar="NAME",
            help="give past events to this handler alone: those that it has not finished, in the "
            "order in which they were stored. Interrupt it at any time, and start it again to "
            "continue",
        )
        parser.add_argument(
            "--since",
            type=parse_moment,
            metavar="T",
            help="with --again: events received from then on; a time such as 2026-11-10T09:00 in "
            "the current time zone, or an age such as 30d",
        )
        parser.add_argument(
            "--done",
            action="store_true",
            help="with --again: also events that the handler has finished; given again, it begins "
            "anew",
        )

    execute = says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        events, failed = options["event"], options["failed"]
        check(options)
        if options["again"] is not None:
            self._give_past_events(**options)
        elif options["watch"]:
            self._watch_until_sigterm()
        elif events or failed:
            tally: Tally = Counter()
            chosen = self._chosen(events, failed=failed)
            read_deferred(events)
            run_again(chosen, progress=self._counting(tally))
            self._print(tally)
        else:
            read_deferred()
            tally = run_due(progress=self._report)
            CommandRun.record(CommandRun.Command.RUN_HANDLERS, summary(tally))
            mail_waiting_replies()
            self._print(tally)

    def _chosen(self, events: list[int], *, failed: bool) -> HandlerCallQuerySet:
        """Return the calls of these events that have not ended well, and all that have failed."""
        require_events(events, WebhookEvent.objects.fresh(), "event")
        calls = HandlerCall.objects.fresh()
        chosen = calls.filter(event__in=events).exclude(state__in=HandlerCall.ENDED_WELL)
        return chosen | calls.failed() if failed else chosen

    def _give_past_events(
        self, *, again: str, since: datetime, done: bool, verbosity: int, **_others: Any
    ) -> None:
        """Give events to one handler, and say before how many, and how many not."""
        given = past_events(again, since, done=done)
        others = WebhookEvent.objects.fresh().filter(received_at__gte=since).count() - len(given)
        self.stdout.write(
            f"For {printable(again)}: {plural(len(given), 'event')}. Not for it: {others:,}."
        )
        with ProgressLine(self.stdout, verbosity) as line:

            def events() -> Iterator[int]:
                for number, pk in enumerate(given, start=1):
                    yield pk
                    line.show(f"{number:,} of {len(given):,} events")

            self._print(give(events(), again, done=done, progress=self._report))

    def _report(self, call: HandlerCall) -> None:
        if call.error:
            # Never the text: it may quote a customer, and cron sends it by mail.
            error = call.error.partition(":")[0]
            self.stderr.write(printable(f"event {call.event_id}: {call.handler}: {error}"))

    def _counting(self, tally: Tally) -> Progress:
        def report(call: HandlerCall) -> None:
            tally[HandlerCall.State(call.state)] += 1
            self._report(call)

        return report

    def _print(self, tally: Tally) -> None:
        sentence = "{done} done, {retrying} to be retried later, {failed} failed."
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

        count = self._counting(total)

        def report(call: HandlerCall) -> None:
            count(call)
            self._beat(total)

        self.stdout.write("Watching for what is due. Stop it by Ctrl-C or SIGTERM.")
        self.stdout.flush()
        while not self._is_over:
            for connection in connections.all(initialized_only=True):
                if not connection.in_atomic_block:  # as it is in a test
                    connection.close_if_unusable_or_obsolete()
            try:
                read_deferred()
                tally = run_due(progress=report, is_over=lambda: self._is_over)
                self._beat(total)
                if time.monotonic() >= mails_at:
                    mails_at = time.monotonic() + HEARTBEAT_SECONDS
                    mail_waiting_replies()
            except Error as error:
                if has_database:
                    logger.warning(
                        "The database is unavailable (%s); trying again.", type(error).__qualname__
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
        if options["since"] or options["done"]:
            raise CommandError("--since and --done need --again.")
        return
    if options["watch"] or others:
        raise CommandError("--again takes neither --event, --failed nor --watch.")
    if options["since"] is None:
        raise CommandError("--again needs --since: a time, or an age such as 30d.")
    if options["again"] not in (names := connected_handlers()):
        known = printable(", ".join(names)) or "none"
        raise CommandError(f"No handler of this name is connected. Connected are: {known}.")
