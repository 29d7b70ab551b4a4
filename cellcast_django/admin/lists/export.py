"""Lists as CSV files: everything that filters and search find, in constant memory."""

import csv
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from io import StringIO
from operator import attrgetter
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.handlers.asgi import ASGIRequest
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext

from cellcast_django.admin.display.texts import counted
from cellcast_django.admin.lists.paging import chunks
from cellcast_django.admin.page import Page
from cellcast_django.error_reports import hides_variables

CHUNK_SIZE = 50  # rows in memory at a time: each may have a text as long as a webhook's body
BYTE_ORDER_MARK = "\ufeff"  # without it, Excel does not recognise UTF-8


class Export(Page):
    """What a list shows for the same query string, all pages of it, as a file."""

    name = "export"
    only_takes_forms = True  # the log says who took it
    model: ClassVar[type[Model]]
    columns: ClassVar[dict[str, Callable[[Any], Any]]]
    """The heading of each column, and how to get its value."""

    def show(self) -> HttpResponseBase:
        model_admin: Any = self.viewer.site.get_model_admin(self.model)
        try:
            changelist = model_admin.get_changelist_instance(self.request)
        except IncorrectLookupParameters:  # Django's own list then has ?e=1, too
            return HttpResponseRedirect(f"{self.viewer.url(self.model, 'changelist')}?e=1")
        meta = self.model._meta
        one, several = str(meta.verbose_name), str(meta.verbose_name_plural)
        rows = counted(changelist.result_count, one, several)
        self.viewer.log_list(self.model, f"Exported {rows}.")
        name = f"{meta.model_name}s-{timezone.localdate():%Y-%m-%d}.csv"
        order = str(model_admin.get_ordering(self.request)[0])
        found = changelist.queryset.select_related(None).defer(None)  # a file may have all columns
        return csv_of(self.request, name, self.columns, values_of(found, order, self.columns))


Lines = Iterable[Iterable[Any]]


def csv_of(
    request: HttpRequest, name: str, heading: Iterable[str], parts: Iterable[Lines]
) -> StreamingHttpResponse:
    """Return lines of values as a file of this name, a part in memory at a time."""

    def lines() -> Iterator[str]:
        yield BYTE_ORDER_MARK + _line(heading)
        for part in parts:
            yield "".join(_line(map(cell, values)) for values in part)

    return streamed(request, lines(), name=name, content_type="text/csv; charset=utf-8")


def values_of(
    queryset: QuerySet[Any], order: str, columns: dict[str, Callable[[Any], Any]]
) -> Iterator[Lines]:
    """Yield the values of rows, ``CHUNK_SIZE`` rows at a time."""
    for rows in chunks(queryset, order, CHUNK_SIZE):
        yield ([value(row) for value in columns.values()] for row in rows)
        for row in rows:  # each and what was prefetched for it would keep each other in memory
            vars(row).pop("_prefetched_objects_cache", None)


def streamed(
    request: HttpRequest, lines: Iterator[str], *, name: str, content_type: str
) -> StreamingHttpResponse:
    """Return the lines as a file to download, in constant memory.

    If an error ends them too soon, the file's last line says so: the status has been sent, and a
    proxy may not pass on that the connection broke.
    """
    parts = _whole_or_marked(lines)
    return StreamingHttpResponse(
        # Django buffers the whole file if the server iterates in the other way.
        _asynchronously(parts) if isinstance(request, ASGIRequest) else parts,
        content_type=content_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def columns(*names: str) -> dict[str, Callable[[Any], Any]]:
    """Return columns with the model's attributes of these names."""
    return {name: attrgetter(name) for name in names}


def cell(value: Any) -> str:
    """Return a value for the file, safe from being run as a formula by a spreadsheet."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return timezone.localtime(value).isoformat()
    return harmless(str(value))


FORMULA_SIGNS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")  # the same in full width, too
SPACES_THAT_SPLIT = frozenset("\t\r\n")  # so what follows may begin a cell


def harmless(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run as a formula.

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


def _whole_or_marked(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines, and if an error ends them a line that says so before it is raised."""
    next_line = hides_variables(partial(next, lines, None))
    try:
        # Not a loop, whose variable would show error trackers the last rows.
        yield from iter(next_line, None)
    except Exception:
        # The frames that error trackers report hold what was yielded last: this, and no customer.
        yield _line([gettext("This file is incomplete: an error ended it. Export it again.")])
        raise


async def _asynchronously(lines: Iterator[str]) -> AsyncIterator[str]:
    next_line = sync_to_async(partial(next, lines, None))
    while (line := await next_line()) is not None:
        yield line
