"""Measures the receiver against a bare insert and against what one writes by hand."""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.load import CONNECTIONS, Figures, Target, arrays, burst, steady
from benchmarks.servers import (
    EVERYWHERE,
    PROGRAMS,
    VARIANTS,
    WORKERS,
    Database,
    WebServer,
    cpu_seconds,
    database,
    web_server,
)
from benchmarks.tables import print_table

DATABASES = ("sqlite", "postgresql", "mariadb")
ARRAYS = {"arrays of 50": 50, "arrays of 1000": 1_000}
ARRAYS_IN_A_ROUND = 8
LOADS = ("unique", "duplicates", "burst", *ARRAYS)
DIFFERENT_DUPLICATES = 100
WARM_UP_SECONDS = 1
COMPARED_WITH = (VARIANTS["null"], VARIANTS["bare"], VARIANTS["by-hand"])

parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
parser.add_argument("--quick", action="store_true", help="only show that it runs, as CI does")
parser.add_argument("--databases", default=",".join(DATABASES), metavar="NAME,…")
parser.add_argument("--only", default=",".join(VARIANTS), metavar="VARIANT,…")
parser.add_argument("--settings", default=",".join(EVERYWHERE), metavar="NAME,…")
parser.add_argument("--servers", default="gunicorn", metavar="NAME,…", help=", ".join(PROGRAMS))
parser.add_argument("--loads", default=",".join(LOADS), metavar="LOAD,…")
parser.add_argument("--rounds", type=int, default=5, help="the table shows their medians")
parser.add_argument("--seconds", type=int, default=4, help="of each round")
parser.add_argument("--burst", type=int, default=1_000, help="reports of a burst")
parser.add_argument("--workers", type=int, default=WORKERS, help="of each web server")


@dataclass(frozen=True)
class Measured:
    """One round of one variant: what the load saw, and CPU milliseconds for each webhook."""

    figures: Figures
    app_cpu: float
    database_cpu: float

    @property
    def rate(self) -> float:
        """Webhooks answered in a second."""
        return self.figures.answered / self.figures.seconds

    @property
    def per_cpu_second(self) -> float:
        """Webhooks for each second of CPU, which busy neighbours change less than the rate."""
        return 1_000 / (self.app_cpu + self.database_cpu)


def main() -> None:
    """Measure what the command line names, and print the table."""
    options = parser.parse_args()
    if options.quick:
        options.databases, options.loads = "sqlite", "duplicates,burst"
        options.rounds, options.seconds, options.burst = 1, 1, 100
        options.settings, options.only = "recommended", "bare,by-hand,in-order,task"
    rows: list[list[str]] = []
    try:
        for vendor in options.databases.split(","):
            rows += measure_database(vendor, options)
    finally:
        print_table(HEADINGS, rows)


def measure_database(vendor: str, options: argparse.Namespace) -> Iterator[list[str]]:
    """Start one database, and yield the table's rows of each settings and load."""
    with tempfile.TemporaryDirectory() as folder, database(vendor, folder) as server:
        for settings in options.settings.split(","):
            for program in options.servers.split(","):
                title = f"{vendor}, {settings}, {program}"
                yield from measure_sites(title, program, server.with_settings(settings), options)


def measure_sites(
    title: str, program: str, server: Database, options: argparse.Namespace
) -> Iterator[list[str]]:
    """Start the sites on one web server, and yield the table's rows of each load.

    Bare and by hand run with the same settings, in the same rounds.
    """
    with ExitStack() as running:
        sites = {
            name: running.enter_context(
                web_server(name, server, program=program, workers=options.workers)
            )
            for name in options.only.split(",")
        }
        if not options.quick:
            for site in sites.values():
                steady(site.target, seconds=WARM_UP_SECONDS)
        for load in options.loads.split(","):
            measured = rounds(options, load, sites, server)
            yield from table_rows(f"{title}, {load}", measured)


# Rounds


