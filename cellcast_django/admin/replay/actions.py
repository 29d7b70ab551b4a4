"""Admin actions on events: a page says what will happen, and messages say what did."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext

from cellcast_django import handlers
from cellcast_django.admin.display import sentences
from cellcast_django.admin.display.texts import figure
from cellcast_django.admin.display.timeline import HandlerRow, handler_rows
from cellcast_django.admin.lists.filters import failing
from cellcast_django.admin.lists.paging import chunks, is_key
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.replay.replays import (
    READ_AGAIN,
    REPLAYS,
    RERUN_ALL,
    RETRY_FAILED,
    Plan,
    Replay,
    Result,
)
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.handlers.facts import calls_of
from cellcast_django.models import WebhookEvent


class SkippingAdmin(ReadOnlyAdmin):
    """Events whose handlers can be skipped one by one."""

    def get_urls(self) -> list[URLPattern]:
        pattern = self.page_pattern("<int:pk>/skip/", self.skip_view, "skip")
        outside_atomic_requests(pattern.callback)
        return [pattern, *super().get_urls()]

    def handlers_of(self, request: HttpRequest, event: WebhookEvent) -> list[HandlerRow]:
        """Return each handler's outcome, with a link for those who may skip it."""
        rows = handler_rows(event, [call.name for call in calls_of(event)])
        if event.is_unfinished and self.may(request, "rerun"):
            url = self.url_of(WebhookEvent, "skip", event.pk)
            for row in rows:
                if not event.has_finished(row.name):
                    row.skip_url = f"{url}?{urlencode({'handler': row.name})}"
        return rows

    def skip_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for confirmation, then skip a handler."""
        self.require(request, "rerun")
        events = self.get_queryset(request).select_related("message", "status_change")
        event = get_object_or_404(events, pk=pk)
        name = request.GET.get("handler", "")
        if name not in {row.name for row in self.handlers_of(request, event) if row.skip_url}:
            raise Http404
        back_url = self.url_of(WebhookEvent, "change", pk)
        if request.method != "POST":
            return self.render_page(
                request,
                "webhookevent/skip.html",
                title=gettext("Skip this handler"),
                name=name,
                back_url=back_url,
            )
        if handlers.skip(pk, name):
            self.log_change(request, event, f"Skipped the handler {name}.")
            level, sentence = messages.SUCCESS, gettext("%(name)s is skipped.")
        else:
            level = messages.WARNING
            sentence = gettext("%(name)s was not skipped: it has run in the meantime.")
        self.message_user(request, sentence % {"name": name}, level)
        return HttpResponseRedirect(back_url)


MAX_SELECTED = 1_000  # events for one action
MAX_SECONDS = 20  # stop starting new events after this long: a person and a web worker are waiting
CHUNK_SIZE = 100


class ReplayAdmin(ReadOnlyAdmin):
    """A list of events with actions, each with its own permission."""

    actions = ["run_again", "run_all_again", "process_again"]

    def get_urls(self) -> list[URLPattern]:
        """Add the confirmation pages, and exempt all views from ``ATOMIC_REQUESTS``.

        What an action stores must be committed before handlers run.
        """
        patterns = [
            self.page_pattern("retry/", self.retry_view, "retry"),
            self.page_pattern("<int:pk>/replay/<slug:action>/", self.replay_view, "replay"),
            *super().get_urls(),
        ]
        for pattern in patterns:
            outside_atomic_requests(pattern.callback)
        return patterns

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "rerun")

    def has_reprocess_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "reprocess")

    @admin.action(permissions=["rerun"], description=RETRY_FAILED.title)
    def run_again(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent]
    ) -> HttpResponse | None:
        """Run the unfinished handlers of the selected events."""
        return self._replay(request, queryset, RETRY_FAILED)

    @admin.action(permissions=["rerun"], description=RERUN_ALL.title)
    def run_all_again(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent]
    ) -> HttpResponse | None:
        """Run all handlers of the selected events, finished or not."""
        return self._replay(request, queryset, RERUN_ALL)

    @admin.action(permissions=["reprocess"], description=READ_AGAIN.title)
    def process_again(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent]
    ) -> HttpResponse | None:
        """Read the selected events again; store those understood now and run their handlers."""
        return self._replay(request, queryset, READ_AGAIN)

    def replays_of(self, request: HttpRequest, event: WebhookEvent) -> list[dict[str, Any]]:
        """Return the actions on one event that this person may take, with their links."""
        return [
            {
                "title": replay.title,
                "url": self.url_of(WebhookEvent, "replay", event.pk, replay.name),
                "has_warning": bool(replay.warning),
            }
            for replay in REPLAYS.values()
            if self.may(request, replay.permission) and replay.handlers(event) is not None
        ]

    def replay_view(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        """Ask for confirmation for one event, then act on it.

        A plain link leads here: a button would depend on the form that each admin theme puts
        around the page.
        """
        replay = REPLAYS.get(action)
        if replay is None:
            raise Http404
        self.require(request, replay.permission)
        events = self.get_queryset(request).filter(pk=pk)
        if not events:
            raise Http404
        back = HttpResponseRedirect(self.url_of(WebhookEvent, "change", pk))
        if request.method == "POST":
            self._run(request, replay, [pk])
            return back
        return self._ask(request, replay, [pk], back.url) or back

    def retry_url(self, request: HttpRequest, handler: str) -> str:
        """Return the URL that retries a handler; empty for those who may not."""
        if not handler or not self.has_rerun_permission(request):
            return ""
        return f"{self.url_of(WebhookEvent, 'retry')}?{urlencode({'handler': handler})}"

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        """Ask about all events that one handler has failed for, and once confirmed, retry them."""
        self.require(request, "rerun")
        handler = request.GET.get("handler", "")
        query = urlencode({"handler": handler})
        back = HttpResponseRedirect(f"{self.url_of(WebhookEvent, 'changelist')}?{query}")
        events = failing(self.get_queryset(request), handler)
        return self._replay(request, events, RETRY_FAILED, back.url) or back

    def _replay(
        self,
        request: HttpRequest,
        queryset: QuerySet[WebhookEvent],
        replay: Replay,
        back_url: str = "",
    ) -> HttpResponse | None:
        """Say what will happen; once confirmed, do it and say what has happened."""
        if "confirmed" in request.POST:
            self._run(request, replay, self._confirmed_keys(request))
            return None
        selected = list(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        if len(selected) > MAX_SELECTED:
            self.message_user(request, _too_many(replay), messages.ERROR)
            return None
        return self._ask(request, replay, selected, back_url or request.get_full_path())

    def _load(self, request: HttpRequest, keys: list[int]) -> Iterator[WebhookEvent]:
        events = self.get_queryset(request).filter(pk__in=keys)
        complete = events.select_related("message", "status_change")
        few_columns = complete.defer("message__body", "message__original_body")
        for chunk in chunks(few_columns, "-pk", CHUNK_SIZE):
            yield from chunk

    def _ask(
        self, request: HttpRequest, replay: Replay, keys: list[int], back_url: str
    ) -> HttpResponse | None:
        """Return the page that asks for confirmation; ``None`` if there is nothing to do."""
        plan = Plan.of(replay, self._load(request, keys))
        if not plan.keys:
            self._say(request, messages.INFO, replay.unaffected, plan.unaffected)
            return None
        context = {
            "title": replay.title,
            "replay": replay,
            "plan": plan,
            "again": sorted(plan.again.items()),
            "first": sorted(plan.first.items()),
            "missing": sorted(plan.missing.items()),
            "button": replay.button % {"count": len(plan.keys)},
            "will_do": replay.will_do % {"count": len(plan.keys)},
            "no_handler_left": sentences.NO_HANDLER_LEFT % {"count": plan.without_handler},
            "unaffected": replay.unaffected % {"count": plan.unaffected},
            "is_queued": replay.is_queued(),
            "seconds": MAX_SECONDS,
            "keys": ",".join(map(str, plan.keys)),  # one field: Django allows 1,000
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "back_url": back_url,
        }
        return self.render_page(request, "webhookevent/confirmation.html", **context)

    def _confirmed_keys(self, request: HttpRequest) -> list[int]:
        """Return the keys of the confirmed events, oldest first."""
        keys = [key for key in request.POST.get("keys", "").split(",") if is_key(key)]
        events = self.get_queryset(request).filter(pk__in=keys[:MAX_SELECTED])
        return sorted(events.order_by().values_list("pk", flat=True))

    def _run(self, request: HttpRequest, replay: Replay, keys: list[int]) -> None:
        waiting = deque(keys)
        result = Result(started_at=timezone.now())

        def report(event: WebhookEvent) -> None:
            self.log_change(request, event, replay.log)
            result.add(event)

        replay.run(_until_time_is_up(waiting), progress=report)
        started = keys[: len(keys) - len(waiting)]
        unaffected = len(set(started) - result.keys)
        for level, sentence in result.sentences(replay.understood):
            self.message_user(request, sentence, level)
        self._say(request, messages.INFO, replay.unaffected, unaffected)
        seconds = MAX_SECONDS
        self._say(request, messages.WARNING, sentences.TIME_IS_UP, len(waiting), seconds=seconds)

    def _say(
        self, request: HttpRequest, level: int, sentence: Any, count: int, **values: Any
    ) -> None:
        if count:
            self.message_user(request, sentence % {"count": count, **values}, level)


def _too_many(replay: Replay) -> str:
    refusal = str(sentences.TOO_MANY % {"count": MAX_SELECTED, "limit": figure(MAX_SELECTED)})
    if not replay.command:
        return refusal
    return f"{refusal} {sentences.FOR_MORE % {'command': replay.command}}"


def _until_time_is_up(waiting: deque[int]) -> Iterator[int]:
    end = time.monotonic() + MAX_SECONDS
    while waiting and time.monotonic() < end:
        yield waiting.popleft()
