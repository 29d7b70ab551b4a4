"""Sentences about events: their state, what an action will do, and what it has done."""

from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy, ngettext_lazy

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
    return gettext("All handlers have finished.")


def _sentence_of_pending(event: WebhookEvent) -> str:
    now = timezone.now()
    due_at = event.next_run_at or now
    values = {
        "pause": duration(abs(due_at - now)),
        "attempts": event.attempts,
        "max": conf.handler_max_attempts,
    }
    if due_at <= now:
        return gettext("Overdue by %(pause)s · %(attempts)d of %(max)d attempts made") % values
    return gettext("Next retry in %(pause)s · %(attempts)d of %(max)d attempts made") % values


AFFECTS = ngettext_lazy("This affects %(count)d event.", "This affects %(count)d events.", "count")
WILL_READ = ngettext_lazy(
    "%(count)d unreadable event will be read again.",
    "%(count)d unreadable events will be read again.",
    "count",
)
NO_HANDLER_LEFT = ngettext_lazy(
    "%(count)d event has no handler left to run.",
    "%(count)d events have no handler left to run.",
    "count",
)
TIME_IS_UP = ngettext_lazy(
    "Stopped after %(seconds)d seconds with %(count)d event left. Run it again to continue.",
    "Stopped after %(seconds)d seconds with %(count)d events left. Run it again to continue.",
    "count",
)
NO_HANDLER = ngettext_lazy(
    "%(count)d event has no handlers to run.",
    "%(count)d events have no handlers to run.",
    "count",
)
DONE = ngettext_lazy(
    "%(count)d event done: all its handlers have finished.",
    "%(count)d events done: all their handlers have finished.",
    "count",
)
RETRYING = ngettext_lazy(
    "%(count)d event is not done yet. Next retry in %(pause)s.",
    "%(count)d events are not done yet. Next retry in %(pause)s.",
    "count",
)
QUEUED = ngettext_lazy(
    "%(count)d event is queued: its handlers run shortly.",
    "%(count)d events are queued: their handlers run shortly.",
    "count",
)
FAILED = ngettext_lazy(
    "%(count)d event has used up its retries and needs your attention.",
    "%(count)d events have used up their retries and need your attention.",
    "count",
)
FAILED_AGAIN = ngettext_lazy(
    "%(count)d of %(all)d handler failed: %(errors)s",
    "%(count)d of %(all)d handlers failed: %(errors)s",
    "all",
)
NOTHING_LEFT = ngettext_lazy(
    "%(count)d event had nothing left to run.",
    "%(count)d events had nothing left to run.",
    "count",
)
HAS_BEEN_READ = ngettext_lazy(
    "%(count)d event has been read.", "%(count)d events have been read.", "count"
)
STILL_INVALID = ngettext_lazy(
    "%(count)d event is still unreadable: %(reason)s",
    "%(count)d events are still unreadable. The first: %(reason)s",
    "count",
)
NOT_INVALID = ngettext_lazy(
    "%(count)d event was readable: there is nothing to read again.",
    "%(count)d events were readable: there is nothing to read again.",
    "count",
)
TOO_MANY = ngettext_lazy(
    "Nothing was changed: you can select at most %(limit)s event.",
    "Nothing was changed: you can select at most %(limit)s events.",
    "count",
)
FOR_MORE = gettext_lazy("For more, run “manage.py %(command)s”.")
