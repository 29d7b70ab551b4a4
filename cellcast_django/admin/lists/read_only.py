"""The base of every ``ModelAdmin`` here: read-only pages that stay fast with large tables."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.views.main import ChangeList
from django.db.models import DateTimeField, ForeignKey, Model, QuerySet
from django.forms import Media
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern

from cellcast_django.admin.display.texts import exact_seconds
from cellcast_django.admin.extension import extension_of
from cellcast_django.admin.lists.columns import Columns
from cellcast_django.admin.lists.paging import CappedChangeList, CappedPaginator
from cellcast_django.admin.lists.search import Search
from cellcast_django.admin.page import Page, guarded
from cellcast_django.admin.viewer import Viewer
from cellcast_django.models import Message, OptOut, WebhookEvent
from cellcast_django.payloads import clean

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:  # on Django 5.2 it cannot be subscripted
    ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    """Lists newest first, finds by exact phone number or id, and changes nothing.

    An index must serve every filter, search and order; the tests check the query plans.
    """

    rows_type: ClassVar[type[Columns]]
    """Its methods are the columns."""
    search_type: ClassVar[type[Search]] = Search
    pages: ClassVar[Sequence[type[Page]]] = ()
    """Those of the model beside Django's own."""
    list_display: Any
    """Columns: functions of ``rows_type``, or what Django allows."""
    fields: ClassVar[Any]
    """Fields of the model, or functions of ``rows_type``."""
    time_field: ClassVar[str] = ""
    """What a range of days narrows."""
    list_defer: ClassVar[Sequence[str]] = ()
    """Columns that the list does not load."""
    list_prefetch: ClassVar[Sequence[str]] = ()
    """Columns of other models that the list loads with one query each."""
    nothing_here: ClassVar[Any] = ""
    """What an empty list says; ``""`` where the site has to be set up first."""
    list_per_page = 50
    paginator = CappedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    def viewer(self, request: HttpRequest) -> Viewer:
        return Viewer.of(self.admin_site, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds by hand what Cellcast has not reported."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes by hand; ``cellcast_prune`` deletes by age."""
        return False

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return self.viewer(request).may("rerun_webhookevent")

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """Show the section on the front page also to those who may open only added pages in it."""
        perms = super().get_model_perms(request)
        viewer = self.viewer(request)
        if home_of(viewer.site) is self and not any(map(viewer.may_view, (Message, OptOut))):
            # Django shows a section as soon as one of them is true, whatever its name.
            perms["pages"] = bool(extension_of(viewer.site).links(viewer))
        return perms

    @property
    def media(self) -> Media:
        files = ["cellcast_django/admin.css", *extension_of(self.admin_site).css]
        return super().media + Media(css={"all": files})

    def get_urls(self) -> list[URLPattern]:
        """Add the pages, and guard Django's own views as those are."""
        site = self.admin_site
        added = extension_of(site).pages
        own = [*self.pages, *(page for page in added if page.model is self.model)]
        if home_of(site) is self:  # one list has the pages that are of no model
            own += [page for page in added if page.model is None]
        patterns = super().get_urls()
        for pattern in patterns:
            pattern.callback = guarded(pattern.callback)
        return [*(page.pattern(site) for page in own), *patterns]

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Add those of another app, whatever ``actions`` a host project's class has."""
        where = () if action_location is None else (action_location,)  # new in Django 6.1
        actions: dict[str, Any] = super().get_actions(request, *where)
        if self.actions is None or IS_POPUP_VAR in request.GET:
            return actions
        added = extension_of(self.admin_site).actions(self.viewer(request), self.model)
        found = {each.__name__: self.get_action(each, *where) for each in added}
        # Django 6.1 has none of an action that is for another location.
        return actions | {name: action for name, action in found.items() if action}

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add those of another app, but where somebody chooses a row for another form."""
        shown = super().get_list_display(request)
        if IS_POPUP_VAR in request.GET:
            return shown
        return [*shown, *extension_of(self.admin_site).columns(self.viewer(request), self.model)]

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Add those of another app, which its pages lead to."""
        own = super().get_list_filter(request)
        return [*own, *extension_of(self.admin_site).filters(self.model)]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CappedChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find exactly: a number in any spelling, or an id."""
        term = clean(search_term)
        if not term.strip():
            return queryset, False
        rows = self.get_queryset(request)
        search = self.search_type(self.viewer(request), rows, self.paginator.MAX_COUNT)
        found = search.find(queryset, term)
        noted: Any = request  # the list asks for the rows, and gets nothing else from here
        noted.cellcast_search_notes = search.notes
        return found, False

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Show times to the second with their zone, and links to rows that the reader may open."""
        rows, empty = self.rows_type(self.viewer(request), [obj]), self.get_empty_value_display()
        functions = {
            field.name: _display_function(rows, field, empty)
            for field in self.opts.fields
            if isinstance(field, (DateTimeField, ForeignKey))
        }

        def displayed(field: Any) -> Any:
            if isinstance(field, (list, tuple)):  # several on one line
                return [displayed(each) for each in field]
            return functions.get(field) or rows.bound(field)

        fieldsets = super().get_fieldsets(request, obj)
        return [(name, own | {"fields": displayed(own["fields"])}) for name, own in fieldsets]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Model | None = None,
    ) -> HttpResponse:
        viewer = self.viewer(request)
        # What was done to a row is for those who look after the app, not after its customers.
        shows_history = viewer.may_view(WebhookEvent) or viewer.may("view_activity")
        context |= {"shows_history": shows_history} | self.details(viewer, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def details(self, viewer: Viewer, obj: Any) -> dict[str, Any]:
        """Return what the template of the detail page shows beside the fields."""
        return {}


def _display_function(rows: Columns, field: Any, empty: str) -> Callable[[Any], str]:
    """Return what Django calls to show the field of a row, under its own name and label."""

    def shown(row: Any) -> str:
        value = getattr(row, field.name)
        if value is None:
            return empty
        if isinstance(value, Model):
            return rows.link(row, value, str(value))
        return exact_seconds(value)

    shown.__name__ = field.name
    return admin.display(description=field.verbose_name)(shown)


HOMES: tuple[type[Model], ...] = (WebhookEvent, Message)
"""The app's own pages are below the list of the first of these that a site has."""


def is_ours(site: AdminSite, model: type[Model]) -> bool:
    """Whether a site's class for a model is one of these: a host project's has other pages."""
    return site.is_registered(model) and isinstance(site.get_model_admin(model), ReadOnlyAdmin)


def home_of(site: AdminSite) -> Any:
    """Return the admin that has the app's own pages on a site; ``None`` if the site has none."""
    home = next((model for model in HOMES if is_ours(site, model)), None)
    return None if home is None else site.get_model_admin(home)
