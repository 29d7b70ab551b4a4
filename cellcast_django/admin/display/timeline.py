"""What happened to a message, in chronological order, from its history and its events."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from operator import attrgetter

from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.badges import Tone, badge, status_badge
from cellcast_django.admin.display.texts import duration
from cellcast_django.conf import conf
from cellcast_django.handlers.schedule import is_open
from cellcast_django.models import Direction, HandlerResult, Message, StatusChange, WebhookEvent
from cellcast_django.payloads import Endpoint, Reply, StatusReport, read
from cellcast_django.statuses import description_of


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
            _badge(event, result),
            error=result["error"],
            location=result.get("location", ""),
            at=parse_datetime(result["at"]),
            is_missing=bool(result["error"]) and name not in connected,
            event_link=event_link,
        )
        for name, result in event.handler_results.items()
    ]
    if event.is_unfinished:
        waiting = (name for name in connected if name not in event.handler_results)
        rows += [HandlerRow(name, badge(Tone.OPEN, _("has not run yet"))) for name in waiting]
    return sorted(rows, key=lambda row: (not row.error, row.at is not None))


def _badge(event: WebhookEvent, result: HandlerResult) -> SafeString:
    if result.get("skipped"):
        by = result.get("by")
        words = gettext("skipped by %(person)s") % {"person": by} if by else _("skipped")
        return badge(Tone.QUIET, words)
    if not result["error"]:
        return badge(Tone.GOOD, _("done"))
    is_tried_again = is_open(result, max_attempts=conf.handler_max_attempts)
    if event.state == WebhookEvent.State.PENDING and is_tried_again:
        return badge(Tone.OPEN, _("retrying"))
    return badge(Tone.BAD, _("failed"))


@dataclass
class Step:
    """One thing that happened; ``wait`` is the time since the previous step."""

    at: datetime
    badge: SafeString
    sentence: str | Promise = ""
    reason: str = ""
    """Cellcast's own words about a failure."""
    stayed: SafeString | None = None
    """The status that the message kept, if the report came late."""
    event: WebhookEvent | None = None
    wait: str = ""


def steps(
    message: Message, changes: Iterable[StatusChange], events: Iterable[WebhookEvent]
) -> list[Step]:
    """Return the submission, each reported status, and each repeated report.

    The list is empty if nothing has been reported.
    """
    duplicates = (each for each in events if each.outcome == WebhookEvent.Outcome.DUPLICATE)
    is_reply = message.direction == Direction.INBOUND
    reported = [_step_of_change(change, is_reply=is_reply) for change in changes]
    reported += map(_step_of_duplicate, duplicates)
    if not reported:
        return []
    if message.submitted_at is not None:
        sentence = _("Accepted by Cellcast (time from the message id)")
        reported.append(Step(message.submitted_at, badge(Tone.QUIET, _("submitted")), sentence))
    ordered = sorted(reported, key=attrgetter("at"))  # stable: changes precede their duplicates
    for previous, step in pairwise(ordered):
        step.wait = f"+{duration(step.at - previous.at)}"
    return ordered


def _step_of_change(change: StatusChange, *, is_reply: bool) -> Step:
    return Step(
        at=change.recorded_at,
        badge=status_badge(change.status),
        sentence=str(description_of(change.status, is_reply=is_reply)),
        reason=change.reason,
        stayed=None if change.applied else status_badge(change.previous_status),
    )


def _step_of_duplicate(event: WebhookEvent) -> Step:
    sentence = _sentence_of_duplicate(event)
    return Step(event.received_at, badge(Tone.QUIET, _("duplicate")), sentence, event=event)


def _sentence_of_duplicate(event: WebhookEvent) -> str:
    """Name the repeated status; only the body of the event has it, which may be redacted."""
    [payload, *_others] = read(event.body.encode(), event.content_type, Endpoint(event.endpoint))
    if not isinstance(payload, Reply | StatusReport):
        return gettext("Repeated")
    return gettext("Repeated: “%(status)s”") % {"status": payload.status}
