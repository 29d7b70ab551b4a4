"""What a person can do with events: a page that says what will happen, then what has happened."""

from collections import Counter, deque
from collections.abc import Iterator
from time import monotonic
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_permission_codename
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils.translation import gettext

from cellcast_django.admin.display import sentences
from cellcast_django.admin.lists.keyset import chunks, is_key
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.replay.replays import PROCESS, TO_EVERYONE, TO_UNFINISHED, Plan, Replay
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.models import WebhookEvent

MAX_SELECTED = 1_000
"""Events for one action."""
MAX_SECONDS = 20
"""For how long new events are begun while a person, and a worker of the web server, waits."""
CHUNK_SIZE = 100


class ReplayAdmin(ReadOnlyAdmin):
    """A list of events with which something can be done, each by its own permission."""

    actions = ["announce_again", "announce_to_all", "process_again"]

    def get_urls(self) -> list[URLPattern]:
        """Keep the pages out of a host project's ``ATOMIC_REQUESTS``, on every database.

        What the actions store has to be committed before it is announced.
        """
        patterns = super().get_urls()
        for pattern in patterns:
            outside_atomic_requests(pattern.callback)
        return patterns

    def has_announce_permission(self, request: HttpRequest) -> bool:
        """Whether this person may announce events again."""
        return self._has_permission(request, "announce")

    def has_reprocess_permission(self, request: HttpRequest) -> bool:
        """Whether this person may process invalid events again."""
        return self._has_permission(request, "reprocess")

    def _has_permission(self, request: HttpRequest, action: str) -> bool:
        codename = get_permission_codename(action, self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    @admin.action(permissions=["announce"], description=TO_UNFINISHED.title)
    def announce_again(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent]
    ) -> HttpResponse | None:
        """Call the handlers that have not finished with the selected events."""
        return self._replay(request, queryset, TO_UNFINISHED)

    @admin.action(permissions=["announce"], description=TO_EVERYONE.title)
    def announce_to_all(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent]
    ) -> HttpResponse | None:
        """Call all handlers of the selected events, finished or not."""
        return self._replay(request, queryset, TO_EVERYONE)

    @admin.action(permissions=["reprocess"], description=PROCESS.title)
    def process_again(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent]
    ) -> HttpResponse | None:
        """Read the selected events again; what is understood now is stored and announced."""
        return self._replay(request, queryset, PROCESS)

    def _replay(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent], replay: Replay
    ) -> HttpResponse | None:
        """Say what will happen; once that has been confirmed, do it and say what has happened."""
        if "confirmed" in request.POST:
            keys = self._confirmed_keys(request)
            self._run(request, replay, keys)
            return self._way_back(request, keys)
        selected = list(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        if len(selected) > MAX_SELECTED:
            self._say(request, messages.ERROR, sentences.TOO_MANY, MAX_SELECTED)
            return None
        plan = Plan.of(replay, self._load(request, selected))
        if not plan.keys:
            self._say(request, messages.INFO, replay.idle, plan.idle)
            return self._way_back(request, selected)
        return self._ask(request, replay, plan)

    def _load(self, request: HttpRequest, keys: list[int]) -> Iterator[WebhookEvent]:
        events = self.get_queryset(request).filter(pk__in=keys)
        complete = events.select_related("message", "status_change")
        few_columns = complete.defer("message__body", "message__original_body")
        for some in chunks(few_columns, "-pk", CHUNK_SIZE):
            yield from some

    def _ask(self, request: HttpRequest, replay: Replay, plan: Plan) -> HttpResponse:
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": replay.title,
            "opts": self.opts,
            "media": self.media,
            "replay": replay,
            "plan": plan,
            "handlers": sorted(plan.handlers.items()),
            "will_do": replay.will_do % {"count": len(plan.keys)},
            "unheard": sentences.UNHEARD % {"count": plan.unheard},
            "idle": replay.idle % {"count": plan.idle},
            "is_queued": replay.is_queued(),
            "seconds": MAX_SECONDS,
            "keys": ",".join(map(str, plan.keys)),  # as one field: a form may have 1,000 of them
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "is_one_events": "event" in request.POST,
            "back_url": self._url_to_return_to(request, plan.keys) or request.get_full_path(),
        }
        template = "admin/cellcast_django/webhookevent/confirmation.html"
        return TemplateResponse(request, template, context)

    def _confirmed_keys(self, request: HttpRequest) -> list[int]:
        """Return the keys of the events that were confirmed, oldest first."""
        keys = [key for key in request.POST.get("keys", "").split(",") if is_key(key)]
        events = self.get_queryset(request).filter(pk__in=keys[:MAX_SELECTED])
        return sorted(events.order_by().values_list("pk", flat=True))

    def _run(self, request: HttpRequest, replay: Replay, keys: list[int]) -> None:
        waiting = deque(keys)
        events = list(replay.run(_until_time_is_up(waiting)))
        idle = len(keys) - len(waiting) - len({event.pk for event in events} & set(keys))
        if replay.did is not None:
            understood = sum(event.outcome != WebhookEvent.Outcome.INVALID for event in events)
            self._say(request, messages.SUCCESS, replay.did, understood)
        self._say_what_became_of(request, events)
        self._say(request, messages.INFO, replay.idle, idle)
        self._say(request, messages.WARNING, sentences.TIME_IS_UP, len(waiting))

    def _way_back(self, request: HttpRequest, keys: list[int]) -> HttpResponse | None:
        """Return to where the person came from; ``None`` for the list."""
        url = self._url_to_return_to(request, keys)
        return HttpResponseRedirect(url) if url else None

    def _url_to_return_to(self, request: HttpRequest, keys: list[int]) -> str:
        """Return the address of the event's own page, where the person came from there."""
        if "event" not in request.POST or len(keys) != 1:
            return ""
        return self.url_of(WebhookEvent, "change", keys[0])

    def _say_what_became_of(self, request: HttpRequest, events: list[WebhookEvent]) -> None:
        invalid = sum(event.outcome == WebhookEvent.Outcome.INVALID for event in events)
        states = Counter(event.state for event in events)
        state = WebhookEvent.State
        self._say(request, messages.WARNING, sentences.STILL_INVALID, invalid)
        self._say(request, messages.SUCCESS, sentences.ANNOUNCED, states[state.ANNOUNCED])
        self._say(request, messages.WARNING, sentences.WAITING, states[state.PENDING])
        self._say(request, messages.ERROR, sentences.FAILED, states[state.FAILED])
        if raised := sorted({name for event in events for name in event.handler_errors()}):
            sentence = gettext("Handlers that raised an error: %(names)s.")
            self.message_user(request, sentence % {"names": ", ".join(raised)}, messages.WARNING)

    def _say(self, request: HttpRequest, level: int, sentence: Any, count: int) -> None:
        if count:
            self.message_user(request, sentence % {"count": count}, level)


def _until_time_is_up(waiting: deque[int]) -> Iterator[int]:
    end = monotonic() + MAX_SECONDS
    while waiting and monotonic() < end:
        yield waiting.popleft()
