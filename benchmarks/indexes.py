"""Measures what each index costs a webhook: the inbox's own statement with it and without it.

What counts is the CPU time of the server's process, which neighbours change less than the clock.
"""

import argparse
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import django
import psycopg
from django.db import connection

from benchmarks.filling import TABLES
from benchmarks.load import REPORT
from benchmarks.progress import show
from benchmarks.servers import database
from benchmarks.sizes import address, filled, vacuum
from benchmarks.tables import print_table, short
from cellcast_django.payloads import StatusReport

if TYPE_CHECKING:
    from cellcast_django.inbox.drafts import Draft

parser = argparse.ArgumentParser(prog="python -m benchmarks.indexes", description=__doc__)
parser.add_argument("--messages", type=int, default=1_000_000, metavar="N")
parser.add_argument("--rounds", type=int, default=5, help="the table shows medians")
parser.add_argument("--webhooks", type=int, default=1_000, help="of each round")
parser.add_argument("--refill", action="store_true", help="fill the database anew")


@dataclass(frozen=True)
class Index:
    """An index as the database has it."""

    name: str
    table: str
    size: str


def main() -> None:
    """Drop each index in a transaction, store webhooks, roll back; and print the table."""
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database("postgresql", folder) as server:
        [settings] = filled(server, [options.messages], refill=options.refill).values()
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.site"
        os.environ["BENCH_DATABASE"] = json.dumps(settings)
        django.setup()
        indexes = list(found(settings))
        times: dict[str, list[tuple[float, float]]] = {index.name: [] for index in indexes}
        store(options.webhooks, dropped="")  # to warm up
        for number in range(options.rounds):
            for index in indexes:
                show(f"round {number + 1}: {index.name}")
                # Next to each other, and in both orders: the neighbours change.
                pair = [store(options.webhooks, dropped=name) for name in (index.name, "")]
                other = [store(options.webhooks, dropped=name) for name in ("", index.name)]
                times[index.name] += [(pair[0], pair[1]), (other[1], other[0])]
        show("")
        vacuum(settings)  # the pages of the admin that are measured next shall not find these rows
    print(
        f"\n{short(options.messages)} messages; microseconds of CPU for the statement of a webhook"
    )
    print_table(("index", "of", "size", "with", "without", "costs", "share"), rows(indexes, times))


def found(settings: dict[str, Any]) -> Iterator[Index]:
    """Yield the app's indexes that can be dropped: the others are keys and constraints."""
    with psycopg.connect(**address(settings)) as postgres:
        yield from (
            Index(*row)
            for row in postgres.execute(
                "SELECT indexrelid::regclass::text, replace(indrelid::regclass::text,"
                " 'cellcast_django_', ''), pg_size_pretty(pg_relation_size(indexrelid))"
                " FROM pg_index WHERE indrelid = ANY(%s::regclass[])"
                " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)"
                " ORDER BY 2, 1",
                [list(TABLES)],
            )
        )


def store(webhooks: int, *, dropped: str) -> float:
    """Return the CPU seconds of the statement for a new report, of many; nothing of it stays."""
    from cellcast_django.inbox.fast import one_statement  # Django is set up

    with connection.cursor() as cursor:
        # Not by atomic(): inside it, the app prepares no statement.
        cursor.execute("BEGIN")
        try:
            if dropped:
                cursor.execute(f"DROP INDEX {dropped}")
            one_statement.write_at_once(connection, report(), None)
            before = cpu_seconds()
            for _ in range(webhooks):
                one_statement.write_at_once(connection, report(), None)
            seconds = cpu_seconds() - before
        finally:
            cursor.execute("ROLLBACK")
    return seconds / webhooks


def cpu_seconds() -> float:
    """Return the CPU time of the server's process for this connection, as Linux counts it."""
    pid = connection.connection.info.backend_pid
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def report() -> "Draft":
    """Return the first report on a message."""
    from cellcast_django.inbox.drafts import Arrival, draft  # Django is set up

    now = datetime.now(tz=UTC)
    cellcast_id = f"{int(now.timestamp()):08x}{secrets.token_hex(8)}"
    number = f"+6140{secrets.randbelow(10_000_000):07d}"
    payload = StatusReport(
        raw=REPORT % (cellcast_id, number),
        cellcast_id=cellcast_id,
        sender="cellcast",
        receiver=number,
        status="delivered",
    )
    arrival = Arrival(
        endpoint="status",
        content_type="application/json",
        username="cellcast",
        is_test=False,
        received_at=now,
        now=now,
        has_just_arrived=True,
    )
    return draft(payload, arrival)


def rows(
    indexes: list[Index], times: dict[str, list[tuple[float, float]]]
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each index."""
    for index in indexes:
        pairs = times[index.name]
        with_all = median(present for _, present in pairs)
        costs = median(present - absent for absent, present in pairs)
        yield (
            index.name,
            index.table,
            index.size,
            f"{1e6 * with_all:,.0f}",
            f"{1e6 * median(absent for absent, _ in pairs):,.0f}",
            f"{1e6 * costs:,.0f}",
            f"{100 * costs / with_all:.0f} %",
        )


if __name__ == "__main__":
    main()
