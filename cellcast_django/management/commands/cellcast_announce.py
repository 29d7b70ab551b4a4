"""Announce what is due: for cron, a timer or a task schedule."""

from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cellcast_django.announcements import announce_again, announce_due
from cellcast_django.models import WebhookEvent


class Command(BaseCommand):
    """Announces stored events to the handlers that have not finished with them."""

    help = (
        "Announce what is due to the handlers that have not finished with it: what a crash cut "
        "off, and what a handler raised on. Run it every minute, from cron or a timer; several at "
        "once do no harm. A handler that has finished with an event is not called again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--event`` and ``--failed``."""
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

    def handle(self, **options: Any) -> None:
        """Announce, and say what became of it."""
        announced = waiting = failed = 0
        for event in self._events(options["event"], failed=options["failed"]):
            announced += event.announced_at is not None
            waiting += event.announce_due_at is not None
            failed += event.is_unannounced and event.announce_due_at is None
            errors = event.handler_errors() if event.is_unannounced else {}
            for name, error in errors.items():
                self.stderr.write(f"event {event.pk}: {name}: {error}")
        self.stdout.write(
            f"{announced} announced, {waiting} to be tried again later, {failed} failed."
        )

    def _events(self, pks: list[int], *, failed: bool) -> Iterator[WebhookEvent]:
        if not pks and not failed:
            return announce_due()
        known = set(WebhookEvent.objects.filter(pk__in=pks).values_list("pk", flat=True))
        if missing := [str(pk) for pk in pks if pk not in known]:
            raise CommandError(f"There is no event {', '.join(missing)}.")
        if failed:
            pks = pks + list(WebhookEvent.objects.failed().values_list("pk", flat=True))
        return announce_again(dict.fromkeys(pks))
