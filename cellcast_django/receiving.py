"""The one pipeline for views, recovery and reprocessing: store what came, then run its handlers."""

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from typing import Any

from django.db import Error
from django.utils import timezone
from django.utils.module_loading import import_string

from cellcast_django import handlers, inbox
from cellcast_django.conf import conf
from cellcast_django.database.transactions import hint_of
from cellcast_django.error_reports import show_to_test
from cellcast_django.handlers.work import Failure
from cellcast_django.models import HandlerCall, WebhookEvent
from cellcast_django.payloads import Endpoint, Payload

logger = logging.getLogger("cellcast_django")

MAX_SECONDS = 10
"""How long a run reads deferred events before it goes on with what is due."""


def receive(
    payloads: Sequence[Payload],
    *,
    endpoint: Endpoint,
    content_type: str = "",
    received_as: str = "",
    is_test: bool = False,
) -> list[WebhookEvent]:
    """Store the payloads of one webhook, run its handlers, and return its events.

    What cannot be stored for now is deferred; where it came from the API, which the next recovery
    reads again, the error is raised instead. Raises ``django.db.Error`` when not even deferring
    works. Nothing is stored then.
    """
    arrival: dict[str, Any] = {
        "endpoint": endpoint,
        "content_type": content_type,
        "received_as": received_as,
        "is_test": is_test,
    }
    try:
        stored = inbox.store(payloads, **arrival)
    except Exception as error:
        if endpoint == Endpoint.API:
            raise
        deferred = inbox.defer(payloads, error, **arrival)
        _tell_deferred(deferred, error)
        return deferred
    _run_or_enqueue(stored.calls)
    return stored


def _tell_deferred(events: Sequence[WebhookEvent], error: Exception) -> None:
    """Log why events were deferred: an error of ours louder than one of the database."""
    level = logging.WARNING if isinstance(error, Error) else logging.ERROR
    pks = ", ".join(str(event.pk) for event in events[:10])  # an array may have a thousand
    logger.log(level, "Deferred: event %s: %s", pks, summary_of(error))
    show_to_test(error)


def summary_of(error: Exception) -> str:
    """Return why something is not stored, for the log: no text, so no number."""
    return f"{Failure.of(error).summary}. {hint_of(error)}".rstrip()


def read_due(event_ids: Iterable[int] | None = None) -> int:
    """Read the deferred events whose time has come; return how many were read.

    With ``event_ids``, only these, and at once. Their calls are due then. What cannot be stored is
    read again after a pause, behind all that have waited longer, so that it holds up nothing that
    can be. Safe in several processes at once. Raises ``django.db.Error``.
    """
    deferred = WebhookEvent.objects.fresh().deferred()
    if event_ids is None:
        deferred = deferred.filter(next_read_at__lte=timezone.now())
    else:
        deferred = deferred.filter(pk__in=event_ids)
    count = 0
    ends_at = time.monotonic() + MAX_SECONDS
    for pk in list(deferred.order_by("next_read_at", "pk").values_list("pk", flat=True)):
        if time.monotonic() > ends_at:
            break
        event = deferred.filter(pk=pk).first()
        if event is not None and _has_read(event):
            count += 1
    return count


def _has_read(event: WebhookEvent) -> bool:
    """Read a deferred event; return whether that worked, and no other process was quicker."""
    try:
        return bool(inbox.read_deferred(event))
    except Exception as error:
        is_old = timezone.now() - event.received_at > timedelta(days=1)
        level = logging.ERROR if is_old or not isinstance(error, Error) else logging.WARNING
        logger.log(level, "Still deferred: event %s: %s", event.pk, summary_of(error))
        return False


def read_again(event: WebhookEvent) -> list[WebhookEvent]:
    """Read an invalid or deferred event again, run its handlers; return what it has become.

    Raises ``django.db.Error`` when the database refuses; nothing has changed then.
    """
    if event.outcome == WebhookEvent.Outcome.DEFERRED:
        read_due([event.pk])
        handlers.run_due([event.pk])
        return list(WebhookEvent.objects.fresh().filter(pk=event.pk))
    stored = inbox.reprocess(event)
    _run_or_enqueue(stored.calls)
    return stored


def _run_or_enqueue(calls: Sequence[HandlerCall]) -> None:
    """Make the calls of events that have just been stored, here or on the queue: a task an event.

    Never raises: errors are logged, and ``cellcast_run_handlers`` finds the calls later. The queue
    is not asked again after a refusal: each might take as long as a time-out.
    """
    if conf.run_handlers == "inline":
        handlers.run(calls)
        return
    event_ids = list(dict.fromkeys(call.event_id for call in calls))
    for position, event_id in enumerate(event_ids):
        try:
            # By its path, which queues store: an import would be a circle.
            task = import_string("cellcast_django.tasks.run_handlers")
            task.using(backend=conf.run_handlers).enqueue(event_id)
        except Exception as error:
            refused, kind = len(event_ids) - position, type(error).__qualname__
            logger.error("Not enqueued: event %s, the first of %s: %s.", event_id, refused, kind)
            return


def tasks_package() -> Any:
    """Return ``django.tasks``, or its backport on Django 5.2; ``None`` without either."""
    for name in ("django.tasks", "django_tasks"):
        with suppress(ImportError):
            return import_module(name)
    return None
