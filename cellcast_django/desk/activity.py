"""The activity: who did what in this app's part of the admin, from Django's own log."""

from operator import itemgetter

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.http import HttpResponse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.customers import Customer
from cellcast_django.admin.display.shown import Content, shown
from cellcast_django.admin.lists.paging import is_key, key_in
from cellcast_django.desk.page import DeskPage
from cellcast_django.models import Message, OptOut, WebhookEvent

PER_PAGE = 100


@shown
class Activity:
    """One entry of the log, and what this person may know of the row that it is about."""

    entry: LogEntry
    customer: Customer | None
    url: str

    @property
    def words(self) -> str:
        return str(self.entry.get_change_message() or self.entry.get_action_flag_display())

    @property
    def about(self) -> str:
        """The row in words without a number or name; empty for an entry about several."""
        if not self.entry.object_id or not self.entry.content_type:
            return ""
        return f"{self.entry.content_type.name} {self.entry.object_id}"


class ActivityPage(DeskPage):
    """The newest entries of the log, of everybody or of one person."""

    name = "activity"
    permissions = ("view_activity",)
    title = _("Activity")
    template = "cellcast_desk/activity.html"

    def show(self) -> HttpResponse:
        models = apps.get_app_config(WebhookEvent._meta.app_label).get_models()
        types = ContentType.objects.get_for_models(*models, for_concrete_models=False).values()
        entries = LogEntry.objects.filter(content_type__in=[each.pk for each in types])
        users = entries.order_by().values_list("user_id", flat=True).distinct()
        people = get_user_model()._default_manager.in_bulk(list(users))
        asked = self.request.GET.get("person", "")
        person = next((key for key in people if str(key) == asked), None)
        if person is not None:
            entries = entries.filter(user=person)
        before = key_in(self.request.GET, "before")
        if before is not None:
            entries = entries.filter(pk__lt=before)
        newest = entries.order_by("-pk").select_related("user", "content_type")
        found = list(newest[: PER_PAGE + 1])
        shown = found[:PER_PAGE]
        older_url = ""
        if len(found) > PER_PAGE:
            chosen = {} if person is None else {"person": person}
            older_url = f"?{urlencode(chosen | {'before': shown[-1].pk})}"
        content = Content(
            activities=self.activities(shown),
            people=sorted(((key, str(user)) for key, user in people.items()), key=itemgetter(1)),
            person=person,  # whose entries alone are shown
            older_url=older_url,
        )
        return self.render(content)

    def activities(self, entries: list[LogEntry]) -> list[Activity]:
        """Return the entries with their customers, for those who may view the rows."""
        contacts: dict[tuple[int | None, str | None], str] = {}
        urls: dict[tuple[int | None, str | None], str] = {}
        for model in (Message, WebhookEvent, OptOut):
            type_ = ContentType.objects.get_for_model(model, for_concrete_model=False).pk
            about = [entry.object_id or "" for entry in entries if entry.content_type_id == type_]
            keys = set(filter(is_key, about))
            if not keys or not self.viewer.may_view(model):
                continue
            rows = self.viewer.rows(model).filter(pk__in=keys)
            for pk, contact in rows.values_list("pk", "contact"):
                contacts[type_, str(pk)] = contact
                urls[type_, str(pk)] = self.viewer.url(model, "change", pk)
        known = self.viewer.directory.customers(contacts.values())
        rows_of_entries = [(entry.content_type_id, entry.object_id) for entry in entries]
        return [
            Activity(entry, known.get(contacts.get(row, "")), urls.get(row, ""))
            for entry, row in zip(entries, rows_of_entries, strict=True)
        ]