def rounds(
    options: argparse.Namespace, load: str, sites: dict[str, WebServer], server: Database
) -> dict[str, list[Measured]]:
    """Load the variants in turn, so that whatever else the machine does hits all of them."""
    runs: dict[str, Callable[[Target], Figures]] = {
        "unique": partial(steady, seconds=options.seconds),
        "duplicates": partial(steady, seconds=options.seconds, different=DIFFERENT_DUPLICATES),
        "burst": partial(burst, reports=options.burst),
    }
    for name, size in ARRAYS.items():
        reports = max(options.burst // size, ARRAYS_IN_A_ROUND) * size
        runs[name] = partial(arrays, reports=reports, size=size)
    if load in ARRAYS:  # neither bare nor by hand takes one
        sites = {name: each for name, each in sites.items() if each.variant not in COMPARED_WITH}
    measured = defaultdict(list)
    for number in range(options.rounds):
        for name, site in sites.items():
            measured[name].append(measure(runs[load], load, site, server))
            rate = measured[name][-1].rate
            print(f"{server.vendor}, {load}, round {number + 1}: {name} {rate:,.0f}/s", flush=True)
    return measured


def measure(
    run: Callable[[Target], Figures], load: str, site: WebServer, server: Database
) -> Measured:
    """Run the load once, and raise ``RuntimeError`` unless every 200 is a stored webhook."""
    before = site.counts()
    app, databases = cpu_seconds(site.pid), cpu_seconds(server.pid)
    figures = run(site.target)
    app, databases = cpu_seconds(site.pid) - app, cpu_seconds(server.pid) - databases
    after = site.counts()
    check(load, figures, {name: after[name] - before[name] for name in after}, site)
    per_webhook = 1_000 / figures.answered
    return Measured(figures, app * per_webhook, databases * per_webhook)


def check(load: str, figures: Figures, stored: dict[str, int], site: WebServer) -> None:
    """Compare answers and rows; only what we compare with may answer by errors.

    By Django's defaults on SQLite it does: "database is locked".

    A load that is cut off does not hear the answers that its connections were waiting for: of each
    the last one, and of one that was just opened anew another.
    """
    unheard = 0 if load == "burst" or load in ARRAYS else 2 * CONNECTIONS
    webhooks = stored["webhooks"]
    messages = stored.get("messages", webhooks)
    expected = min(DIFFERENT_DUPLICATES, webhooks) if load == "duplicates" else webhooks
    right = {
        "no errors": figures.errors == 0 or site.variant in COMPARED_WITH,
        "every answer is a row": site.variant is VARIANTS["null"]
        or 0 <= webhooks - figures.answered <= unheard,
        "one row for each message": "messages" not in stored or messages == expected,
        "one history row for each": "history" not in stored or stored["history"] == expected,
        "the rest are duplicates": stored.get("duplicates", 0) in (0, webhooks - expected),
        "every handler was called": site.variant.title.endswith("task mode")
        or stored.get("waiting", 0) == 0,
    }
    wrong = [claim for claim, holds in right.items() if not holds]
    if wrong:
        raise RuntimeError(f"{site.variant.title}: not true: {wrong}. {figures}, {stored}")


# The table

HEADINGS = (
    "database, settings, web server, load", "variant", "req/s", "errors", "÷ bare", "÷ by hand",
    "CPU ÷ bare", "p50 ms", "p99 ms", "app CPU ms", "DB CPU ms",
)  # fmt: skip


def table_rows(title: str, measured: dict[str, list[Measured]]) -> Iterator[list[str]]:
    for name, runs in measured.items():
        yield [
            title,
            VARIANTS[name].title,
            f"{median(run.rate for run in runs):,.0f}",
            str(sum(run.figures.errors for run in runs) or ""),
            ratio(runs, measured.get("bare"), "rate"),
            ratio(runs, measured.get("by-hand"), "rate"),
            ratio(runs, measured.get("bare"), "per_cpu_second"),
            f"{median(run.figures.p50 for run in runs):.1f}",
            f"{median(run.figures.p99 for run in runs):.1f}",
            f"{median(run.app_cpu for run in runs):.2f}",
            f"{median(run.database_cpu for run in runs):.2f}",
        ]


def ratio(runs: list[Measured], others: list[Measured] | None, name: str) -> str:
    """Return the median of the ratios of each round, for its two runs had the same neighbours."""
    if others is None:
        return ""
    pairs = zip(runs, others, strict=True)
    return f"{median(getattr(run, name) / getattr(other, name) for run, other in pairs):.2f}"


main()
