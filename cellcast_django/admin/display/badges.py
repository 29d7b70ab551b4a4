"""How a state looks: its badge, a sentence about it, and the handlers of an event."""

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import Enum

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import day, duration
from cellcast_django.conf import conf
from cellcast_django.handlers.schedule import is_open
from cellcast_django.models import HandlerResult, OptOut, WebhookEvent, time_of
from cellcast_django.statuses import Status


class Tone(Enum):
    """Whether a state is good news; the value is the sign in front of the word."""

    GOOD = "✓"
    BAD = "✕"
    OPEN = "…"
    WARNING = "⚠"
    UNKNOWN = "?"
    QUIET = "•"


def badge(tone: Tone, word: str | Promise, title: str = "") -> SafeString:
    """Return the badge as HTML. Screen readers read the word, and the title if there is one."""
    return format_html(
        '<span class="cellcast-badge cellcast-badge-{}"{}>'
        '<span aria-hidden="true">{}</span> <bdi>{}</bdi></span>',
        tone.name.lower(),
        format_html(' title="{}"', title) if title else "",
        tone.value,
        word,
    )


def status_badge(status: str) -> SafeString:
    """Return the badge of a message's status, with Cellcast's own word for it as the title."""
    if not status:
        return badge(Tone.QUIET, _("no status yet"))
    if status not in Status.values:
        return badge(Tone.UNKNOWN, status)
    return badge(_tone(Status(status)), Status(status).label, status)


def _tone(status: Status) -> Tone:
    if status == Status.DELIVERED:
        return Tone.GOOD
    if status == Status.RECEIVED:  # nearly every reply has it, and is not waiting for anything
        return Tone.QUIET
    return Tone.BAD if status.final else Tone.OPEN


EVENT_STATES: dict[str, tuple[Tone, Promise]] = {
    WebhookEvent.State.DONE.value: (Tone.GOOD, _("done")),
    "waiting": (Tone.OPEN, _("waiting")),
    "retrying": (Tone.OPEN, _("retrying")),
    WebhookEvent.State.FAILED.value: (Tone.BAD, _("failed")),
    WebhookEvent.Outcome.DUPLICATE.value: (Tone.QUIET, _("duplicate")),
    WebhookEvent.Outcome.INVALID.value: (Tone.BAD, _("invalid")),
    "dismissed": (Tone.QUIET, _("dismissed")),
}
"""Where an event is: how far its handlers are, or why no handler runs."""


def outcome_badge(event: WebhookEvent) -> SafeString:
    """Return the badge of an event's outcome in the inbox."""
    if event.is_stored:
        return badge(Tone.GOOD, _("stored"))
    return badge(*EVENT_STATES["dismissed" if event.dismissed_at else event.outcome])


def state_badge(event: WebhookEvent) -> SafeString | None:
    """Return the badge of the handlers' progress; ``None`` for a duplicate or invalid event."""
    state = event.state
    if state is None:
        return None
    if state != WebhookEvent.State.PENDING:
        return badge(*EVENT_STATES[state])
    if event.waiting_for is not None:
        waits = gettext("waiting for event %(key)d") % {"key": event.waiting_for}
        return badge(Tone.OPEN, waits)
    return badge(*EVENT_STATES["waiting" if event.is_waiting else "retrying"])


def sentence_of(event: WebhookEvent) -> str:
    """Return a sentence about the state of an event and its reason."""
    if event.outcome == WebhookEvent.Outcome.INVALID:
        return event.error
    if event.outcome == WebhookEvent.Outcome.DUPLICATE:
        return gettext("Already reported, so no handlers ran.")
    if event.state == WebhookEvent.State.PENDING:
        return _sentence_of_pending(event)
    if event.state == WebhookEvent.State.FAILED:
        return event.error or gettext("No more retries: it needs your attention.")
    if not event.handler_results:
        return gettext("No handler was connected.")
    if any(result.get("skipped") for result in event.handler_results.values()):
        return gettext("All handlers have finished, or were skipped.")
    return gettext("All handlers have finished.")


def _sentence_of_pending(event: WebhookEvent) -> str:
    if event.waiting_for is not None:
        return gettext("Waiting for event %(key)d of the same contact") % {"key": event.waiting_for}
    now = timezone.now()
    due_at = event.next_run_at or now
    counts = [each.get("attempts", 0) for each in event.handler_results.values() if each["error"]]
    values = {
        "pause": duration(abs(due_at - now)),
        "attempts": max(counts, default=event.attempts),
        "max": conf.handler_max_attempts,
    }
    if due_at <= now:
        return gettext("Overdue by %(pause)s · %(attempts)d of %(max)d attempts made") % values
    return gettext("Next retry in %(pause)s · %(attempts)d of %(max)d attempts made") % values


def opt_out_state_badge(opt_out: OptOut) -> SafeString:
    """Return the badge of an opt-out that is active or has ended."""
    return badge(Tone.BAD, _("opted out")) if opt_out.is_active else badge(Tone.QUIET, _("ended"))


def test_badge(is_test: bool) -> SafeString:
    """Return the badge of what only our own Test Send reported; empty for anything else."""
    return badge(Tone.QUIET, _("test")) if is_test else SafeString("")


def handled_badge(handled_at: datetime | None) -> SafeString:
    """Return the badge of a reply: whether it has been dealt with."""
    return badge(Tone.QUIET, _("done")) if handled_at else badge(Tone.OPEN, _("new"))


def opt_out_badge(since: datetime | None, *, is_brief: bool = False) -> SafeString:
    """Return the badge of a contact who must not be texted; empty for anybody else."""
    if since is None:
        return SafeString("")
    words = gettext("opted out since %(day)s") % {"day": day(since)}
    return badge(Tone.BAD, gettext("opted out"), words) if is_brief else badge(Tone.BAD, words)


def although_opted_out_badge(since: datetime | None) -> SafeString:
    """Return the badge of a message to somebody who had opted out by then; empty for any other."""
    if since is None:
        return SafeString("")
    words = gettext("opted out since %(day)s") % {"day": day(since)}
    shown = badge(Tone.BAD, gettext("sent although opted out"), words)
    return format_html("<span data-although-opted-out>{}</span>", shown)


@shown
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
    event: WebhookEvent,
    connected: Collection[str],
    event_link: str = "",
    skip_urls: Mapping[str, str] = {},
) -> list[HandlerRow]:
    """Return the handlers of an event: first the failed, then the waiting, then the done."""
    rows = [
        HandlerRow(
            name,
            _handler_badge(event, result),
            error=result["error"],
            location=result.get("location", ""),
            at=time_of(result["at"]),
            is_missing=bool(result["error"]) and name not in connected,
            event_link=event_link,
            skip_url=skip_urls.get(name, ""),
        )
        for name, result in event.handler_results.items()
    ]
    if event.is_unfinished:
        rows += [
            HandlerRow(
                name, badge(Tone.OPEN, _("has not run yet")), skip_url=skip_urls.get(name, "")
            )
            for name in connected
            if name not in event.handler_results
        ]
    return sorted(rows, key=lambda row: (not row.error, row.at is not None))


def _handler_badge(event: WebhookEvent, result: HandlerResult) -> SafeString:
    if result.get("skipped"):
        by = result.get("by")
        words = gettext("skipped by %(person)s") % {"person": by} if by else _("skipped")
        return badge(Tone.QUIET, words)
    if not result["error"]:
        return badge(Tone.GOOD, _("done"))
    is_tried_again = is_open(result)
    if event.state == WebhookEvent.State.PENDING and is_tried_again:
        return badge(Tone.OPEN, _("retrying"))
    return badge(Tone.BAD, _("failed"))
