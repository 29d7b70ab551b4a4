"""Changelists of large tables: count rows up to a cap, and load only the columns shown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from cellcast_django.admin.display.texts import figure

if TYPE_CHECKING:
    AnyPaginator = Paginator[Any]
else:  # on Django 5.2 it cannot be subscripted
    AnyPaginator = Paginator


class RowCount(int):
    """A count of rows, which Django's templates show as ``10,000+`` if it is capped."""

    is_capped = False

    def __str__(self) -> str:
        return f"{figure(int(self))}+" if self.is_capped else figure(int(self))


class CappedPaginator(AnyPaginator):
    """Counts up to ``MAX_COUNT`` rows, and pages through as many."""

    MAX_COUNT = 10_000

    @cached_property
    def count(self) -> int:
        return min(self._count_beyond_cap, self.MAX_COUNT)

    @property
    def is_capped(self) -> bool:
        return self._count_beyond_cap > self.MAX_COUNT

    @property
    def cap(self) -> str:
        return figure(self.MAX_COUNT)

    @cached_property
    def _count_beyond_cap(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: self.MAX_COUNT + 1].count())


class CappedChangeList(ChangeList):
    """A changelist that counts up to a cap and defers the long columns it does not show."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: Any = None
    ) -> QuerySet[Any, Any]:
        deferred: Sequence[str] = self.model_admin.list_defer  # type: ignore[attr-defined]
        return super().get_queryset(request, exclude_parameters).defer(*deferred)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any, Any]) -> list[Any]:
        """Keep the order of the indexes, whatever the query string asks for."""
        return list(self.model_admin.get_ordering(request))

    export_url = ""
    """Link to all these rows as a file; empty if this person may not export."""

    def get_results(self, request: HttpRequest) -> None:
        """Show a count beside the search box only after a search or a filter."""
        super().get_results(request)
        self.result_count = RowCount(self.result_count)
        self.result_count.is_capped = self.paginator.is_capped
        query_string = self.get_query_string(remove=["p", "all"])
        self.export_url = self.model_admin.export_url(request, query_string)  # type: ignore[attr-defined]
        self.model_admin.prefetch(self.result_list)  # type: ignore[attr-defined]
        self.show_admin_actions = self.result_count > 0
        is_narrowed = bool(self.query) or self.has_active_filters
        if self.paginator.is_capped or not is_narrowed:
            self.full_result_count = self.result_count
