"""How a state looks: its badge, and a sentence about it."""

from datetime import datetime
from enum import Enum

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.admin.display.texts import day, exact_time
from cellcast_django.conf import conf
from cellcast_django.models import HandlerCall, WebhookEvent
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
    known = Status(status)
    # Nearly every reply is "received", and is not waiting for anything.
    tones = {Status.DELIVERED: Tone.GOOD, Status.RECEIVED: Tone.QUIET}
    tone = tones.get(known, Tone.BAD if known.final else Tone.OPEN)
    return badge(tone, known.label, status)


EVENT_STATES: dict[str, tuple[Tone, Promise]] = {
    WebhookEvent.State.DONE.value: (Tone.GOOD, _("done")),
    WebhookEvent.State.PENDING.value: (Tone.OPEN, _("pending")),
    WebhookEvent.State.FAILED.value: (Tone.BAD, _("failed")),
    WebhookEvent.Outcome.DUPLICATE.value: (Tone.QUIET, _("duplicate")),
    WebhookEvent.Outcome.DEFERRED.value: (Tone.OPEN, _("deferred")),
    WebhookEvent.Outcome.INVALID.value: (Tone.BAD, _("invalid")),
    "dismissed": (Tone.QUIET, _("dismissed")),
}
"""Where an event is: how far its calls are, or why it has none."""

CALL_TONES = {
    HandlerCall.State.DONE: Tone.GOOD,
    HandlerCall.State.FAILED: Tone.BAD,
    HandlerCall.State.GAVE_UP: Tone.BAD,
    HandlerCall.State.SKIPPED: Tone.QUIET,
}


def standing_of(row: WebhookEvent | HandlerCall) -> tuple[Tone, str | Promise]:
    """Return the tone and the word of how an event or a call stands."""
    if isinstance(row, HandlerCall):
        state = HandlerCall.State(row.state)
        return CALL_TONES.get(state, Tone.OPEN), state.label
    if not row.is_stored:
        return EVENT_STATES["dismissed" if row.dismissed_at else row.outcome]
    if row.state != WebhookEvent.State.PENDING:
        return EVENT_STATES[row.state or ""]
    is_retried = any(call.is_unfinished and call.failing_since for call in row.calls.all())
    return Tone.OPEN, _("retrying") if is_retried else _("waiting")


def state_badge(event: WebhookEvent, waits_for: int | None = None) -> SafeString:
    """Return the badge of how an event stands, and of which earlier one it waits for, if any."""
    return badge(*standing_of(event)) if waits_for is None else waiting_badge(waits_for)


def waiting_badge(waits_for: int) -> SafeString:
    """Return the badge of what waits for an earlier event of its contact."""
    return badge(Tone.OPEN, gettext("waiting for event %(key)d") % {"key": waits_for})


def call_badge(call: HandlerCall, waits_for: int | None = None) -> SafeString:
    """Return the badge of a call's state, and of which earlier event it waits for, if any."""
    if waits_for is not None:
        return waiting_badge(waits_for)
    tone, word = standing_of(call)
    if call.skipped_by:
        word = gettext("skipped by %(person)s") % {"person": call.skipped_by}
    return badge(tone, word)


def sentence_of(event: WebhookEvent, waits_for: int | None = None) -> str:
    """Return a sentence about the state of an event and its reason."""
    if event.outcome == WebhookEvent.Outcome.INVALID:
        return event.error
    if event.outcome == WebhookEvent.Outcome.DEFERRED:
        words = gettext("To be read again: %(time)s. It could not be stored: %(error)s")
        next_read_at = event.next_read_at or timezone.now()  # never null in this state
        return words % {"time": exact_time(next_read_at), "error": event.error}
    if event.outcome == WebhookEvent.Outcome.DUPLICATE:
        return gettext("Already reported, so no handlers ran.")
    calls = event.calls.all()
    if waits_for is not None:
        return gettext("Waiting for event %(key)d of the same contact") % {"key": waits_for}
    if unfinished := [call for call in calls if call.is_unfinished]:
        due_at = min(call.next_attempt_at or timezone.now() for call in unfinished)  # as above
        return gettext("%(attempts)d of %(max)d attempts made. The next is due: %(time)s") % {
            "attempts": max(call.attempts for call in unfinished),
            "max": conf.handler_max_attempts,
            "time": exact_time(due_at),
        }
    if event.state == WebhookEvent.State.FAILED:
        return gettext("No more retries: it needs your attention.")
    if not calls:
        return gettext("No handler was connected.")
    if any(call.state == HandlerCall.State.SKIPPED for call in calls):
        return gettext("All handlers have finished, or were skipped.")
    return gettext("All handlers have finished.")


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
