"""Read invalid events again, after an upgrade that understands more."""

from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from cellcast_django import receiving
from cellcast_django.management.terminal import add_event_option, require_events, says_if_refused
from cellcast_django.models import WebhookEvent


class Command(BaseCommand):
    help = (
        "Read invalid events again, dismissed ones too, after an upgrade of cellcast-django. Those "
        "understood now are stored, and handlers run; the others get the current reason."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_event_option(parser, "only these events (default: all invalid ones)")

    execute = says_if_refused(BaseCommand.execute)

    def handle(self, **options: Any) -> None:
        understood = invalid = 0
        for event in self._events(options["event"]):
            for result in receiving.read_again(event):
                if result.outcome == WebhookEvent.Outcome.INVALID:
                    invalid += 1
                    self.stderr.write(f"event {result.pk}: {result.error}")
                else:
                    understood += 1
        self.stdout.write(f"{understood} understood, {invalid} still invalid.")

    def _events(self, pks: list[int]) -> Iterator[WebhookEvent]:
        events = WebhookEvent.objects.fresh().filter(outcome=WebhookEvent.Outcome.INVALID)
        require_events(pks, events, "invalid event")
        chosen = pks or list(events.order_by("pk").values_list("pk", flat=True))
        for pk in dict.fromkeys(chosen):
            yield from events.filter(pk=pk)  # none, if it has been read meanwhile
