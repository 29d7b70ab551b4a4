"""The overview's webhook health: a light per URL, failing handlers, credentials in use."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.badges import EVENT_STATES, Tone, badge
from cellcast_django.admin.display.texts import ago, beginning, duration, figure, today
from cellcast_django.admin.lists.event_filters import newest_unfinished
from cellcast_django.admin.lists.filters import midnight
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.replay.actions import ReplayAdmin
from cellcast_django.conf import conf
from cellcast_django.health import (
    MAX_UNFINISHED,
    PERIOD,
    Receiving,
    count_unfinished,
    measure_receiving,
)
from cellcast_django.models import MAX_USERNAME_LENGTH, WebhookEvent, errors_of

MAX_OVERDUE = timedelta(minutes=15)
"""If an attempt is overdue by more, ``cellcast_run_handlers`` is not running."""

MAX_ERROR_LENGTH = 160  # characters of a handler's last error

MAX_EVENTS_WITH_ERRORS = 200
"""How many failed and how many pending events are scanned for their errors."""


def restricted_event_details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return what needs attention among the events that this person may see, and nothing else."""
    events: Any = model_admin.rows_of(request, WebhookEvent)
    counts = (events.invalid().count(), events.failed().count(), events.pending().count())
    list_url = model_admin.url_of(WebhookEvent, "changelist")
    return {"needs_attention": list(needs_attention(counts, list_url))}


def event_details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return the lights, what needs attention, and which credentials are in use."""
    health = measure_receiving(midnight(today()))
    list_url = model_admin.url_of(WebhookEvent, "changelist")
    counts = (health.invalid, health.failed, health.pending)
    unfinished = count_unfinished() if health.pending or health.failed else {}
    is_partly_counted = max(health.pending, health.failed) > MAX_UNFINISHED
    return {
        "lights": list(lights(health)),
        "is_new": not health.last_webhook_at_any_url,
        "needs_attention": list(needs_attention(counts, list_url)),
        "overdue": duration(health.overdue) if health.overdue > MAX_OVERDUE else None,
        "handlers_ran": ago(health.handlers_ran_at) if health.handlers_ran_at else None,
        "failing_handlers": [
            each | {"retry_url": retry_url(model_admin, request, each["name"])}
            for each in failing_handlers(unfinished, list_url)
        ],
        "max_counted": figure(MAX_UNFINISHED) if is_partly_counted else None,
        "credentials": list(credentials(health)),
    }


def lights(health: Receiving) -> Iterator[dict[str, Any]]:
    """Yield for each webhook URL whether webhooks arrived in the last day."""
    for endpoint, at in health.last_webhook_at.items():
        if at is None:
            light = badge(Tone.QUIET, _("nothing yet"))
        elif health.age(at) > PERIOD:
            light = badge(Tone.WARNING, _("nothing for 24 h"))
        else:
            light = badge(Tone.GOOD, _("receiving"))
        yield {
            "name": endpoint.label,
            "light": light,
            "ago": ago(at) if at else None,
            "today": health.received[endpoint],
            "formatted_today": figure(health.received[endpoint]),
            "more_today": endpoint in health.received_more,
        }


def needs_attention(counts: tuple[int, int, int], list_url: str) -> Iterator[dict[str, Any]]:
    """Yield how many events are unreadable, failed and retrying, each with the link to them."""
    for state, count in zip(("invalid", "failed", "pending"), counts, strict=True):
        tone, word = EVENT_STATES[state]
        yield {
            "count": figure(count),
            "badge": badge(tone if count else Tone.QUIET, word),
            "url": f"{list_url}?outcome={state}",
        }


def failing_handlers(
    unfinished: dict[str, Counter[str]], list_url: str
) -> Iterator[dict[str, Any]]:
    """Yield each handler's unfinished events and last error; events of no handler come last."""
    errors = newest_errors()
    for name in sorted(unfinished, key=lambda name: (not name, name)):
        counts = unfinished[name]
        handler_errors = errors.get(name)
        yield {
            "name": name,
            "failed": figure(counts["failed"]),
            "pending": figure(counts["pending"]),
            "url": f"{list_url}?{urlencode({'handler': name})}" if name else "",
            **(handler_errors.details(counts.total()) if handler_errors else {}),
        }


def retry_url(model_admin: ReadOnlyAdmin, request: HttpRequest, handler: str) -> str:
    """Return where this person can retry a handler; empty where they may not."""
    events = model_admin.admin_site.get_model_admin(WebhookEvent)
    return events.retry_url(request, handler) if isinstance(events, ReplayAdmin) else ""


@dataclass
class HandlerErrors:
    """A handler's errors in the events that were scanned."""

    last: str
    last_at: datetime
    first_at: datetime
    """When the oldest of these events arrived."""
    events: int = 1

    def details(self, count: int) -> dict[str, Any]:
        """Return what the page shows of a handler that has raised for ``count`` events."""
        return {
            "error": beginning(self.last, MAX_ERROR_LENGTH),
            "last": ago(self.last_at),
            "first": ago(self.first_at),
            "is_older": count > self.events,
        }


def newest_errors() -> dict[str, HandlerErrors]:
    """Return each handler's last error, and since when it has been failing."""
    found: dict[str, HandlerErrors] = {}
    events = newest_unfinished(WebhookEvent.objects.all(), MAX_EVENTS_WITH_ERRORS)
    for _pk, results, received_at in events:
        for name, error in errors_of(results).items():
            at = parse_datetime(results[name]["at"]) or received_at
            if name not in found:
                found[name] = HandlerErrors(error, at, received_at)
                continue
            errors = found[name]
            errors.events += 1
            errors.first_at = min(errors.first_at, received_at)
            if errors.last_at < at:
                errors.last, errors.last_at = error, at
    return found


def credentials(health: Receiving) -> Iterator[dict[str, Any]]:
    """Yield each username with its last use: first the configured ones, then the removed."""
    entries = Counter(entry.partition(":")[0] for entry in conf.webhook_secrets)
    configured = {name[:MAX_USERNAME_LENGTH]: count for name, count in entries.items()}
    for username in [*configured, *(name for name in health.last_use_of if name not in configured)]:
        at = health.last_use_of.get(username)
        yield {
            "username": username,
            "ago": ago(at) if at else None,
            "entries": configured.get(username, 0),
        }
