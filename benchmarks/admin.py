"""Measures the admin's pages on databases of several sizes, next to Django's own admin."""

import argparse
import gc
import json
import os
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import django
from django.conf import settings as project
from django.db import OperationalError, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from benchmarks.progress import show
from benchmarks.servers import database
from benchmarks.sizes import filled
from benchmarks.tables import ms, print_table, short

LIMIT_MS = 100
LIMIT_RATIO = 3
PATIENCE = 30
"""Seconds that a query may take: Django's own pages count and search all rows."""
SLOW = 2
"""Seconds from which on a page is asked for only once."""


@dataclass(frozen=True)
class Cost:
    """Seconds that a page took: of CPU, application and database together, and of the clock."""

    cpu: float
    clock: float


parser = argparse.ArgumentParser(prog="python -m benchmarks.admin", description=__doc__)
parser.add_argument(
    "--messages", default="0,1000,1000000,10000000", metavar="N,…", help="sizes, ascending"
)
parser.add_argument("--rounds", type=int, default=5, help="the table shows the median")
parser.add_argument("--only", default="", metavar="REGEX", help="pages with this in their name")
parser.add_argument(
    "--plain",
    default="1000000",
    metavar="N,…",
    help="sizes on which Django's own admin is asked too: it takes half a minute for ten million",
)
parser.add_argument("--plans", type=Path, metavar="FILE", help="write the plans of all queries")
parser.add_argument("--refill", action="store_true", help="fill the databases anew")


@dataclass
class Measured:
    """What one page costs on one database; no costs where it was given up."""

    queries: list[str] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        return median(each.cpu for each in self.costs) if self.costs else float("inf")

    def __str__(self) -> str:
        if not self.costs:
            return f"> {PATIENCE} s"
        return f"{ms(self.cpu)} / {ms(median(each.clock for each in self.costs))}"


class Sites:
    """The site on each of the databases, whose connections stay open, in this process."""

    def __init__(self, databases: dict[int, dict[str, Any]]) -> None:
        self.connections = {}
        self.clients = {}
        for count, settings in databases.items():
            connection = connections.create_connection("default")
            connection.settings_dict["NAME"] = settings["NAME"]
            self.connections[count] = connection
            self.use(count)
            self.clients[count] = self._staff()

    def use(self, count: int) -> None:
        """Work on this database from now on."""
        connections["default"] = self.connections[count]

    def _staff(self) -> Client:
        from django.contrib.auth.models import User  # Django is set up by now

        user, _ = User.objects.get_or_create(username="staff", is_staff=True, is_superuser=True)
        client = Client()
        client.force_login(user)
        with connections["default"].cursor() as cursor:
            cursor.execute(f"SET statement_timeout = '{PATIENCE}s'")
        return client

    def get(self, count: int, path: str) -> Cost:
        """Return what the page costs. Raises ``RuntimeError`` unless it is one."""
        cpu, clock = self._cpu(), time.perf_counter()
        response = self.clients[count].get(path)
        cost = Cost(self._cpu() - cpu, time.perf_counter() - clock)
        if response.status_code != 200:
            raise RuntimeError(f"{path} answered {response.status_code}")
        return cost

    def _cpu(self) -> float:
        """Return the CPU seconds of this process and of the connection's own on the server."""
        pid = connections["default"].connection.info.backend_pid
        server = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
        return time.process_time() + server

    def queries(self, count: int, path: str) -> tuple[list[str], Cost]:
        """Return the statements of the page, and what it costs when it is asked for first."""
        with CaptureQueriesContext(self.connections[count]) as captured:
            cost = self.get(count, path)
        return [query["sql"] for query in captured], cost


def main() -> None:
    """Measure, and print the table."""
    options = parser.parse_args()
    sizes = [int(size) for size in options.messages.split(",")]
    with tempfile.TemporaryDirectory() as folder, database("postgresql", folder) as server:
        databases = filled(server, sizes, refill=options.refill)
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.site"
        os.environ["BENCH_DATABASE"] = json.dumps(databases[sizes[0]])
        django.setup()
        equip()
        sites = Sites(databases)
        gc.freeze()  # else a page in a hundred would pay for looking through all of Django
        measured = measure(sites, sizes, options)
        print_table(headings(sizes, options), rows(measured, sizes, options))
        if options.plans:
            write_plans(options.plans, sites, sizes[-1], measured)
        for connection in sites.connections.values():
            connection.close()


