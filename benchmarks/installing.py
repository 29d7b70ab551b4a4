"""Measures what the app adds to a start of ``manage.py check`` and to the memory of a worker."""

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median
from typing import Any

from benchmarks.progress import show
from benchmarks.servers import ROOT, environment_of
from benchmarks.tables import print_table

HOSTS = {"without": "0", "with": "1"}
WORKER = """
from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

get_wsgi_application()
get_resolver().url_patterns
"""
WORK = {
    "`manage.py check`": ["-m", "django", "check"],
    "a worker with its URLs": ["-c", WORKER],
}

parser = argparse.ArgumentParser(prog="python -m benchmarks.installing", description=__doc__)
parser.add_argument("--rounds", type=int, default=11, help="the table shows medians")


def main() -> None:
    """Start the site with the app and without it in turn, and print the tables."""
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db.sqlite3"}
        rows = [row(title, work, settings, options.rounds) for title, work in WORK.items()]
        show("")
        headings = ("what", "CPU ms without", "with", "adds", "MB without", "with", "adds")
        print_table(headings, rows)


def row(title: str, work: list[str], settings: dict[str, Any], rounds: int) -> list[str]:
    """Return the table's row: the medians, and that of the difference within a round."""
    found: dict[str, list[tuple[float, float]]] = {host: [] for host in HOSTS}
    for number in range(rounds + 1):
        for host in HOSTS:
            show(f"{title} {host}, round {number}")
            cost = start(work, environment(settings, host))
            if number:  # the first one compiles what has changed
                found[host].append(cost)
    cells = [title]
    for place in (0, 1):
        without, with_it = ([cost[place] for cost in found[host]] for host in HOSTS)
        adds = median(b - a for a, b in zip(without, with_it, strict=True))
        cells += [f"{median(without):.0f}", f"{median(with_it):.0f}", f"{adds:.0f}"]
    return cells


def environment(settings: dict[str, Any], host: str) -> dict[str, str]:
    return {**environment_of("benchmarks.site", settings), "BENCH_APP": HOSTS[host]}


def start(work: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return the milliseconds of CPU and the megabytes that a process takes."""
    command = [sys.executable, *work]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return 1_000 * (usage.ru_utime + usage.ru_stime), usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
