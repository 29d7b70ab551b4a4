"""Lists of large tables: rows are counted up to a cap, and only shown columns are loaded."""

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
    """A number of rows, which Django's templates show as ``10,000+`` where there are more."""

    is_capped = False

    def __str__(self) -> str:
        """Return the number as people write it."""
        return f"{figure(int(self))}+" if self.is_capped else figure(int(self))


class CappedPaginator(AnyPaginator):
    """Counts no further than ``MAX_COUNT``, and pages through as many rows."""

    MAX_COUNT = 10_000

    @cached_property
    def count(self) -> int:
        """How many rows there are, at most ``MAX_COUNT``."""
        return min(self._count_beyond_cap, self.MAX_COUNT)

    @property
    def is_capped(self) -> bool:
        """Whether there are more rows than ``count`` says."""
        return self._count_beyond_cap > self.MAX_COUNT

    @property
    def cap(self) -> str:
        """``MAX_COUNT`` as people write it."""
        return figure(self.MAX_COUNT)

    @cached_property
    def _count_beyond_cap(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: self.MAX_COUNT + 1].count())


class CappedChangeList(ChangeList):
    """A list that does not know how many rows there are in all, and loads what it shows."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: Any = None
    ) -> QuerySet[Any, Any]:
        """Leave out the columns that may be long and are not shown."""
        left_out: Sequence[str] = self.model_admin.list_defer  # type: ignore[attr-defined]
        return super().get_queryset(request, exclude_parameters).defer(*left_out)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any, Any]) -> list[Any]:
        """Keep to the order that the indexes have, whatever the address says."""
        return list(self.model_admin.get_ordering(request))

    export_url = ""
    """The address of all these rows as a file; empty where there is none for this person."""

    def get_results(self, request: HttpRequest) -> None:
        """Say a number beside the search box only where it is one that was asked for."""
        super().get_results(request)
        self.result_count = RowCount(self.result_count)
        self.result_count.is_capped = self.paginator.is_capped
        query_string = self.get_query_string(remove=["p", "all"])
        self.export_url = self.model_admin.export_url(request, query_string)  # type: ignore[attr-defined]
        self.model_admin.prepare(self.result_list)  # type: ignore[attr-defined]
        self.show_admin_actions = self.result_count > 0
        is_narrowed = bool(self.query) or self.has_active_filters
        if self.paginator.is_capped or not is_narrowed:
            self.full_result_count = self.result_count
