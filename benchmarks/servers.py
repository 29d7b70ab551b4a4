"""What is measured, the databases and web servers for it, and what CPU time they have used."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import urlopen

from benchmarks.load import Target
from tests.recommended import RECOMMENDED, SERVER

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
QUIET = 4
"""So many times in a row the same rows are counted, a tenth of a second apart."""


@dataclass(frozen=True)
class Variant:
    """One way to receive a webhook, and what it is called in the table."""

    title: str
    status_path: str = "/webhook-status"
    reply_path: str = "/webhook-receiver"


VARIANTS = {
    "null": Variant("nothing stored", "/null", "/null"),
    "bare": Variant("bare", "/bare", "/bare"),
    "by-hand": Variant("by hand", "/by-hand", "/by-hand"),
    "app": Variant("app"),
    "handler": Variant("app, one handler"),
    "in-order": Variant("app, one handler in order"),
    "task": Variant("app, task mode"),
}


# Databases


@dataclass(frozen=True)
class Database:
    """A database server; ``pid`` is ``None`` where it has no process that we can see."""

    vendor: str
    settings: dict[str, Any]
    pid: int | None = None

    def create(self, name: str, *, template: str = "") -> dict[str, Any]:
        """Create an empty database, or a copy of another one, and return its Django settings."""
        if self.vendor == "sqlite":
            return {**self.settings, "NAME": f"{self.settings['NAME']}/{name}.sqlite3"}
        name = f"cellcast_bench_{name.replace('-', '_')}"
        create = f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "")
        for statement in (f"DROP DATABASE IF EXISTS {name}", create):
            self._execute(statement)
        return {**self.settings, "NAME": name}

    def with_settings(self, name: str) -> "Database":
        """Return the same server with other settings of a project."""
        recommended = SETTINGS["recommended"][self.vendor]
        bare = {key: value for key, value in self.settings.items() if key not in recommended}
        return replace(self, settings=bare | SETTINGS[name][self.vendor])

    def _execute(self, statement: str) -> None:
        server = {key.lower(): self.settings[key] for key in ("HOST", "PORT", "USER", "PASSWORD")}
        if self.vendor == "postgresql":
            import psycopg  # each driver is needed by its own database alone

            with psycopg.connect(dbname="postgres", autocommit=True, **server) as postgresql:
                postgresql.execute(statement.encode())
        else:
            import MySQLdb

            mariadb = MySQLdb.connect(**server)
            mariadb.cursor().execute(statement)
            mariadb.close()


UNLIMITED = SERVER | {"OPTIONS": {"connect_timeout": 2}}
PREPARED = {"server_side_binding": True, "prepare_threshold": 2}

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "recommended": RECOMMENDED,
    "defaults": {"sqlite": {}, "postgresql": {}, "mariadb": {}},
    "kept": {
        "sqlite": {"CONN_MAX_AGE": None, "OPTIONS": RECOMMENDED["sqlite"]["OPTIONS"]},
        "postgresql": {"CONN_MAX_AGE": None},
        "mariadb": {"CONN_MAX_AGE": None},
    },
    "prepared": {
        "postgresql": SERVER | {"OPTIONS": {**UNLIMITED["OPTIONS"], **PREPARED}},
    },
    "pool": {"postgresql": {"OPTIONS": {"pool": {"timeout": 2}}}},
    "wrapped": {"postgresql": UNLIMITED | {"ENGINE": "django_prometheus.db.backends.postgresql"}},
    "pgbouncer": {
        "postgresql": UNLIMITED | {"DISABLE_SERVER_SIDE_CURSORS": True},
    },
}
"""What a project sets: as the README says, nothing, or connections kept and never checked; and what
some do: prepared statements, a pool, an engine that counts statements, a pooler in front."""

EVERYWHERE = ("recommended", "defaults", "kept")
"""Measured unless the command line names others; those are known to PostgreSQL alone."""


@contextmanager
def database(vendor: str, folder: str) -> Iterator[Database]:
    """Start a server that lives as long as the context, or use that of ``BENCH_<VENDOR>_URL``.

    It has the recommended settings.
    """
    if vendor == "sqlite":
        settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": folder}
        yield Database(vendor, settings | SETTINGS["recommended"][vendor])
    elif url := os.environ.get(f"BENCH_{vendor.upper()}_URL"):
        yield _server(vendor, urlsplit(url))
    else:
        # The script's server stops when its command ends, and that ends with our end of the pipe.
        say_where = 'echo "$TEST_DATABASE_URL"; cat'
        command = [str(ROOT / ".ci" / "with"), vendor, "sh", "-c", say_where]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as script:
            yield _server(vendor, urlsplit(_find_url(script)))


def _find_url(script: subprocess.Popen[str]) -> str:
    """Return the line that is a URL, behind what the script says of the server that it starts."""
    lines: Iterable[str] = script.stdout or ()
    for line in lines:
        if line.startswith(("postgres://", "mysql://")):
            return line.strip()
    raise RuntimeError("The database server did not start.")


def _server(vendor: str, url: SplitResult) -> Database:
    engine = "mysql" if vendor == "mariadb" else vendor
    settings = {
        "ENGINE": f"django.db.backends.{engine}",
        "HOST": url.hostname,
        "PORT": url.port,
        "USER": url.username,
        "PASSWORD": url.password or "",
    }
    settings |= SETTINGS["recommended"][vendor]
    return Database(vendor, settings, _server_pid(url.port))


def _server_pid(port: int | None) -> int | None:
    """Return the process of the database server that was told to listen on this port."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            program, *arguments = (folder / "cmdline").read_text().split("\0")
            is_server = Path(program).name in {"postgres", "mariadbd"}
            if is_server and {str(port), f"--port={port}"}.intersection(arguments):
                return int(folder.name)
    return None


