"""The pages that ask before an action on events or calls, and the messages that say what it did."""

import time
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain, takewhile
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import urlencode
from django.utils.translation import gettext, ngettext

from cellcast_django.admin.actions import CALL_ACTIONS, EVENT_ACTIONS, Action, RunCallAgain
from cellcast_django.admin.display.badges import Tone, standing_of
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import counted, grouped
from cellcast_django.admin.lists.filters import CallStateFilter, TestFilter
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.lists.read_only import is_ours
from cellcast_django.admin.page import MAX_SECONDS, Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.models import Claim, HandlerCall, WebhookEvent
from cellcast_django.models.claim import TICKET_LASTS, new_ticket
from cellcast_django.payloads import clean

MAX_SELECTED = 1_000  # rows for one action
LEVELS = {Tone.OPEN: messages.WARNING, Tone.BAD: messages.ERROR}  # of rows not ended well


def tell_left(viewer: Viewer, left: int) -> None:
    """Say how many rows were not reached in time, if any."""
    words = gettext(
        "Stopped after %(seconds)d seconds with %(count)s left. Do it again to continue."
    )
    if left:
        viewer.tell(words % {"seconds": MAX_SECONDS, "count": grouped(left)}, messages.WARNING)


def stays(count: int) -> str:
    """Say how many of the chosen rows an action leaves alone."""
    return ngettext("%d stays as it is.", "%d stay as they are.", count) % count


