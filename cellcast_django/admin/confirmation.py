"""The pages that ask before an action on events, and the messages that say what it did."""

import time
from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext, ngettext

from cellcast_django.admin.display.badges import HandlerRow, handler_rows
from cellcast_django.admin.display.texts import counted, grouped
from cellcast_django.admin.event_actions import (
    ACTIONS,
    Effect,
    EventAction,
    RunAgain,
    SkipHandler,
    unfinished_handlers,
)
from cellcast_django.admin.lists.filters import TestFilter, failing
from cellcast_django.admin.lists.paging import chunks, is_key
from cellcast_django.admin.lists.read_only import MAX_SECONDS, ReadOnlyAdmin
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.handlers.calls import calls_of
from cellcast_django.models import Claim, WebhookEvent
from cellcast_django.models.claim import TICKET, TICKET_LASTS, new_ticket

CONFIRMATION = "cellcast_django/webhookevent/confirmation.html"
MAX_SELECTED = 1_000  # events for one action
CHUNK_SIZE = 100


def in_list(action: type[EventAction]) -> Any:
    """Return the action as the list of events offers it."""

    @admin.action(permissions=[action.permission], description=action.title)
    def act(
        model_admin: "EventActionsAdmin", request: HttpRequest, queryset: QuerySet[WebhookEvent]
    ) -> HttpResponse | None:
        return model_admin.act_on_selected(request, queryset, action.name)

    act.__name__ = action.name
    return act


