"""Read invalid events again, after an upgrade that understands more."""

from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cellcast_django import receiving
from cellcast_django.inbox import reprocess
from cellcast_django.models import WebhookEvent, database_alias


class Command(BaseCommand):
    """Processes invalid events again, oldest first."""

    help = (
        "Read the events that could not be understood again: after an upgrade of cellcast-django, "
        "or when a report came before the reply that it speaks of. What is understood now is "
        "stored and announced as if it had just come in; the rest stays as it is, with the present "
        "reason."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--event``."""
        parser.add_argument(
            "--event",
            action="append",
            type=int,
            default=[],
            metavar="ID",
            help="only this event; may be repeated. Without it, all invalid events",
        )

    def handle(self, **options: Any) -> None:
        """Process, and say what became of each."""
        understood = invalid = 0
        for event in self._events(options["event"]):
            results = reprocess(event)
            receiving.announce(results)
            for result in results:
                if result.outcome == WebhookEvent.Outcome.INVALID:
                    invalid += 1
                    self.stderr.write(f"event {result.pk}: {result.error}")
                else:
                    understood += 1
        self.stdout.write(f"{understood} understood, {invalid} still invalid.")

    def _events(self, pks: list[int]) -> Iterator[WebhookEvent]:
        events = WebhookEvent.objects.using(database_alias()).invalid()
        invalid = list(events.order_by("pk").values_list("pk", flat=True))
        if missing := [str(pk) for pk in pks if pk not in set(invalid)]:
            raise CommandError(f"There is no invalid event {', '.join(missing)}.")
        for pk in dict.fromkeys(pks or invalid):
            yield from events.filter(pk=pk)
