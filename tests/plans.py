"""What the database reads for a statement, in the words of whichever database it is."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from django.apps import apps
from django.db import connection

from cellcast_django.database.fields import PartialIndex

PARTIAL = [
    index.name
    for model in apps.get_app_config("cellcast_django").get_models()
    for index in model._meta.indexes
    if isinstance(index, PartialIndex)
]

HAS_STATISTICS = [True, False] if connection.vendor == "sqlite" else [True]
"""Only SQLite has none until somebody asks for them: the others look at their tables themselves."""


def gather_statistics() -> None:
    """Let the database look at its tables, as it does by itself sooner or later."""
    if connection.vendor != "mysql":  # there it would commit the test, and is kept up to date
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def scans(statement: str) -> list[str]:
    """Return the steps that read a whole table of the app, or the whole of an index.

    Left out are steps that end when a page is full, and, where there are any, partial indexes: they
    hold nothing but what is looked for.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
            steps = [str(row[-1]) for row in cursor.fetchall()]
            found = [step for step in steps if re.match(r"SCAN (cellcast|[UV]\d)", step)]
        elif connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # it would read a small table whole
            cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}")
            found = list(_scans_of(cursor.fetchone()[0][0]["Plan"]))
        else:
            cursor.execute(f"EXPLAIN {statement}")
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            return [str(row) for row in rows if _is_scan_on_mariadb(row, statement)]
    return [step for step in found if not any(name in step for name in PARTIAL)]


def _scans_of(node: dict[str, Any], *, is_limited: bool = False) -> Iterator[str]:
    kind = node["Node Type"]
    is_limited = kind == "Limit" or (is_limited and kind not in {"Sort", "Aggregate", "Hash"})
    is_scan = kind in {"Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan"}
    if is_scan and not is_limited and "Index Cond" not in node:
        step = f"{kind} of {node.get('Relation Name', '')} {node.get('Index Name', '')}"
        if "cellcast" in step:
            yield step
    for each in node.get("Plans", ()):
        yield from _scans_of(each, is_limited=is_limited)


def _is_scan_on_mariadb(row: dict[str, Any], statement: str) -> bool:
    is_ours = re.match(r"cellcast|[UV]\d", str(row["table"]))
    is_limited = "LIMIT" in statement and "filesort" not in (row["Extra"] or "")
    return bool(is_ours) and (row["type"] == "ALL" or (row["type"] == "index" and not is_limited))


def plan_of(statement: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
        return [row[-1] for row in cursor.fetchall()]


def queries_of(work: Callable[[], Any]) -> int:
    counter = [0]

    def count(execute: Callable[..., Any], *call: Any) -> Any:
        counter[0] += 1
        return execute(*call)

    with connection.execute_wrapper(count):
        work()
    return counter[0]
