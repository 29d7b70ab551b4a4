"""The base of every ``ModelAdmin`` here: read-only pages that stay fast with large tables."""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, ClassVar

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_permission_codename
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import DateTimeField, ForeignKey, Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, override

from cellcast_django.admin.contacts import contacts_ending_with, contacts_named
from cellcast_django.admin.display.badges import state_badge
from cellcast_django.admin.display.texts import exact_seconds
from cellcast_django.admin.lists.paging import CappedChangeList, CappedPaginator
from cellcast_django.conf import conf
from cellcast_django.models import Message, WebhookEvent, contact_of, username_of
from cellcast_django.payloads import clean

MAX_SECONDS = 20  # an action starts nothing later: a person and a web worker are waiting
MAX_WORDS = 20  # more words are ignored: each adds a condition, and databases limit those
QUOTES = " \"'“”"


def as_meant(term: str) -> str:
    """Return a term without what gets copied along: quotes, ``tel:``, capitals in an id."""
    return term.strip(QUOTES).lower().removeprefix("tel:")


MAX_KEYS = 1_000  # with more matches, the conditions go into the statement instead of the keys


def narrow_to_any(queryset: QuerySet[Any], *parts: QuerySet[Any]) -> QuerySet[Any]:
    """Narrow to the rows in any of ``parts``, each of which an index finds quickly.

    The keys are looked up first. Given the conditions instead, a database may expect more matches
    than there are, and walk through the whole table in the order of the list to fill a page. With
    many matches a page fills quickly: then the conditions are used, of the parts that have rows.
    """
    keys: set[int] = set()
    found = []
    for part in parts:
        rows = part.using(queryset.db)
        if part_keys := rows.order_by().values_list("pk", flat=True)[: MAX_KEYS + 1]:
            keys.update(part_keys)
            found.append(rows)
    if len(keys) <= MAX_KEYS:
        return queryset.filter(pk__in=keys)
    return queryset & reduce(or_, found)


def spellings(number: str) -> set[str]:
    """Return how a number may be stored: normalised if it is valid, otherwise as written."""
    return {number, contact_of(number)}


if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:  # on Django 5.2 it cannot be subscripted
    ModelAdmin = admin.ModelAdmin


LINKED_LOOKUPS = {"message__id__exact"}
FILTER_LOOKUPS = {"exact", "gte", "in", "isnull", "lt", "year", "month", "day"}
"""Lookups of Django's own filters, which a subclass may add."""


