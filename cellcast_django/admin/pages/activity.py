"""The activity: who did what in this app's part of the admin, from Django's own log."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse

from cellcast_django.admin.display.texts import counted, today
from cellcast_django.admin.lists.export import csv_of
from cellcast_django.admin.lists.paging import is_key
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.models import WebhookEvent

PERMISSION = "cellcast_django.view_activity"

MAX_ROWS = 10_000
"""How many of the log's newest rows are read: it has no index that finds those of one app."""

PER_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Something that a person did."""

    pk: int
    at: datetime
    person: str
    action: str
    subject: str
    """What it was done to: a row, or the plural of a model for many rows or none."""
    url: str
    """The page of the row; empty without one, or for those who may not view it."""


@dataclass(frozen=True, kw_only=True)
class ActivityPage:
    """A page of activities, newest first."""

    activities: list[Activity]
    people: list[tuple[int, str]]
    """Everybody who did something, by key and username."""
    chosen_person: int | None
    older_url: str
    csv_url: str


def details(page_admin: ReadOnlyAdmin, request: HttpRequest) -> ActivityPage:
    """Return the page that the query string asks for."""
    person = _key(request, "person")
    before = _key(request, "before")
    entries = _entries()
    chosen = _narrowed(entries, person)
    if before is not None:
        chosen = chosen.filter(pk__lt=before)
    rows = list(chosen[: PER_PAGE + 1])
    shown = list(_activities(page_admin, request, rows[:PER_PAGE]))
    query = f"person={person}" if person else ""
    return ActivityPage(
        activities=shown,
        people=sorted(_people(entries), key=itemgetter(1)),
        chosen_person=person,
        older_url=f"?{query}&before={shown[-1].pk}" if len(rows) > PER_PAGE else "",
        csv_url=f"?{query}&format=csv",
    )


def as_csv(page_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Return all that the page leads to as a file, and record that it was taken."""
    rows = list(_narrowed(_entries(), _key(request, "person")))
    exported = counted(len(rows), "row", "rows")
    page_admin.log_list(request, WebhookEvent, f"Exported the activity: {exported}.")
    heading = ("at", "person", "action", "object", "object_id")
    lines = (
        (entry.action_time, str(entry.user), _words(entry), entry.object_repr, entry.object_id)
        for entry in rows
    )
    return csv_of(f"activity-{today():%Y-%m-%d}.csv", [heading, *lines])


def _people(entries: QuerySet[LogEntry]) -> Iterator[tuple[int, str]]:
    keys = entries.order_by().values_list("user_id", flat=True).distinct()
    for pk, user in get_user_model()._default_manager.in_bulk(list(keys)).items():
        yield pk, str(user)


def _key(request: HttpRequest, name: str) -> int | None:
    value = request.GET.get(name, "")
    return int(value) if is_key(value) else None


def _entries() -> QuerySet[LogEntry]:
    """Return the log's entries about this app, newest first, among its newest rows."""
    newest = LogEntry.objects.aggregate(pk=Max("pk"))["pk"] or 0
    types = ContentType.objects.filter(app_label=WebhookEvent._meta.app_label)
    entries = LogEntry.objects.filter(pk__gt=newest - MAX_ROWS)
    keys = list(types.values_list("pk", flat=True))
    return entries.filter(content_type__in=keys).order_by("-pk").select_related("user")


def _narrowed(entries: QuerySet[LogEntry], person: int | None) -> QuerySet[LogEntry]:
    return entries if person is None else entries.filter(user=person)


def _words(entry: LogEntry) -> str:
    """Return what was done: our own words, or Django's for what its pages add."""
    return entry.get_change_message() or entry.get_action_flag_display()


def _activities(
    page_admin: ReadOnlyAdmin, request: HttpRequest, entries: Iterable[LogEntry]
) -> Iterator[Activity]:
    rows = list(entries)
    urls = _urls(page_admin, request, rows)
    for entry in rows:
        yield Activity(
            pk=entry.pk,
            at=entry.action_time,
            person=str(entry.user),
            action=_words(entry),
            subject=entry.object_repr,
            url=urls.get((entry.content_type_id, entry.object_id), ""),
        )


def _urls(
    page_admin: ReadOnlyAdmin, request: HttpRequest, entries: list[LogEntry]
) -> dict[tuple[int | None, str | None], str]:
    """Return the pages of the rows that are still there and that this person may view."""
    urls: dict[tuple[int | None, str | None], str] = {}
    for model in apps.get_app_config(WebhookEvent._meta.app_label).get_models():
        content_type = ContentType.objects.get_for_model(model, for_concrete_model=False)
        keys = {
            entry.object_id
            for entry in entries
            if entry.content_type_id == content_type.pk and is_key(entry.object_id or "")
        }
        if not keys or not page_admin.may_view(request, model):
            continue
        for pk in (
            page_admin.rows_of(request, model).filter(pk__in=keys).values_list("pk", flat=True)
        ):
            urls[content_type.pk, str(pk)] = page_admin.url_of(model, "change", pk)
    return urls