def equip() -> None:
    """Let the site have whatever makes its pages longer."""
    from benchmarks.admin_pages import OWN_NUMBERS  # needs Django set up

    project.CELLCAST_OWN_NUMBERS = OWN_NUMBERS
    project.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"


# Measuring


Table = dict[str, dict[tuple[str, int], Measured]]
"""For each page what it costs, by whose admin it is and on which database."""


def measure(sites: Sites, sizes: list[int], options: argparse.Namespace) -> Table:
    """Ask for every page on every database in turn."""
    wanted: dict[str, dict[tuple[str, int], str]] = defaultdict(dict)
    from benchmarks.admin_pages import pages  # needs Django set up

    for size in sizes:
        sites.use(size)
        for page in pages():
            if re.search(options.only, page.name):
                wanted[page.name]["app", size] = page.path
                if page.plain and str(size) in options.plain.split(","):
                    wanted[page.name]["plain", size] = page.plain
    table: Table = {}
    for name, paths in wanted.items():
        show(name)
        table[name] = measure_page(sites, paths, options.rounds)
        print_line(name, table[name])
    show("")
    return table


def measure_page(
    sites: Sites, paths: dict[tuple[str, int], str], rounds: int
) -> dict[tuple[str, int], Measured]:
    """Ask for one page on all databases: once to count and to warm up, then in rounds."""
    found = {key: Measured() for key in paths}
    for number in range(rounds + 1):
        for key, path in paths.items():
            sites.use(key[1])
            measured = found[key]
            try:
                if number == 0:
                    measured.queries, first = sites.queries(key[1], path)
                    if first.clock > SLOW:
                        measured.costs = [first]
                elif measured.queries and not any(each.clock > SLOW for each in measured.costs):
                    measured.costs.append(sites.get(key[1], path))
            except OperationalError:  # it took longer than our patience
                measured.queries = []
    return found


def print_line(name: str, measured: dict[tuple[str, int], Measured]) -> None:
    times = (f"{whose} {short(size)} {each} ms" for (whose, size), each in measured.items())
    print(f"{name}: {', '.join(times)}", flush=True)


# The table


def headings(sizes: list[int], options: argparse.Namespace) -> list[str]:
    """Return the columns: times on each database, and what the largest costs more."""
    plain = [f"Django's, {short(size)}" for size in plain_sizes(sizes, options)]
    return ["page", *map(short, sizes), "ratio", "within", "queries", *plain]


def plain_sizes(sizes: list[int], options: argparse.Namespace) -> list[int]:
    """Return the databases on which Django's own admin is measured."""
    return [size for size in sizes if str(size) in options.plain.split(",")]


def rows(table: Table, sizes: list[int], options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield a row for each page: milliseconds of CPU and of the clock. Limits are of the CPU."""
    for name, measured in table.items():
        base = next(measured["app", size] for size in sizes if ("app", size) in measured)
        cpu = measured["app", sizes[-1]].cpu
        ratio = cpu / base.cpu
        is_within = ratio <= LIMIT_RATIO or cpu * 1_000 < LIMIT_MS
        counts = {
            len(measured["app", size].queries) for size in sizes[1:] if ("app", size) in measured
        }
        yield [
            name,
            *(str(measured.get(("app", size), "")) for size in sizes),
            f"{ratio:.1f}",
            "yes" if is_within else "**no**",
            "–".join(map(str, sorted({min(counts), max(counts)}))),
            *(str(measured.get(("plain", size), "")) for size in plain_sizes(sizes, options)),
        ]


# Plans

_WHOLE = re.compile(r"Seq Scan on cellcast_django_\w+")


def write_plans(file: Path, sites: Sites, size: int, table: Table) -> None:
    """Write what the database does for each query of each page, and print full scans."""
    sites.use(size)
    with file.open("w") as plans:
        for name, measured in table.items():
            for sql in measured["app", size].queries:
                if "cellcast_django_" not in sql or not sql.startswith(("SELECT", "(SELECT")):
                    continue
                plan = explain(sql)
                plans.write(f"# {name}\n{sql}\n\n{plan}\n\n")
                if whole := _WHOLE.search(plan):
                    print(f"{name}: {whole[0]}")


def explain(sql: str) -> str:
    """Return the plan, with what it read."""
    with connections["default"].cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {sql}")
        return "\n".join(row[0] for row in cursor.fetchall())


if __name__ == "__main__":
    main()