class ActionPage(Page):
    """Asks before an action on rows, and then acts.

    A plain link leads here: a button would depend on the form that each admin theme puts around
    the page.
    """

    name = "act"
    route = "<int:pk>/act/<slug:name>/"
    template = "cellcast_django/webhookevent/confirmation.html"
    actions: ClassVar[Sequence[type[Action]]]

    def show(self, pk: int, name: str) -> HttpResponse:
        action = self.action(name)
        row = self.rows.filter(pk=pk)
        if not row.exists():
            raise Http404
        return self.ask_or_act(action, row, self.viewer.url(action.model, "change", pk))

    @classmethod
    def offered(cls, viewer: Viewer, row: Any) -> list[tuple[Action, str]]:
        """Return the actions on one row that this person may take, and where."""
        if not is_ours(viewer.site, type(row)):
            return []
        return [
            (action, cls.url(viewer, row.pk, action.name))
            for action in (kind() for kind in cls.actions)
            if viewer.may(f"{action.permission}_webhookevent") and action.affects(row)
        ]

    @property
    def rows(self) -> Any:
        return self.viewer.rows(self.actions[0].model)

    def action(self, name: str) -> Action:
        """Return the action of this name. Raises ``Http404``, and ``PermissionDenied``."""
        kind = next((each for each in self.actions if each.name == name), None)
        if kind is None:
            raise Http404
        if not self.viewer.may(f"{kind.permission}_webhookevent"):
            raise PermissionDenied
        return kind()

    def ask_or_act(self, action: Action, rows: Any, back_url: str) -> HttpResponse:
        """Ask about the rows; once confirmed, act on those that the page asked about."""
        if "confirmed" not in self.request.POST:
            return self.ask(action, rows, back_url)
        wanted = filter(is_key, self.request.POST.get("keys", "").split(","))
        confirmed = self.rows.filter(pk__in=list(wanted)[:MAX_SELECTED]).order_by("pk")
        self.act(action, list(confirmed.values_list("pk", flat=True)))
        return HttpResponseRedirect(back_url)

    def ask(self, action: Action, rows: Any, back_url: str) -> HttpResponse:
        """Ask about the rows to which there is something to do; without any, say so."""
        keys = list(rows.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        chosen = self.rows.filter(pk__in=keys[:MAX_SELECTED]).order_by("pk")
        if action.model is WebhookEvent:
            chosen = chosen.defer("body").prefetch_related("calls")
        affected = [row for row in chosen if action.affects(row)]
        if not affected:
            self._tell_unaffected(len(chosen))
            return HttpResponseRedirect(back_url)
        of_calls = ngettext("%d call.", "%d calls.", len(affected))
        of_events = ngettext("%d event.", "%d events.", len(affected))
        calls = Counter(call.handler for row in affected for call in action.calls(row))
        content = Content(
            action=action,
            keys=[row.pk for row in affected],  # the rows that it would change
            handlers=sorted(calls.items()),  # each with the number of its calls
            warns=any(map(action.warns, affected)),
            affected=(of_calls if action.model is HandlerCall else of_events) % len(affected),
            unaffected=len(chosen) - len(affected),
            stays=stays(len(chosen) - len(affected)),
            has_more=len(keys) > MAX_SELECTED,  # than one action takes
            limit=grouped(MAX_SELECTED),
            seconds=MAX_SECONDS,
            back_url=back_url,
            ticket=new_ticket(),
        )
        return self.render(content, title=action.title)

    def act(self, action: Action, keys: list[int]) -> None:
        """Act on the rows until time is up, log what was changed, and say what was done.

        Once for each form: a double click must not call a handler twice.
        """
        ticket = self.request.POST.get("ticket") or new_ticket()  # a form without one is new
        if Claim.take(f"form {ticket}", TICKET_LASTS) is None:
            again = gettext("Not done again: this had been confirmed before.")
            self.viewer.tell(again, messages.INFO)
            return
        end = time.monotonic() + MAX_SECONDS
        in_time = takewhile(lambda _pk: time.monotonic() < end, keys)
        results = [action.run(pk, self.viewer.username) for pk in in_time]
        changed = [became for became in results if became]
        if changed:
            rows = {row.pk: row for row in chain.from_iterable(changed)}
            self._log(action, keys, len(changed), rows)
            self._tell_standing(action, rows.values())
        self._tell_unaffected(len(results) - len(changed))
        tell_left(self.viewer, len(keys) - len(results))

    def _tell_standing(self, action: Action, rows: Collection[Any]) -> None:
        """Say how the rows stand now; which failed, and why, is beside each in the list."""
        words = gettext("%(action)s: %(count)s %(state)s.")
        not_yet = gettext("%(action)s: %(count)s not done yet (%(state)s).")
        for (tone, word), count in Counter(map(standing_of, rows)).items():
            said = {"action": action.title, "count": grouped(count), "state": word}
            sentence = (not_yet if tone == Tone.OPEN else words) % said
            self.viewer.tell(sentence, LEVELS.get(tone, messages.SUCCESS))

    def _tell_unaffected(self, count: int) -> None:
        if count:
            self.viewer.tell(stays(count), messages.INFO)

    def _log(self, action: Action, keys: list[int], changed: int, rows: dict[int, Any]) -> None:
        """Write one entry, about the row or with the count; of calls it names the handlers."""
        words, how_many = action.log, counted(changed, "event", "events")
        if action.model is HandlerCall:
            words += f" {', '.join(sorted({row.handler for row in rows.values()}))}"
            how_many = counted(changed, "call", "calls")
        if len(keys) == 1:
            self.viewer.log(rows[keys[0]], f"{words}.")
        else:
            self.viewer.log_list(action.model, f"{words}: {how_many}.")


class ActOnEvents(ActionPage):
    """An action on one event, or on those that were selected in the list."""

    model = WebhookEvent
    actions = EVENT_ACTIONS


class ActOnCalls(ActionPage):
    """An action on one call, or on those that were selected in the list."""

    model = HandlerCall
    actions = CALL_ACTIONS


class ActOnHandler(ActionPage):
    """An action on the calls of one handler: on those that fail, or to skip it everywhere."""

    model = HandlerCall
    actions = CALL_ACTIONS
    name = "of_handler"
    route = "of-handler/<slug:name>/"

    def show(self, name: str) -> HttpResponse:  # type: ignore[override]
        action = self.action(name)
        handler = clean(self.request.GET.get("handler", ""))
        calls = self.rows.filter(handler=handler, event__is_test=False)  # as they are counted
        runs_again = name == RunCallAgain.name
        chosen = calls.failing() if runs_again else calls.unfinished() | calls.failed()
        back_url = calls_url(self.viewer, handler=handler, state=CallStateFilter.FAILING)
        return self.ask_or_act(action, chosen.order_by("pk"), back_url)


def calls_url(viewer: Viewer, **query: str) -> str:
    """Return where these calls are listed, without tests; empty where there is no such list."""
    if not viewer.may_view(HandlerCall):
        return ""
    query["test"] = TestFilter.WITHOUT
    return f"{viewer.url(HandlerCall, 'changelist')}?{urlencode(query)}"


def in_list(page: type[ActionPage], action: type[Action]) -> Any:
    """Return the action as the list offers it."""

    @admin.action(permissions=[action.permission], description=action.title)
    def act(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        asking = page(model_admin.viewer(request))
        chosen = queryset.order_by("pk")
        return asking.ask_or_act(asking.action(action.name), chosen, request.get_full_path())

    act.__name__ = action.name
    return act
