"""The activity: who did what in this app's part of the admin, from Django's own log."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter, itemgetter
from typing import Any, Self

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.contacts import Customer, customers
from cellcast_django.admin.display.shown import shown
from cellcast_django.admin.display.texts import counted
from cellcast_django.admin.lists.export import csv_of, values_of
from cellcast_django.admin.lists.filters import range_of
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.days import between
from cellcast_django.desk.page import DeskPage
from cellcast_django.models import Message, OptOut, WebhookEvent

PER_PAGE = 100

ACTIONS = {
    "answer": (_("messages sent"), ("Sent it", "Began", "A text")),
    "done": (_("done and reopened"), ("Marked", "Reopened")),
    "opt_out": (_("opt-outs"), ('[{"added"', "Ended")),
    "handlers": (_("handlers run or skipped"), ("Ran", "Skipped")),
    "invalid": (_("invalid events"), ("Read", "Dismissed", "Undid")),
    "export": (_("exports"), ("Exported",)),
    "test": (_("tests"), ("Sent a test", "Deleted the test data")),
}
"""What people do, and how the log's sentences about it begin."""


@dataclass(frozen=True, kw_only=True)
class ChosenEntries:
    """Which entries the page shows, as its address says."""

    person: Any = None
    action: str = ""
    days: tuple[date | None, date | None] = (None, None)

    @classmethod
    def of(cls, request: HttpRequest, people: dict[Any, str]) -> Self:
        """Read the query string, where anything unknown means nothing."""
        query = request.GET
        asked = query.get("person", "")
        action = query.get("action", "")
        return cls(
            person=next((key for key in people if str(key) == asked), None),
            action=action if action in ACTIONS else "",
            days=range_of(query),
        )

    def query(self, **more: Any) -> str:
        first, last = self.days
        chosen = {"person": self.person, "action": self.action, "from": first, "to": last, **more}
        return f"?{urlencode({name: value for name, value in chosen.items() if value})}"

    def narrow(self, entries: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        if self.person is not None:
            entries = entries.filter(user=self.person)
        if self.action:
            starts = [("change_message__startswith", each) for each in ACTIONS[self.action][1]]
            entries = entries.filter(Q(*starts, _connector=Q.OR))
        chosen: QuerySet[LogEntry] = between(entries, "action_time", *self.days)
        return chosen


@shown
class Activity:
    """One entry of the log, and what this person may know of its object."""

    entry: LogEntry
    action: str
    object: str
    customer: Customer | None
    url: str


def words_of(entry: LogEntry) -> str:
    """Return what was done."""
    return str(entry.get_change_message() or entry.get_action_flag_display())


def name_of(entry: LogEntry) -> str:
    """Return what an entry is about, in words without a number or name."""
    if entry.object_id and entry.content_type:
        return f"{entry.content_type.name} {entry.object_id}"
    return str(entry.object_repr)


@shown
class ActivityContent:
    """A page of the log."""

    activities: Sequence[Activity]
    people: Sequence[tuple[Any, str]]
    choice: ChosenEntries
    older_url: str

    actions = [(name, label) for name, (label, _starts) in ACTIONS.items()]


class ActivityPage(DeskPage):
    """The newest entries of the log, narrowed by person, action and days; as a file too."""

    name = "activity"
    permissions = ("view_activity",)
    title = _("Activity")
    template = "cellcast_desk/activity.html"

    def show(self) -> HttpResponseBase:
        entries = entries_of_app()
        people = _people(entries)
        choice = ChosenEntries.of(self.request, people)
        chosen = choice.narrow(entries)
        if self.request.method == "POST":
            return self.as_csv(chosen)
        before = self.request.GET.get("before", "")
        if is_key(before):
            chosen = chosen.filter(pk__lt=int(before))
        rows = list(chosen[: PER_PAGE + 1])
        has_more = len(rows) > PER_PAGE
        content = ActivityContent(
            activities=self.activities(rows[:PER_PAGE]),
            people=sorted(people.items(), key=itemgetter(1)),
            choice=choice,
            older_url=choice.query(before=rows[PER_PAGE - 1].pk) if has_more else "",
        )
        return self.render(content)

    def as_csv(self, entries: QuerySet[LogEntry]) -> HttpResponseBase:
        """Return all that the page leads to as a file, and record that it was taken."""
        newest = entries.order_by("-pk").values_list("pk", flat=True).first() or 0
        exported = counted(entries.count(), "entry", "entries")
        self.viewer.log_list(WebhookEvent, f"Exported the activity: {exported}.")
        columns: dict[str, Callable[[Any], Any]] = {
            "at": attrgetter("action_time"),
            "person": attrgetter("user"),
            "action": words_of,
            "object": name_of,
        }
        parts = values_of(entries.filter(pk__lte=newest), "-pk", columns)
        return csv_of(self.request, f"activity-{timezone.localdate():%Y-%m-%d}.csv", columns, parts)

    def activities(self, entries: list[LogEntry]) -> list[Activity]:
        """Return the entries with their customers, for those who may view the object."""
        found: dict[tuple[int | None, str | None], tuple[str, str]] = {}
        for model in (Message, WebhookEvent, OptOut):
            type_ = ContentType.objects.get_for_model(model, for_concrete_model=False).pk
            about = [entry.object_id or "" for entry in entries if entry.content_type_id == type_]
            keys = set(filter(is_key, about))
            if not keys or not self.viewer.may_view(model):
                continue
            rows = self.viewer.rows(model).filter(pk__in=keys)
            for pk, contact in rows.values_list("pk", "contact"):
                found[type_, str(pk)] = contact, self.viewer.url(model, "change", pk)
        known = customers(contact for contact, _url in found.values())
        activities = []
        for entry in entries:
            contact, url = found.get((entry.content_type_id, entry.object_id), ("", ""))
            words = words_of(entry), name_of(entry)
            activities.append(Activity(entry, *words, known.get(contact), url))
        return activities


def entries_of_app() -> QuerySet[LogEntry]:
    """Return the log's entries about this app's models, newest first."""
    models = apps.get_app_config(WebhookEvent._meta.app_label).get_models()
    types = ContentType.objects.get_for_models(*models, for_concrete_models=False).values()
    entries = LogEntry.objects.filter(content_type__in=[each.pk for each in types])
    return entries.order_by("-pk").select_related("user", "content_type")


def _people(entries: QuerySet[LogEntry]) -> dict[Any, str]:
    keys = entries.order_by().values_list("user_id", flat=True).distinct()
    users = get_user_model()._default_manager.in_bulk(list(keys))
    return {key: str(user) for key, user in users.items()}