# Web servers


@dataclass(frozen=True)
class WebServer:
    """A web server with one variant on one database."""

    variant: Variant
    target: Target
    pid: int

    def ask(self, path: str) -> dict[str, Any]:
        """Get JSON from one of the URLs that only the harness knows."""
        with urlopen(f"http://127.0.0.1:{self.target.port}{path}", timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def counts(self) -> dict[str, int]:
        """Return what the tables hold, once the requests that a load has left behind are done."""
        counts, unchanged = self.ask("/counts"), 0
        for _ in range(100):
            time.sleep(0.1)
            earlier, counts = counts, self.ask("/counts")
            unchanged = unchanged + 1 if counts == earlier else 0
            if unchanged == QUIET:
                return counts
        raise RuntimeError(f"{self.variant.title}: rows are still being written")


@contextmanager
def web_server(
    name: str, database: Database, *, program: str = "gunicorn", workers: int = WORKERS
) -> Iterator[WebServer]:
    """Migrate a database of its own, and serve the variant of this name until the context ends."""
    environment = environment_of("benchmarks.project", database.create(name), name)
    migrate = [
        *(sys.executable, "-m", "django", "migrate"),
        *("--run-syncdb", "--skip-checks", "--verbosity=0"),
    ]
    subprocess.run(migrate, check=True, cwd=ROOT, env=environment)
    with serving(name, environment, program=program, workers=workers) as server:
        yield server


def environment_of(
    settings_module: str, settings: dict[str, Any], variant: str = "app"
) -> dict[str, str]:
    """Return what a process needs to work on a database."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings_module,
        "BENCH_DATABASE": json.dumps(settings),
        "BENCH_VARIANT": variant,
    }


PROGRAMS = {
    "gunicorn": "gunicorn --no-control-socket --bind=127.0.0.1:{port} benchmarks.application:wsgi",
    "gthread": (
        "gunicorn --no-control-socket --bind=127.0.0.1:{port} --threads=4 "
        "benchmarks.application:wsgi"
    ),
    "uvicorn": "uvicorn --port={port} --lifespan=off --no-access-log benchmarks.application:asgi",
    "granian": (
        "granian --port={port} --interface=wsgi --blocking-threads=4 benchmarks.application:wsgi"
    ),
    "granian-asgi": "granian --port={port} --interface=asginl benchmarks.application:asgi",
}
"""The web servers that people use, and how each is started."""


@contextmanager
def serving(
    name: str, environment: dict[str, str], *, program: str = "gunicorn", workers: int = WORKERS
) -> Iterator[WebServer]:
    """Serve the variant of this name, on a database that has its tables."""
    port = _free_port()
    command = [
        *(sys.executable, "-m", *PROGRAMS[program].format(port=port).split()),
        *(f"--workers={workers}", "--log-level=warning"),
    ]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        try:
            _wait_for(port)
            variant = VARIANTS[name]
            target = Target(port, variant.status_path, variant.reply_path)
            yield WebServer(variant, target, process.pid)
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    for _ in range(300):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError("The web server did not start.")


# CPU time


def cpu_seconds(pid: int | None) -> float:
    """Return the CPU time of a process and its descendants, those that have ended included."""
    if pid is None:
        return 0
    ticks, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # Field 4 is the parent, 14 to 17 are the times; field 2 may contain spaces.
            fields = stat.read_text().rpartition(")")[2].split()
            process = int(stat.parent.name)
            parents[process] = int(fields[1])
            ticks[process] = sum(map(int, fields[11:15]))
    family, generation = {pid}, {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        family |= generation
    return sum(ticks.get(process, 0) for process in family) / os.sysconf("SC_CLK_TCK")
