"""Page through rows newest first: each page starts where the last ended, unlike ``OFFSET``."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext

from cellcast_django.admin.customers import searches_names
from cellcast_django.admin.display.texts import grouped
from cellcast_django.admin.extension import Link, Panel, extension_of
from cellcast_django.admin.lists.search import Note, nothing_found

if TYPE_CHECKING:
    AnyPaginator = Paginator[Any]
else:  # on Django 5.2 it cannot be subscripted
    AnyPaginator = Paginator


class RowCount(int):
    """A count of rows, which Django's templates show as ``10,000+`` if it is capped."""

    is_capped = False

    def __str__(self) -> str:
        return f"{grouped(int(self))}+" if self.is_capped else grouped(int(self))


class CappedPaginator(AnyPaginator):
    """Counts up to ``MAX_COUNT`` rows, and pages through as many."""

    MAX_COUNT = 10_000

    @cached_property
    def count(self) -> int:
        return min(self._count_beyond_cap, self.MAX_COUNT)

    @property
    def is_capped(self) -> bool:
        return self._count_beyond_cap > self.MAX_COUNT

    @cached_property
    def _count_beyond_cap(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: self.MAX_COUNT + 1].count())


class CappedChangeList(ChangeList):
    """A changelist that counts up to a cap and defers the long columns it does not show."""

    model_admin: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What it holds. Django's says that somebody is to select something in it.
        self.title = str(capfirst(self.opts.verbose_name_plural))

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: Any = None
    ) -> QuerySet[Any, Any]:
        rows = super().get_queryset(request, exclude_parameters)
        own = self.model_admin
        return rows.defer(*own.list_defer).prefetch_related(*own.list_prefetch)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any, Any]) -> list[Any]:
        """Keep the order of the indexes, whatever the query string asks for."""
        return list(self.model_admin.get_ordering(request))

    def get_results(self, request: HttpRequest) -> None:
        """Set what the list's template and columns need."""
        super().get_results(request)
        self.viewer = self.model_admin.viewer(request)
        self._cap_counts()
        if self.model_admin.search_type.finds_customers and searches_names():
            words = gettext("%(help)s Names are searched too.")
            self.search_help_text = words % {"help": self.search_help_text}
        self.search_notes: Sequence[Note] = getattr(request, "cellcast_search_notes", ())
        self._bind_columns()

    def _cap_counts(self) -> None:
        """Show a count only after a search or filter: Django does if it is not the full one."""
        self.result_count = RowCount(self.result_count)
        self.result_count.is_capped = self.paginator.is_capped
        self.show_admin_actions = self.result_count > 0
        is_narrowed = bool(self.query) or self.has_active_filters
        if self.paginator.is_capped or not is_narrowed:
            self.full_result_count = self.result_count

    def _bind_columns(self) -> None:
        """Give the columns all rows of this page, so that they look up at once what they need."""
        filters = {getattr(spec, "parameter_name", "") for spec in self.filter_specs}
        has_several = "own_number" in filters  # with one number of yours it is hidden
        rows = self.model_admin.rows_type(self.viewer, self.result_list, has_several=has_several)
        self.list_display = [rows.bound(each) for each in self.list_display]
        if self.list_display_links is not None:  # as it is where no column is a link
            self.list_display_links = [rows.bound(each) for each in self.list_display_links]

    @cached_property
    def export_url(self) -> str:
        """Leads to all these rows as a file; empty if this person may not export."""
        for page in self.model_admin.pages:
            if page.name == "export" and page(self.viewer).is_allowed:
                return str(page.url(self.viewer)) + self.get_query_string({"all": None})
        return ""

    @cached_property
    def links(self) -> Sequence[Link]:
        """To the pages that another app has added."""
        return extension_of(self.viewer.site).links(self.viewer)

    def panels(self) -> Sequence[Panel]:
        """Return what an empty list shows that has no words of its own."""
        if self.model_admin.nothing_here:
            return ()
        return extension_of(self.viewer.site).panels_of_empty_list(self.viewer)

    def nothing_found(self) -> str:
        finds_customers = self.model_admin.search_type.finds_customers
        words = nothing_found() if finds_customers else gettext("Nothing found.")
        return words if self.query and not self.result_count else ""


def older_than(queryset: QuerySet[Any], field: str, time: datetime, pk: int) -> QuerySet[Any]:
    """Narrow to the rows that follow this one when the newest come first."""
    is_older = Q(**{f"{field}__lt": time}) | Q(pk__lt=pk)
    return queryset.filter(is_older, **{f"{field}__lte": time})  # lets an index find the start


def chunks(queryset: QuerySet[Any], order: str, size: int) -> Iterator[list[Any]]:
    """Yield all rows in lists of this size, ordered by ``"-pk"`` or by a time and the key.

    A server-side cursor would do on PostgreSQL, but MariaDB's client reads the whole result.
    """
    field = order.removeprefix("-")
    queryset = queryset.order_by(*dict.fromkeys([order, "-pk"]))
    rest = queryset
    while rows := list(rest[:size]):
        yield rows
        last = rows[-1]
        if field == "pk":
            rest = queryset.filter(pk__lt=last.pk)
        else:
            rest = older_than(queryset, field, getattr(last, field), last.pk)


def is_key(text: str) -> bool:
    """Whether a text from a URL or form can be a primary key on every database."""
    return text.isascii() and text.isdecimal() and len(text) <= 18  # which fits in 64 bits


def key_in(query: Mapping[str, str], name: str) -> int | None:
    """Return the key that a URL or form has under a name; ``None`` for anything but a key."""
    text = query.get(name, "")
    return int(text) if is_key(text) else None
