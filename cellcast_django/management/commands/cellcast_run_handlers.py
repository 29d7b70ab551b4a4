"""Make the calls that are due, once or with ``--watch``."""

import logging
import signal
import time
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, connections

from cellcast_django.handlers import Tally, run_again, run_due, summary
from cellcast_django.management import terminal
from cellcast_django.management.terminal import plural, printable
from cellcast_django.models import CommandRun, HandlerCall, WebhookEvent
from cellcast_django.receiving import read_due
from cellcast_django.reply_mail import mail_waiting_replies

logger = logging.getLogger("cellcast_django")

NAP_SECONDS = 0.25  # how long a wait may go on after SIGTERM
NAPS_BETWEEN_ROUNDS = 12


class Command(BaseCommand):
    help = (
        "Read what is deferred, then make the calls of handlers that are due. A run begins nothing "
        "after a minute. Run it every minute from cron or a timer, or continuously with --watch. "
        "Running several at once is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        ways = parser.add_mutually_exclusive_group()
        terminal.add_event_option(
            ways, "make these events' unfinished and failed calls now, in order or not"
        )
        ways.add_argument("--failed", action="store_true", help="make all failed calls again")
        ways.add_argument(
            "--watch",
            action="store_true",
            help="look every few seconds until SIGTERM, which lets the running handler finish",
        )

    execute = terminal.says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        self._tally: Tally = Counter()
        self._is_over = False
        if options["watch"]:
            self._watch()
            return
        if options["failed"]:
            run_again(HandlerCall.objects.fresh().failed(), progress=self._report)
        elif options["event"]:
            self._run_events(options["event"])
        else:
            self._run_due()
        self._print()

    def _run_events(self, events: list[int]) -> None:
        terminal.require_events(events, WebhookEvent.objects.fresh(), "event")
        read = read_due(events)
        left = WebhookEvent.objects.fresh().deferred().filter(pk__in=events).count()
        if read or left:
            self.stdout.write(f"{plural(read, 'deferred event')} read, {left:,} still deferred.")
        calls = HandlerCall.objects.fresh().filter(event__in=events)
        run_again(calls.exclude(state__in=HandlerCall.ENDED_WELL), progress=self._report)

    def _run_due(self) -> None:
        read_due()
        tally = run_due(progress=self._report, is_over=lambda: self._is_over)
        CommandRun.record(CommandRun.Command.RUN_HANDLERS, summary(tally))
        mail_waiting_replies()

    def _watch(self) -> None:
        """Run what is due every few seconds, until SIGTERM; what is running then may finish."""

        def end(*_signal_and_frame: Any) -> None:
            self._is_over = True

        previous = signal.signal(signal.SIGTERM, end)
        self.stdout.write("Watching for what is due. Stop it by Ctrl-C or SIGTERM.")
        self.stdout.flush()
        try:
            while not self._is_over:
                for connection in connections.all(initialized_only=True):
                    if not connection.in_atomic_block:  # as it is in a test
                        connection.close_if_unusable_or_obsolete()
                try:
                    self._run_due()
                except Error as error:
                    name = type(error).__qualname__
                    logger.warning("The database is unavailable (%s); trying again.", name)
                if self._tally:
                    self._print()
                    self._tally.clear()
                for _ in range(NAPS_BETWEEN_ROUNDS):
                    if not self._is_over:
                        time.sleep(NAP_SECONDS)
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _report(self, call: HandlerCall) -> None:
        self._tally[HandlerCall.State(call.state)] += 1
        if call.error:
            # Never the text: it may quote a customer, and cron sends it by mail.
            error = call.error.partition(":")[0]
            self.stderr.write(printable(f"event {call.event_id}: {call.handler}: {error}"))

    def _print(self) -> None:
        sentence = "{done} done, {retrying} to be retried later, {failed} failed."
        self.stdout.write(sentence.format(**summary(self._tally)))
        self.stdout.flush()  # a supervisor's pipe would keep it for hours
