"""The pages that ask before an action on events, and the messages that say what it did."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import Error
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext, ngettext

from cellcast_django.admin.display.badges import HandlerRow, handler_rows
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import counted, grouped
from cellcast_django.admin.event_actions import (
    ACTIONS,
    Effect,
    EventAction,
    Plan,
    RunAgain,
    SkipHandler,
    unfinished_handlers,
)
from cellcast_django.admin.lists.filters import TestFilter, failing
from cellcast_django.admin.lists.paging import chunks
from cellcast_django.admin.page import MAX_SECONDS, Page
from cellcast_django.admin.selection import MAX_SELECTED, ChosenRows, confirmed, in_time, tell_left
from cellcast_django.admin.viewer import Viewer
from cellcast_django.handlers.calls import calls_of
from cellcast_django.models import Claim, WebhookEvent
from cellcast_django.models.claim import TICKET, TICKET_LASTS, new_ticket

CHUNK_SIZE = 100  # events in memory at a time


def in_list(action: type[EventAction]) -> Any:
    """Return the action as the list of events offers it."""

    @admin.action(permissions=[action.permission], description=action.title)
    def act(
        model_admin: Any, request: HttpRequest, queryset: QuerySet[WebhookEvent]
    ) -> HttpResponse | None:
        page = Act(Viewer(model_admin.admin_site, request))
        return page.act_on_selected(queryset, action.name)

    act.__name__ = action.name
    return act


def offered_actions(viewer: Viewer, event: WebhookEvent) -> list[tuple[EventAction, str]]:
    """Return the actions on one event that this person may take, and where.

    A handler is skipped by the link beside it, and nothing is offered that could not run.
    """
    actions = [kind() for kind in ACTIONS if kind is not SkipHandler]
    return [
        (action, Act.url(viewer, event.pk, action.name))
        for action in actions
        if viewer.may(f"{action.permission}_webhookevent") and action.plan([event]).keys
    ]


def handlers_of(viewer: Viewer, event: WebhookEvent) -> list[HandlerRow]:
    """Return the handlers of an event, with links that skip them for those who may."""
    names = unfinished_handlers(event) if viewer.may("rerun_webhookevent") else []
    url = Act.url(viewer, event.pk, SkipHandler.name)
    skip_urls = {name: f"{url}?{urlencode({'handler': name})}" for name in names}
    return handler_rows(event, [call.name for call in calls_of(event)], skip_urls=skip_urls)


@shown
class Confirmation(ChosenRows):
    """What an action would do, as the page asks for it."""

    action: EventAction
    plan: Plan
    calls: list[tuple[str, int, int]]
    """Each handler that will run: how many events again, how many for the first time."""
    choices: list[tuple[str, int]]
    """Each handler that may be skipped, and for how many events."""
    missing: list[tuple[str, str]]
    """Each handler that is not connected, and the link that skips it."""
    ticket: str

    seconds = MAX_SECONDS

    @property
    def unaffected(self) -> str:
        return unaffected(self.plan.unaffected)


def unaffected(count: int) -> str:
    """Say how many of the chosen events an action leaves alone."""
    return ngettext("%d event stays as it is.", "%d events stay as they are.", count) % count


class ActionPage(Page):
    """Asks before an action on events, and then acts."""

    model = WebhookEvent
    template = "cellcast_django/webhookevent/confirmation.html"

    @property
    def events(self) -> Any:
        return self.viewer.rows(WebhookEvent)

    def action(self, name: str) -> EventAction:
        """Return the action of this name. Raises ``Http404``, and ``PermissionDenied``."""
        kind = next((each for each in ACTIONS if each.name == name), None)
        if kind is None:
            raise Http404
        if not self.viewer.may(f"{kind.permission}_webhookevent"):
            raise PermissionDenied
        if kind is SkipHandler:
            query, form = self.request.GET, self.request.POST
            return SkipHandler(form.get("handler") or query.get("handler", ""))
        return kind()

    def ask(self, action: EventAction, keys: list[int], back_url: str) -> HttpResponse | None:
        """Return the page that asks for confirmation; ``None`` if there is nothing to do."""
        plan = action.plan(self._load(keys[:MAX_SELECTED]))
        if not plan.keys and not plan.missing:
            self._tell_unaffected(plan.unaffected)
            return None
        asked = Confirmation(
            action=action,
            plan=plan,
            keys=plan.keys,
            has_more=len(keys) > MAX_SELECTED,
            calls=[
                (each, plan.again[each], plan.first[each])
                for each in sorted({*plan.again, *plan.first})
            ],
            choices=sorted(plan.choices.items()),
            missing=[
                (each, url_for_handler(self.viewer, SkipHandler, each))
                for each in sorted(plan.missing)
            ],
            back_url=back_url,
            ticket=new_ticket(),
        )
        return self.render(asked, title=action.title)

    def _load(self, keys: list[int]) -> Iterator[WebhookEvent]:
        events = self.events.filter(pk__in=keys)
        complete = events.select_related("message", "status_change")
        few_columns = complete.defer("message__body", "message__original_body")
        for chunk in chunks(few_columns, "-pk", CHUNK_SIZE):
            yield from chunk

    def act_on_confirmed(self, action: EventAction) -> None:
        events = confirmed(self.viewer, WebhookEvent)
        self.act(action, sorted(events.order_by().values_list("pk", flat=True)))

    def act(self, action: EventAction, keys: list[int]) -> None:
        """Act on the events until time is up, log what was changed, and say what was done.

        Once for each form: a double click must not call a handler twice.
        """
        ticket = self.request.POST.get("ticket", "")
        claim = None
        if TICKET.fullmatch(ticket):
            claim = Claim.take(f"form {ticket}", TICKET_LASTS)
            if claim is None:
                again = gettext("Not done again: this had been confirmed before.")
                self.viewer.tell(again, messages.INFO)
                return
        effect = Effect(started_at=timezone.now())
        attempts = self._attempts(keys)
        try:
            for pk in in_time(keys):
                effect.add(action.run(pk, self.viewer.username))
        except BaseException:
            with suppress(Error):
                if claim is not None and self._attempts(keys) == attempts:
                    claim.release()  # no handler was called: the same form may do it all
            raise
        if effect.changed:
            self._log(action, keys, effect)
            for level, sentence in action.sentences(effect):
                self.viewer.tell(sentence, level)
        self._tell_unaffected(effect.unaffected)
        tell_left(self.viewer, len(keys) - effect.changed - effect.unaffected)

    def _tell_unaffected(self, count: int) -> None:
        if count:
            self.viewer.tell(unaffected(count), messages.INFO)

    @staticmethod
    def _attempts(keys: list[int]) -> list[int]:
        """Return in how many runs handlers were called: it rises before the first is called."""
        events = WebhookEvent.objects.fresh().filter(pk__in=keys).order_by("pk")
        return list(events.values_list("attempts", flat=True))

    def _log(self, action: EventAction, keys: list[int], effect: Effect) -> None:
        """Write one entry, about the event or with the count."""
        # Not there if it was taken over, and had let another event of its contact run before.
        event = effect.events.get(keys[0]) if len(keys) == 1 else None
        if event is not None:
            self.viewer.log(event, f"{action.log}.")
        else:
            events = counted(effect.changed, "event", "events")
            self.viewer.log_list(WebhookEvent, f"{action.log}: {events}.")


class Act(ActionPage):
    """An action on one event, or on those that were selected in the list.

    A plain link leads here: a button would depend on the form that each admin theme puts around
    the page.
    """

    name = "act"
    route = "<int:pk>/act/<slug:name>/"

    def show(self, pk: int, name: str) -> HttpResponse:
        action = self.action(name)
        if not self.events.filter(pk=pk).exists():
            raise Http404
        back = HttpResponseRedirect(self.viewer.url(WebhookEvent, "change", pk))
        if self.request.method == "POST":
            self.act(action, [pk])
            return back
        return self.ask(action, [pk], back.url) or back

    def act_on_selected(self, queryset: QuerySet[WebhookEvent], name: str) -> HttpResponse | None:
        """Ask about the events that were selected in the list; once confirmed, act on them."""
        action = self.action(name)
        if "confirmed" in self.request.POST:
            self.act_on_confirmed(action)
            return None
        selected = list(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        if len(selected) > MAX_SELECTED:
            refusal = gettext("Nothing was changed: you can select at most %(limit)s events.")
            if action.command:
                refusal += " " + gettext("For more, run “manage.py %(command)s”.")
            words = refusal % {"limit": grouped(MAX_SELECTED), "command": action.command}
            self.viewer.tell(words, messages.ERROR)
            return None
        return self.ask(action, selected, self.request.get_full_path())


class ActOnHandler(ActionPage):
    """An action on all events that one handler has failed for."""

    name = "of_handler"
    route = "of-handler/<slug:name>/"

    def show(self, name: str) -> HttpResponse:
        if name not in (RunAgain.name, SkipHandler.name):
            raise Http404
        action = self.action(name)
        handler = self.request.GET.get("handler", "")
        query = urlencode({"handler": handler, "test": TestFilter.WITHOUT})
        back = HttpResponseRedirect(f"{self.viewer.url(WebhookEvent, 'changelist')}?{query}")
        if "confirmed" in self.request.POST:
            self.act_on_confirmed(action)
            return back
        real = self.events.filter(is_test=False)  # as they are counted
        events = failing(real, handler).order_by("pk")
        keys = list(events.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        return self.ask(action, keys, back.url) or back


def url_for_handler(viewer: Viewer, action: type[EventAction], handler: str) -> str:
    """Return the URL that acts on all events of a handler; empty for those who may not."""
    if not handler or not viewer.may(f"{action.permission}_webhookevent"):
        return ""
    return f"{ActOnHandler.url(viewer, action.name)}?{urlencode({'handler': handler})}"
