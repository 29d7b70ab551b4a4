"""The pages that ask before an action on events, and the messages that say what it did."""

from contextlib import suppress
from itertools import chain
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import Error
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import urlencode
from django.utils.translation import gettext, ngettext

from cellcast_django.admin.display.badges import HandlerRow, handler_rows
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import counted, grouped
from cellcast_django.admin.event_actions import (
    ACTIONS,
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
from cellcast_django.handlers.calls import calls_of, with_facts
from cellcast_django.models import Claim, WebhookEvent
from cellcast_django.models.claim import TICKET_LASTS, new_ticket

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
    unaffected: str
    ticket: str

    seconds = MAX_SECONDS


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

    def ask_or_act(self, action: EventAction, events: Any, back_url: str) -> HttpResponse:
        """Ask about the events, if there is something to do; once confirmed, act on them."""
        if "confirmed" in self.request.POST:
            chosen = confirmed(self.viewer, WebhookEvent).order_by("pk")
            self.act(action, list(chosen.values_list("pk", flat=True)))
            return HttpResponseRedirect(back_url)
        keys = list(events.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        complete = with_facts(self.events.filter(pk__in=keys[:MAX_SELECTED]))
        few_columns = complete.defer("message__body", "message__original_body")
        plan = action.plan(chain.from_iterable(chunks(few_columns, "-pk", CHUNK_SIZE)))
        if not plan.keys and not plan.missing:
            self._tell_unaffected(plan.unaffected)
            return HttpResponseRedirect(back_url)
        asked = Confirmation(
            action=action,
            plan=plan,
            keys=plan.keys,
            has_more=len(keys) > MAX_SELECTED,
            unaffected=unaffected(plan.unaffected),
            back_url=back_url,
            ticket=new_ticket(),
        )
        return self.render(asked, title=action.title)

    def act(self, action: EventAction, keys: list[int]) -> None:
        """Act on the events until time is up, log what was changed, and say what was done.

        Once for each form: a double click must not call a handler twice.
        """
        ticket = self.request.POST.get("ticket") or new_ticket()
        if (claim := Claim.take(f"form {ticket}", TICKET_LASTS)) is None:
            again = gettext("Not done again: this had been confirmed before.")
            self.viewer.tell(again, messages.INFO)
            return
        attempts = self._attempts(keys)
        try:
            results = [action.run(pk, self.viewer.username) for pk in in_time(keys)]
        except BaseException:
            with suppress(Error):
                if self._attempts(keys) == attempts:
                    claim.release()  # no handler was called: the same form may do it all
            raise
        changed = list(filter(None, results))
        if changed:
            events = {event.pk: event for each in changed for event in each}
            self._log(action, keys, len(changed), events)
            for level, sentence in action.sentences(len(changed), events.values()):
                self.viewer.tell(sentence, level)
        self._tell_unaffected(len(results) - len(changed))
        tell_left(self.viewer, len(keys) - len(results))

    def _tell_unaffected(self, count: int) -> None:
        if count:
            self.viewer.tell(unaffected(count), messages.INFO)

    @staticmethod
    def _attempts(keys: list[int]) -> list[int]:
        """Return in how many runs handlers were called: it rises before the first is called."""
        events = WebhookEvent.objects.fresh().filter(pk__in=keys).order_by("pk")
        return list(events.values_list("attempts", flat=True))

    def _log(
        self, action: EventAction, keys: list[int], changed: int, events: dict[int, WebhookEvent]
    ) -> None:
        """Write one entry, about the event or with the count."""
        # Not there if it was taken over, and had let another event of its contact run before.
        event = events.get(keys[0]) if len(keys) == 1 else None
        if event is not None:
            self.viewer.log(event, f"{action.log}.")
        else:
            count = counted(changed, "event", "events")
            self.viewer.log_list(WebhookEvent, f"{action.log}: {count}.")


class Act(ActionPage):
    """An action on one event, or on those that were selected in the list.

    A plain link leads here: a button would depend on the form that each admin theme puts around
    the page.
    """

    name = "act"
    route = "<int:pk>/act/<slug:name>/"

    def show(self, pk: int, name: str) -> HttpResponse:
        action = self.action(name)
        event = self.events.filter(pk=pk)
        if not event.exists():
            raise Http404
        return self.ask_or_act(action, event, self.viewer.url(WebhookEvent, "change", pk))

    def act_on_selected(self, queryset: QuerySet[WebhookEvent], name: str) -> HttpResponse | None:
        action = self.action(name)
        if len(queryset.values("pk")[: MAX_SELECTED + 1]) <= MAX_SELECTED:
            return self.ask_or_act(action, queryset, self.request.get_full_path())
        refusal = gettext("Nothing was changed: you can select at most %(limit)s events.")
        if action.command:
            refusal += " " + gettext("For more, run “manage.py %(command)s”.")
        words = refusal % {"limit": grouped(MAX_SELECTED), "command": action.command}
        self.viewer.tell(words, messages.ERROR)
        return None


class ActOnHandler(ActionPage):
    """An action on all events that one handler has failed for."""

    name = "of_handler"
    route = "of-handler/<slug:name>/"

    def show(self, name: str) -> HttpResponse:
        if name not in (RunAgain.name, SkipHandler.name):
            raise Http404
        handler = self.request.GET.get("handler", "")
        real = self.events.filter(is_test=False)  # as they are counted
        query = urlencode({"handler": handler, "test": TestFilter.WITHOUT})
        back_url = f"{self.viewer.url(WebhookEvent, 'changelist')}?{query}"
        return self.ask_or_act(self.action(name), failing(real, handler).order_by("pk"), back_url)


def url_for_handler(viewer: Viewer, action: type[EventAction], handler: str) -> str:
    """Return the URL that acts on all events of a handler; empty for those who may not."""
    if not handler or not viewer.may(f"{action.permission}_webhookevent"):
        return ""
    return f"{ActOnHandler.url(viewer, action.name)}?{urlencode({'handler': handler})}"
