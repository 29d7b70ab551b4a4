"""Lists as CSV files: everything that filters and search find, in constant memory."""

import csv
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from io import StringIO
from operator import attrgetter
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.urls import URLPattern

from cellcast_django.admin.display.texts import counted, localised, today
from cellcast_django.admin.lists.filters import ChoiceFilter, OwnNumberFilter
from cellcast_django.admin.lists.paging import chunks
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.payloads import clean

CHUNK_SIZE = 50  # rows in memory at a time: each may have a text as long as a webhook's body
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
BYTE_ORDER_MARK = "\ufeff"  # without it, Excel does not recognise UTF-8


class ExportAdmin(ReadOnlyAdmin):
    """A list that can be exported as a file, with a permission of its own."""

    export_columns: ClassVar[dict[str, Callable[[Any], Any]]]
    """The heading of each column, and how to get its value."""

    def get_urls(self) -> list[URLPattern]:
        return [self.page_pattern("export/", self.export_view, "export"), *super().get_urls()]

    def export_url(self, request: HttpRequest, query_string: str) -> str:
        if not self.may(request, "export"):
            return ""
        return self.url_of(self.model, "export") + query_string

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send what the list shows for the same query string, all pages of it."""
        self.require(request, "export")
        try:
            changelist = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{self.url_of(self.model, 'changelist')}?e=1")
        self.log_list(request, self.model, _export_summary(request, changelist))
        name = f"{self.opts.model_name}s-{today():%Y-%m-%d}.csv"
        lines = self._lines(request, changelist.queryset)
        return streamed(request, lines, name=name, content_type="text/csv; charset=utf-8")

    def _lines(self, request: HttpRequest, queryset: QuerySet[Any]) -> Iterator[str]:
        yield BYTE_ORDER_MARK + _line(self.export_columns)
        complete = queryset.select_related(None).defer(None)
        for rows in chunks(complete, str(self.get_ordering(request)[0]), CHUNK_SIZE):
            yield "".join(
                _line(cell(value(row)) for value in self.export_columns.values()) for row in rows
            )


def streamed(
    request: HttpRequest, lines: Iterator[str], *, name: str, content_type: str
) -> StreamingHttpResponse:
    """Return the lines as a file to download, in constant memory."""
    return StreamingHttpResponse(
        # Django buffers the whole file if the server iterates in the other way.
        _asynchronously(lines) if isinstance(request, ASGIRequest) else lines,
        content_type=content_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def csv_of(name: str, rows: Iterable[Iterable[Any]]) -> HttpResponse:
    """Return a few rows as a file of this name."""
    lines = (_line(cell(value) for value in row) for row in rows)
    return HttpResponse(
        BYTE_ORDER_MARK + "".join(lines),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _export_summary(request: HttpRequest, changelist: Any) -> str:
    """Return how many rows are exported, and by which filters.

    Only choices and days are quoted: anything else may be a number, a name or a text, and nothing
    prunes the log.
    """
    offered = {
        (each.parameter_name, choice)
        for each in changelist.filter_specs
        if isinstance(each, ChoiceFilter) and not isinstance(each, OwnNumberFilter)
        for choice, _label in each.lookup_choices
    }
    words = ", ".join(
        f"{name}={word if (name, word) in offered or DATE.fullmatch(str(word)) else '…'}"
        for name, word in sorted(request.GET.items())
    )
    rows = counted(changelist.result_count, "row", "rows")
    return clean(f"Exported {rows}{f' ({words})' if words else ''}.")


def columns(*names: str) -> dict[str, Callable[[Any], Any]]:
    """Return columns with the model's attributes of these names."""
    return {name: attrgetter(name) for name in names}


def cell(value: Any) -> str:
    """Return a value for the file, safe from being run as a formula by a spreadsheet."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return localised(value).isoformat()
    return harmless(str(value))


FORMULA_SIGNS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
SPACES_THAT_SPLIT = frozenset("\t\r\n")


def harmless(text: str) -> str:
    """Prefix a text that a spreadsheet would run as a formula with an apostrophe.

    A phone number alone (``+61400000000``) is kept: as a formula it is the same number, and other
    programs read the file too. Source: owasp.org/www-community/attacks/CSV_Injection
    """
    is_number = text[:1] == "+" and text[1:].isascii() and text[1:].isdigit()
    is_formula = text.lstrip()[:1] in FORMULA_SIGNS or text[:1] in SPACES_THAT_SPLIT
    return f"'{text}" if is_formula and not is_number else text


def _line(values: Iterable[str]) -> str:
    line = StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow(values)
    return line.getvalue()


async def _asynchronously(lines: Iterator[str]) -> AsyncIterator[str]:
    def next_line() -> str | None:
        return next(lines, None)

    while (line := await sync_to_async(next_line)()) is not None:
        yield line