class EventActionsAdmin(ReadOnlyAdmin):
    """A list of events with actions, each with its own permission."""

    actions = [in_list(action) for action in ACTIONS]

    def get_urls(self) -> list[URLPattern]:
        """Add the confirmation pages, and exempt all views from ``ATOMIC_REQUESTS``.

        What an action stores must be committed before handlers run.
        """
        patterns = [
            self.page_pattern("of-handler/<slug:name>/", self.of_handler_view, "of_handler"),
            self.page_pattern("<int:pk>/act/<slug:name>/", self.act_view, "act"),
            *super().get_urls(),
        ]
        for pattern in patterns:
            outside_atomic_requests(pattern.callback)
        return patterns

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "rerun")

    def has_reprocess_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "reprocess")

    def has_dismiss_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "dismiss")

    def act_on_selected(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent], name: str
    ) -> HttpResponse | None:
        """Ask about the events that were selected in the list; once confirmed, act on them."""
        action = self._action(request, name)
        if "confirmed" in request.POST:
            self._run(request, action, self._confirmed_keys(request))
            return None
        selected = list(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        if len(selected) > MAX_SELECTED:
            self.message_user(request, _too_many(action), messages.ERROR)
            return None
        return self._ask(request, action, selected, request.get_full_path())

    def actions_of(self, request: HttpRequest, event: WebhookEvent) -> Iterator[dict[str, Any]]:
        """Yield the actions on one event that this person may take, with their links.

        A handler is skipped by the link beside it, and nothing is offered that could not run.
        """
        for kind in ACTIONS:
            action = kind()
            if kind is SkipHandler or not self.may(request, action.permission):
                continue
            if action.plan([event]).keys:
                yield {
                    "name": action.name,
                    "title": action.title,
                    "url": self.url_of(WebhookEvent, "act", event.pk, action.name),
                    "has_warning": bool(action.warning),
                }

    def handlers_of(self, request: HttpRequest, event: WebhookEvent) -> list[HandlerRow]:
        rows = handler_rows(event, [call.name for call in calls_of(event)])
        names = unfinished_handlers(event) if self.may(request, "rerun") else []
        url = self.url_of(WebhookEvent, "act", event.pk, SkipHandler.name)
        for row in rows:
            if row.name in names:
                row.skip_url = f"{url}?{urlencode({'handler': row.name})}"
        return rows

    def act_view(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """Ask for confirmation for one event, then act on it.

        A plain link leads here: a button would depend on the form that each admin theme puts
        around the page.
        """
        action = self._action(request, name)
        if not self.get_queryset(request).filter(pk=pk).exists():
            raise Http404
        back = HttpResponseRedirect(self.url_of(WebhookEvent, "change", pk))
        if request.method == "POST":
            self._run(request, action, [pk])
            return back
        return self._ask(request, action, [pk], back.url) or back

    def of_handler_url(self, request: HttpRequest, action: type[EventAction], handler: str) -> str:
        """Return the URL that acts on all events of a handler; empty for those who may not."""
        if not handler or not self.may(request, action.permission):
            return ""
        query = urlencode({"handler": handler})
        return f"{self.url_of(WebhookEvent, 'of_handler', action.name)}?{query}"

    def of_handler_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask about the events that one handler has failed for, and once confirmed, act on them."""
        if name not in (RunAgain.name, SkipHandler.name):
            raise Http404
        action = self._action(request, name)
        handler = request.GET.get("handler", "")
        query = urlencode({"handler": handler, "test": TestFilter.WITHOUT})
        back = HttpResponseRedirect(f"{self.url_of(WebhookEvent, 'changelist')}?{query}")
        if "confirmed" in request.POST:
            self._run(request, action, self._confirmed_keys(request))
            return back
        real = self.get_queryset(request).filter(is_test=False)  # as they are counted
        events = failing(real, handler).order_by("pk")
        keys = list(events.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        return self._ask(request, action, keys, back.url) or back

    def _action(self, request: HttpRequest, name: str) -> EventAction:
        """Return the action of this name. Raises ``Http404``, and ``PermissionDenied``."""
        kind = next((each for each in ACTIONS if each.name == name), None)
        if kind is None:
            raise Http404
        self.require(request, kind.permission)
        if kind is SkipHandler:
            return SkipHandler(request.POST.get("handler") or request.GET.get("handler", ""))
        return kind()

    def _ask(
        self, request: HttpRequest, action: EventAction, keys: list[int], back_url: str
    ) -> HttpResponse | None:
        """Return the page that asks for confirmation; ``None`` if there is nothing to do."""
        plan = action.plan(self._load(request, keys[:MAX_SELECTED]))
        if not plan.keys and not plan.missing:
            if plan.unaffected:
                self.message_user(request, action.unaffected % plan.unaffected, messages.INFO)
            return None
        no_handler_left = ngettext(
            "%d event has no handler that could run here.",
            "%d events have no handler that could run here.",
            plan.without_handler,
        )
        context = {
            "title": action.title,
            "action": action,
            "plan": plan,
            "has_more": len(keys) > MAX_SELECTED,
            "limit": grouped(MAX_SELECTED),
            "again": sorted(plan.again.items()),
            "first": sorted(plan.first.items()),
            "missing": [
                (each, count, self.of_handler_url(request, SkipHandler, each))
                for each, count in sorted(plan.missing.items())
            ],
            "choices": sorted(plan.choices.items()),
            "button": action.button % len(plan.keys),
            "will_do": action.will_do % len(plan.keys),
            "no_handler_left": no_handler_left % plan.without_handler,
            "unaffected": action.unaffected % plan.unaffected,
            "seconds": MAX_SECONDS,
            "keys": ",".join(map(str, plan.keys)),  # one field: Django allows 1,000
            "ticket": new_ticket(),
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "back_url": back_url,
        }
        return self.render_page(request, CONFIRMATION, **context)

    def _load(self, request: HttpRequest, keys: list[int]) -> Iterator[WebhookEvent]:
        events = self.get_queryset(request).filter(pk__in=keys)
        complete = events.select_related("message", "status_change")
        few_columns = complete.defer("message__body", "message__original_body")
        for chunk in chunks(few_columns, "-pk", CHUNK_SIZE):
            yield from chunk

    def _confirmed_keys(self, request: HttpRequest) -> list[int]:
        keys = [key for key in request.POST.get("keys", "").split(",") if is_key(key)]
        events = self.get_queryset(request).filter(pk__in=keys[:MAX_SELECTED])
        return sorted(events.order_by().values_list("pk", flat=True))

    def _run(self, request: HttpRequest, action: EventAction, keys: list[int]) -> None:
        """Act on the events until time is up, log what was changed, and say what was done.

        Once for each form: a double click must not call a handler twice.
        """
        ticket = request.POST.get("ticket", "")
        if TICKET.fullmatch(ticket) and not Claim.take(f"form {ticket}", TICKET_LASTS):
            again = gettext("Not done again: this had been confirmed before.")
            self.message_user(request, again, messages.INFO)
            return
        end = time.monotonic() + MAX_SECONDS
        effect = Effect(started_at=timezone.now())
        left = len(keys)
        for pk in keys:
            if time.monotonic() >= end:
                break
            left -= 1
            effect.add(action.run(pk, self.username(request)))
        self._log(request, action, keys, effect)
        for level, sentence in action.sentences(effect):
            self.message_user(request, sentence, level)
        if effect.unaffected:
            self.message_user(request, action.unaffected % effect.unaffected, messages.INFO)
        if left:
            words = ngettext(
                "Stopped after %(seconds)d seconds with %(count)d event left. Run it again to "
                "continue.",
                "Stopped after %(seconds)d seconds with %(count)d events left. Run it again to "
                "continue.",
                left,
            )
            values = {"seconds": MAX_SECONDS, "count": left}
            self.message_user(request, words % values, messages.WARNING)

    def _log(
        self, request: HttpRequest, action: EventAction, keys: list[int], effect: Effect
    ) -> None:
        """Write one entry, about the event or with the count, if anything was changed."""
        # Not there if it was taken over, and had let another event of its contact run before.
        event = effect.events.get(keys[0]) if len(keys) == 1 else None
        if event is not None:
            self.log_change(request, event, f"{action.log}.")
        elif effect.changed:
            events = counted(effect.changed, "event", "events")
            self.log_list(request, WebhookEvent, f"{action.log}: {events}.")


def _too_many(action: EventAction) -> str:
    refusal = gettext("Nothing was changed: you can select at most %(limit)s events.")
    for_more = gettext("For more, run “manage.py %(command)s”.") if action.command else ""
    values = {"limit": grouped(MAX_SELECTED), "command": action.command}
    return f"{refusal} {for_more}".strip() % values
