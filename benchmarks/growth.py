"""Measures whether webhooks slow down as the tables grow: throughput and p99."""

import argparse
import tempfile
from contextlib import ExitStack
from statistics import median
from typing import Any

import psycopg

from benchmarks.filling import TABLES
from benchmarks.load import Figures, steady
from benchmarks.progress import show
from benchmarks.servers import cpu_seconds, database, environment_of, serving
from benchmarks.sizes import address, filled, vacuum
from benchmarks.tables import print_table, short

HEADINGS = (
    "messages", "webhooks/s", "÷ empty", "p50 ms", "p99 ms", "p99 ÷ empty", "app CPU ms",
    "DB CPU ms", "CPU ÷ empty",
)  # fmt: skip

parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
parser.add_argument(
    "--messages", default="0,1000000,10000000", metavar="N,…", help="sizes, ascending"
)
parser.add_argument("--rounds", type=int, default=7, help="the table shows medians")
parser.add_argument("--seconds", type=int, default=6, help="of each round")
parser.add_argument("--refill", action="store_true", help="fill the databases anew")


class Run:
    """One round on one database."""

    def __init__(self, figures: Figures, app: float, database: float) -> None:
        self.rate = figures.answered / figures.seconds
        self.p50, self.p99 = figures.p50, figures.p99
        self.app, self.database = (1_000 * cpu / figures.answered for cpu in (app, database))
        self.cpu = self.app + self.database


def main() -> None:
    """Load the databases in turn, and print the table."""
    options = parser.parse_args()
    sizes = [int(size) for size in options.messages.split(",")]
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory())
        server = running.enter_context(database("postgresql", folder))
        databases = filled(server, sizes, refill=options.refill)
        for settings in databases.values():
            running.callback(clean, settings, newest_message(settings))
        sites = {
            size: running.enter_context(
                serving("app", environment_of("benchmarks.project", settings))
            )
            for size, settings in databases.items()
        }
        runs: dict[int, list[Run]] = {size: [] for size in sizes}
        for number in range(options.rounds + 1):
            for size, site in sites.items():
                app, postgres = cpu_seconds(site.pid), cpu_seconds(server.pid)
                figures = steady(site.target, seconds=options.seconds)
                if figures.errors:
                    raise RuntimeError(f"{short(size)}: {figures}")
                app, postgres = cpu_seconds(site.pid) - app, cpu_seconds(server.pid) - postgres
                if number == 0:  # to warm up
                    analyse(databases[size])
                else:
                    runs[size].append(Run(figures, app, postgres))
                    rate = runs[size][-1].rate
                    show(f"round {number}, {short(size)}: {rate:,.0f}/s")
        show("")
    print_table(HEADINGS, [row(size, runs[size], runs[sizes[0]]) for size in sizes])


def newest_message(settings: dict[str, Any]) -> int:
    """Return the highest id of a message; 0 where there is none."""
    with psycopg.connect(**address(settings)) as postgres:
        found = postgres.execute("SELECT coalesce(max(id), 0) FROM cellcast_django_message")
        [[newest]] = found.fetchall()
        return int(newest)


def clean(settings: dict[str, Any], newest: int) -> None:
    """Delete what the load has left, for the next run; a copy would take long to make."""
    with psycopg.connect(**address(settings), autocommit=True) as postgres:
        for table, key in zip(TABLES[2::-1], ("message_id", "message_id", "id"), strict=True):
            postgres.execute(f"DELETE FROM {table} WHERE {key} > {newest}".encode())
    vacuum(settings)


def analyse(settings: dict[str, Any]) -> None:
    """Do at once what autovacuum does within a minute.

    Until then a server that knows the tables as empty reads all of a table for each foreign key.
    """
    with psycopg.connect(**address(settings), autocommit=True) as postgres:
        for table in TABLES:
            postgres.execute(f"ANALYZE {table}".encode())


def row(size: int, runs: list[Run], base: list[Run]) -> list[str]:
    """Return the table's row: medians, and those of the ratios within a round."""

    def ratio(name: str) -> str:
        pairs = zip(runs, base, strict=True)
        return f"{median(getattr(a, name) / getattr(b, name) for a, b in pairs):.2f}"

    def middle(name: str) -> float:
        return median(getattr(run, name) for run in runs)

    return [
        short(size),
        f"{middle('rate'):,.0f}",
        ratio("rate"),
        f"{middle('p50'):.1f}",
        f"{middle('p99'):.1f}",
        ratio("p99"),
        f"{middle('app'):.2f}",
        f"{middle('database'):.2f}",
        ratio("cpu"),
    ]


if __name__ == "__main__":
    main()
