"""The handlers of an event and their outcomes: failed ones first, with the error as raised."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.models import WebhookEvent


@dataclass
class HandlerRow:
    """One handler of one event."""

    name: str
    badge: SafeString
    error: str = ""
    location: str = ""
    """Where in the code the error was raised."""
    at: datetime | None = None
    """When it last ran; ``None`` if it never did."""
    is_missing: bool = False
    """Whether it failed and is not connected in this process."""
    event_link: str = ""
    skip_url: str = ""


def handler_rows(
    event: WebhookEvent, connected: Collection[str], event_link: str = ""
) -> list[HandlerRow]:
    """Return the handlers of an event: first the failed, then the waiting, then the done."""
    rows = [
        HandlerRow(
            name,
            _badge(event, name, outcome),
            error=outcome["error"],
            location=outcome.get("location", ""),
            at=parse_datetime(outcome["at"]),
            is_missing=bool(outcome["error"]) and name not in connected,
            event_link=event_link,
        )
        for name, outcome in event.handler_results.items()
    ]
    if event.is_unfinished:
        waiting = (name for name in connected if name not in event.handler_results)
        rows += [HandlerRow(name, badge(Tone.OPEN, _("has not run yet"))) for name in waiting]
    return sorted(rows, key=lambda row: (not row.error, row.at is not None))


def _badge(event: WebhookEvent, name: str, outcome: dict[str, Any]) -> SafeString:
    if outcome.get("skipped"):
        return badge(Tone.QUIET, _("skipped"))
    if not outcome["error"]:
        return badge(Tone.GOOD, _("done"))
    if event.state == WebhookEvent.State.PENDING and not event.has_given_up(name):
        return badge(Tone.OPEN, _("retrying"))
    return badge(Tone.BAD, _("failed"))
