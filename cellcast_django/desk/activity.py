"""The activity: who did what in this app's part of the admin, from Django's own log."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db.models import Max, QuerySet
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import counted, today
from cellcast_django.admin.lists.export import csv_of
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.desk.page import DeskPage
from cellcast_django.models import WebhookEvent

MAX_ROWS = 10_000
"""How many of the log's newest rows are read: it has no index that finds those of one app."""

PER_PAGE = 100


@shown
class Activity:
    """One row of the log."""

    entry: LogEntry
    url: str
    """Leads to what it is about, if this person may view that."""


@shown
class ActivityContent:
    """A page of the log."""

    activities: Sequence[Activity]
    people: Sequence[tuple[Any, str]]
    chosen_person: Any
    older_url: str
    csv_url: str


class ActivityPage(DeskPage):
    """The newest rows of the log, of everybody or of one person, as a page or as a file."""

    name = "activity"
    permissions = ("view_activity",)
    title = _("Activity")
    template = "cellcast_desk/activity.html"

    def show(self) -> HttpResponse:
        entries = _entries()
        people = _people(entries)
        before, asked = (self.request.GET.get(name, "") for name in ("before", "person"))
        person = next((key for key in people if str(key) == asked), None)
        chosen = entries if person is None else entries.filter(user=person)
        if self.request.GET.get("format") == "csv":
            return self.as_csv(chosen)
        if is_key(before):
            chosen = chosen.filter(pk__lt=int(before))
        rows = list(chosen[: PER_PAGE + 1])
        shown = rows[:PER_PAGE]
        urls = self._urls(shown)
        query = f"person={person}" if person else ""
        content = ActivityContent(
            activities=[
                Activity(entry, urls.get((entry.content_type_id, entry.object_id), ""))
                for entry in shown
            ],
            people=sorted(people.items(), key=itemgetter(1)),
            chosen_person=person,
            older_url=f"?{query}&before={shown[-1].pk}" if len(rows) > PER_PAGE else "",
            csv_url=f"?{query}&format=csv",
        )
        return self.render(content)

    def as_csv(self, entries: QuerySet[LogEntry]) -> HttpResponse:
        """Return all that the page leads to as a file, and record that it was taken."""
        rows = list(entries)
        exported = counted(len(rows), "row", "rows")
        self.viewer.log_list(WebhookEvent, f"Exported the activity: {exported}.")
        heading = ("at", "person", "action", "object", "object_id")
        lines = (
            (
                entry.action_time,
                str(entry.user),
                entry.get_change_message() or entry.get_action_flag_display(),
                entry.object_repr,
                entry.object_id,
            )
            for entry in rows
        )
        return csv_of(f"activity-{today():%Y-%m-%d}.csv", [heading, *lines])

    def _urls(self, entries: list[LogEntry]) -> dict[tuple[int | None, str | None], str]:
        urls: dict[tuple[int | None, str | None], str] = {}
        for model in apps.get_app_config(WebhookEvent._meta.app_label).get_models():
            content_type = ContentType.objects.get_for_model(model, for_concrete_model=False)
            keys = {
                entry.object_id
                for entry in entries
                if entry.content_type_id == content_type.pk and is_key(entry.object_id or "")
            }
            if not keys or not self.viewer.may_view(model):
                continue
            rows = self.viewer.rows(model).filter(pk__in=keys)
            for pk in rows.values_list("pk", flat=True):
                urls[content_type.pk, str(pk)] = self.viewer.url(model, "change", pk)
        return urls


def _entries() -> QuerySet[LogEntry]:
    """Return the log's entries about this app, newest first, among its newest rows."""
    newest = LogEntry.objects.aggregate(pk=Max("pk"))["pk"] or 0
    types = ContentType.objects.filter(app_label=WebhookEvent._meta.app_label)
    entries = LogEntry.objects.filter(pk__gt=newest - MAX_ROWS)
    keys = list(types.values_list("pk", flat=True))
    return entries.filter(content_type__in=keys).order_by("-pk").select_related("user")


def _people(entries: QuerySet[LogEntry]) -> dict[Any, str]:
    keys = entries.order_by().values_list("user_id", flat=True).distinct()
    users = get_user_model()._default_manager.in_bulk(list(keys))
    return {key: str(user) for key, user in users.items()}
