"""A sentence about an event: how far it is, and why."""

from django.utils import timezone
from django.utils.translation import gettext

from cellcast_django.admin.display.texts import duration
from cellcast_django.conf import conf
from cellcast_django.models import WebhookEvent


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
        return gettext("Waiting for event %(number)d of the same contact") % {
            "number": event.waiting_for
        }
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
