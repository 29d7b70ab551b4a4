"""What happened to a message, in chronological order, from its history and its events."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from operator import attrgetter

from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.badges import Tone, badge, description_of, status_badge
from cellcast_django.admin.display.texts import duration
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.payloads import Endpoint, Reply, StatusReport, read


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
    reported = [*map(_step_of_change, changes), *map(_step_of_duplicate, duplicates)]
    if not reported:
        return []
    if message.submitted_at is not None:
        sentence = _("Accepted by Cellcast (time from the message id)")
        reported.append(Step(message.submitted_at, badge(Tone.QUIET, _("submitted")), sentence))
    ordered = sorted(reported, key=attrgetter("at"))  # stable: changes precede their duplicates
    for previous, step in pairwise(ordered):
        step.wait = f"+{duration(step.at - previous.at)}"
    return ordered


def _step_of_change(change: StatusChange) -> Step:
    return Step(
        at=change.recorded_at,
        badge=status_badge(change.status),
        sentence=description_of(change.status),
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