class ReadOnlyAdmin(ModelAdmin):
    """Lists newest first, finds by exact phone number or id, and changes nothing.

    An index must serve every filter, search and order; the tests check the query plans.
    """

    list_defer: ClassVar[Sequence[str]] = ()
    """Columns that the list does not load."""
    list_per_page = 50
    paginator = CappedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css = {"all": ["cellcast_django/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds by hand what Cellcast has not reported."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes what Cellcast has reported."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes by hand; ``cellcast_prune`` deletes by age."""
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow the lookups of this list's filters, and of links between the app's own pages.

        Django allows every lookup on every column, and a regular expression can run for minutes.
        """
        filters = self.get_list_filter(request)
        if lookup in LINKED_LOOKUPS.union(*map(_parameters_of, filters)):
            return True
        fields = {self.date_hierarchy, *map(_field_of, filters)} - {None}
        field_path, _, kind = lookup.rpartition("__")
        is_of_a_filter = {lookup, field_path, field_path.partition("__")[0]} & fields
        return bool(is_of_a_filter) and (lookup in fields or kind in FILTER_LOOKUPS)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CappedChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find exactly: a number in any spelling, or an id."""
        term = clean(search_term)
        if not term.strip():
            return queryset, False
        return self.find(request, queryset, term), False

    def find(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        rows = self.get_queryset(request)
        return narrow_to_any(queryset, *map(rows.filter, [*self.exact(term), *self.named(term)]))

    def exact(self, term: str) -> list[Q]:
        """Return the numbers and ids that ``term`` may be."""
        # As stored, perhaps with white space at an end; as people type it; as they copy it.
        terms = dict.fromkeys([term, term.strip(), as_meant(term)])
        meanings = [meaning for each in terms for meaning in self.meanings(each)]
        ending = contacts_ending_with(as_meant(term))
        return [*meanings, self.about(ending)] if ending else meanings

    def named(self, term: str) -> list[Q]:
        """Return what is about the customers whose name ``term`` may be."""
        contacts = contacts_named(term.strip(QUOTES))
        return [self.about(contacts)] if contacts else []

    def meanings(self, term: str) -> list[Q]:
        """Return what ``term`` may mean; an index serves each condition."""
        return [Q(cellcast_id=term), self.about(spellings(term))]

    def about(self, contacts: Collection[str]) -> Q:
        return Q(contact__in=contacts)

    @property
    def nothing_found(self) -> str:
        if conf.default_region == "AU":
            numbers = gettext(
                "Of a phone number, the last six digits are enough; ids must be complete."
            )
        else:
            numbers = gettext("Phone numbers and ids must be complete.")
        names = (
            "" if conf.contact_search else gettext("Names are not searched here: use the number.")
        )
        return " ".join(filter(None, [gettext("Nothing found."), numbers, names]))

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        found = super().get_object(request, *args, **kwargs)
        if found is not None:
            self.attach_reader(request, [found])
        return found

    def attach_reader(self, request: HttpRequest, rows: Iterable[Any]) -> None:
        """Note on each row which models' pages its reader may open, for ``link_to``.

        And whether it is about a message that this site does not show to this person.
        """
        models = apps.get_app_config(self.opts.app_label).get_models()
        viewable = {model for model in models if self.may_view(request, model)}
        hidden = self._hidden_messages(request, rows)
        for row in rows:
            row.hides_message = getattr(row, "message_id", None) in hidden
            row.viewable = viewable - {Message} if row.hides_message else viewable

    def _hidden_messages(self, request: HttpRequest, rows: Iterable[Any]) -> set[int]:
        """Return the messages of these rows that the host project's own class leaves out."""
        keys = {row.message_id for row in rows if getattr(row, "message_id", None) is not None}
        is_registered = self.admin_site.is_registered(Message)
        if not keys or not is_registered or not self.is_restricted(request, Message):
            return set()
        shown = self.rows_of(request, Message).filter(pk__in=keys)
        return keys.difference(shown.values_list("pk", flat=True))

    def is_restricted(self, request: HttpRequest, model: type[Model]) -> bool:
        """Whether the host project's own class hides some rows of a model."""
        return bool(self.rows_of(request, model).query.where)

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Show times to the second with their zone, and links to rows that the reader may open."""
        shown = {
            field.name: self._shown(field)
            for field in self.opts.fields
            if isinstance(field, (DateTimeField, ForeignKey))
        }

        def replaced(field: Any) -> Any:
            if isinstance(field, (list, tuple)):
                return [replaced(each) for each in field]
            return shown.get(field, field)

        return [
            (name, options | {"fields": replaced(options["fields"])})
            for name, options in super().get_fieldsets(request, obj)
        ]

    def _shown(self, field: Any) -> Callable[[Any], str]:
        """Return a display function under the field's own name and label."""

        def shown(row: Any) -> str:
            value = getattr(row, field.name)
            if value is None:
                return self.get_empty_value_display()
            if isinstance(value, Model):
                return self.link_to(row, value, str(value))
            return exact_seconds(value)

        shown.__name__ = field.name
        return admin.display(description=field.verbose_name)(shown)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Model | None = None,
    ) -> HttpResponse:
        context |= self.details(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def details(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return what the template of the detail page shows beside the fields."""
        return {}

    def nothing_here(self, request: HttpRequest) -> str:
        """Return what an empty list says; ``""`` if the site has to be set up first."""
        return ""

    def export_url(self, request: HttpRequest, query_string: str) -> str:
        """Return the link to the list as a file; empty if it cannot be exported."""
        return ""

    def prefetch(self, rows: Any) -> None:
        """Query what all rows of the list need, once per page."""

    def page_pattern(
        self, route: str, view: Callable[..., HttpResponseBase], name: str
    ) -> URLPattern:
        """Return the URL pattern of a page, which ``url_of`` finds by this name."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        return path(route, self.admin_site.admin_view(view), name=name)

    def render_page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        """Render a template of this app with what every page of the admin needs."""
        request.current_app = self.admin_site.name
        shared = self.admin_site.each_context(request) | {"opts": self.opts, "media": self.media}
        return TemplateResponse(request, f"admin/{template}", shared | context)

    def may(self, request: HttpRequest, action: str) -> bool:
        codename = get_permission_codename(action, self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    def username(self, request: HttpRequest) -> str:
        """Return who it is, as it is stored."""
        return username_of(request.user.get_username())

    def require(self, request: HttpRequest, *actions: str) -> None:
        """Raise ``PermissionDenied`` unless this person may view the rows and do this to them."""
        may = [self.has_view_permission(request), *(self.may(request, each) for each in actions)]
        if not all(may):
            raise PermissionDenied

    def log_list(self, request: HttpRequest, model: type[Model], message: str) -> None:
        """Record in the admin's log what was done with too many rows to name each."""
        with override("en"):  # people of any language read the log
            name = str(model._meta.verbose_name_plural)
        user: Any = request.user
        LogEntry.objects.create(
            user=user,
            content_type=ContentType.objects.get_for_model(model, for_concrete_model=False),
            action_flag=CHANGE,
            change_message=message,
            object_repr=name,
        )

    def rows_of(self, request: HttpRequest, model: type[Model]) -> QuerySet[Any]:
        """Return the rows of another model that this site shows to this person."""
        return self.admin_site.get_model_admin(model).get_queryset(request)

    def may_view(self, request: HttpRequest, model: type[Model]) -> bool:
        site = self.admin_site
        if not site.is_registered(model):
            return False
        return site.get_model_admin(model).has_view_permission(request)

    def has_our_pages(self, model: type[Model]) -> bool:
        """Whether the site's class for a model is one of ours: a host project's has other URLs."""
        return isinstance(self.admin_site.get_model_admin(model), ReadOnlyAdmin)

    def shows_all_of(self, request: HttpRequest, model: type[Model]) -> bool:
        """Whether this person may view all rows of a model: then figures may count them."""
        return self.may_view(request, model) and not self.is_restricted(request, model)

    def link_to(self, row: Any, obj: Model, text: str) -> str:
        """Return ``text`` as a link to ``obj``, if the reader of ``row`` may open its page."""
        if not self.may_follow(row, type(obj)):
            return text
        return format_html('<a href="{}">{}</a>', self.url_of(type(obj), "change", obj.pk), text)

    def event_state(self, row: Any, event: WebhookEvent) -> SafeString | str | None:
        """Return the badge of an event's state, as a link to the event that it waits for."""
        shown = state_badge(event)
        if shown is None or event.state != event.State.PENDING or event.waiting_for is None:
            return shown
        return self.link_to(row, WebhookEvent(pk=event.waiting_for), shown)

    def may_follow(self, row: Any, model: type[Model]) -> bool:
        """Whether the reader of ``row`` may open the pages of a model."""
        return model in getattr(row, "viewable", ())

    def url_of(self, model: type[Model], page: str, *arguments: Any) -> str:
        options = self.admin_site.get_model_admin(model).opts
        name = f"admin:{options.app_label}_{options.model_name}_{page}"
        return reverse(name, args=arguments, current_app=self.admin_site.name)


def _parameters_of(list_filter: Any) -> set[str | None]:
    """Return the query parameters of a ``SimpleListFilter``, or of one with a range."""
    return {getattr(list_filter, "parameter_name", None), *getattr(list_filter, "RANGE", ())}


def _field_of(list_filter: Any) -> str | None:
    """Return the field of one of Django's own filters, which a subclass may add."""
    field = list_filter[0] if isinstance(list_filter, (list, tuple)) else list_filter
    return field if isinstance(field, str) else None
