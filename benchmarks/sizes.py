"""Databases that hold more or fewer messages, side by side on one PostgreSQL."""

import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import psycopg

from benchmarks.filling import TABLES, fill
from benchmarks.servers import ROOT, Database, environment_of

PREFIX = "cellcast_bench_with_"


def filled(server: Database, counts: Iterable[int], *, refill: bool = False) -> dict[int, Any]:
    """Return the Django settings of a database for each number of messages.

    One that is there from an earlier run is used again, for a large one takes its time, unless
    ``refill`` asks for new ones.
    """
    return {count: _filled(server, count, refill=refill) for count in counts}


def _filled(server: Database, count: int, *, refill: bool) -> dict[str, Any]:
    settings = {**server.settings, "NAME": f"{PREFIX}{count}"}
    if not refill and _exists(settings):
        return settings
    # Complete only when it has its name: what is broken off is not taken for a filled one.
    unfinished = server.create(f"unfinished_{count}")
    migrate(unfinished)
    fill(address(unfinished), count)
    with psycopg.connect(**address({**settings, "NAME": "postgres"}), autocommit=True) as postgres:
        postgres.execute(f"DROP DATABASE IF EXISTS {settings['NAME']}".encode())
        rename = f"ALTER DATABASE {unfinished['NAME']} RENAME TO {settings['NAME']}"
        postgres.execute(rename.encode())
    return settings


def copied(server: Database, original: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the settings of a copy, which a run may spoil."""
    return server.create(name, template=original["NAME"])


def address(settings: dict[str, Any]) -> dict[str, Any]:
    """Return Django's settings in the words of psycopg."""
    keys = {"NAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user"}
    return {name: settings[key] for key, name in keys.items()} | {"password": settings["PASSWORD"]}


def migrate(settings: dict[str, Any]) -> None:
    """Make the tables of the site with its admin."""
    command = [sys.executable, "-m", "django", "migrate", "--verbosity=0"]
    environment = environment_of("benchmarks.site", settings)
    subprocess.run(command, check=True, cwd=ROOT, env=environment)


def vacuum(settings: dict[str, Any]) -> None:
    """Do at once what autovacuum does in time: forget rows that were deleted or rolled back."""
    with psycopg.connect(**address(settings), autocommit=True) as postgres:
        for table in TABLES:
            postgres.execute(f"VACUUM (ANALYZE) {table}".encode())


def _exists(settings: dict[str, Any]) -> bool:
    with psycopg.connect(**address({**settings, "NAME": "postgres"})) as postgres:
        found = postgres.execute("SELECT FROM pg_database WHERE datname = %s", [settings["NAME"]])
        return found.fetchone() is not None
