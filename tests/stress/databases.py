"""The three databases, real ones, started for this run alone."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import environ
from django.db import DatabaseError
from django.db.utils import ConnectionHandler

CI = Path(__file__).resolve().parents[2] / ".ci"
VENDORS = ("postgresql", "mariadb", "sqlite")


@dataclass(frozen=True)
class Database:
    """One database, asked in plain SQL: what the app's models make of it is not believed."""

    vendor: str
    url: str

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query, over a connection of its own."""
        with self._cursor() as cursor:
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    def execute(self, sql: str) -> None:
        """Run a statement that returns nothing."""
        with self._cursor() as cursor:
            cursor.execute(sql)

    @contextmanager
    def held(self, *statements: str) -> Iterator[None]:
        """Run statements in a session that keeps its locks until the block ends."""
        with self._cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            yield

    def forget_everything(self) -> None:
        """Delete every row of the app."""
        for name in (
            "optoutchange",
            "optout",
            "statuschange",
            "handlercall",
            "webhookevent",
            "message",
        ):
            self.execute(f"DELETE FROM cellcast_django_{name}")  # noqa: S608

    def answers(self) -> bool:
        """Whether the server lets connections in."""
        try:
            return bool(self.value("SELECT 1"))
        except DatabaseError:
            return False

    def value(self, sql: str) -> Any:
        """Return the one value that a query has."""
        [[value]] = self.query(sql)
        return value

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        connection = ConnectionHandler({"default": environ.Env.db_url_config(self.url)})["default"]
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


class Servers:
    """Starts each database server when it is first needed, by the scripts that CI uses.

    What a script does not find it installs; a server that does not start is a failure.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.running: dict[str, tuple[subprocess.Popen[str], str]] = {}
        self.started_again: list[subprocess.Popen[bytes]] = []

    def new_database(self, vendor: str) -> Database:
        """Make an empty database, without tables."""
        self.count += 1
        name = f"fire_{self.count}"
        if vendor == "sqlite":
            return Database(vendor, f"sqlite:///{self.folder / name}.sqlite3")
        url = self._url(vendor)
        Database(vendor, url).execute(f"CREATE DATABASE {name}")
        url = urlsplit(url)._replace(path=f"/{name}").geturl()
        # CI's servers are told to forget what a crash may cost.
        if vendor == "postgresql":
            url += f"?options={quote('-c synchronous_commit=on')}"
        else:
            Database(vendor, url).execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        return Database(vendor, url)

    def kill(self, vendor: str) -> Callable[[], None]:
        """Stop a server in the midst of everything; return what starts it again."""
        return {"postgresql": self._kill_postgresql, "mariadb": self._kill_mariadb}[vendor]()

    def _kill_postgresql(self) -> Callable[[], None]:
        database = Database("postgresql", self._url("postgresql"))
        folder = Path(database.value("SHOW data_directory"))
        program, *options = shlex.split((folder / "postmaster.opts").read_text())
        owner = folder.stat()
        is_ours = owner.st_uid == os.geteuid()
        user, group = (None, None) if is_ours else (owner.st_uid, owner.st_gid)

        def control(*arguments: str) -> None:
            command = [str(Path(program).with_name("pg_ctl")), "--silent", f"--pgdata={folder}"]
            subprocess.run(
                [*command, *arguments], check=True, cwd="/", timeout=60, user=user, group=group
            )

        control("stop", "--mode=immediate")
        return lambda: control(
            "start", "--wait", f"--log={folder}/log", f"--options={shlex.join(options)}"
        )

    def _kill_mariadb(self) -> Callable[[], None]:
        database = Database("mariadb", self._url("mariadb"))
        pid = int(Path(database.value("SELECT @@pid_file")).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        owner = Path(f"/proc/{pid}").stat()  # MariaDB refuses to run as root
        is_ours = owner.st_uid == os.geteuid()
        user, group = (None, None) if is_ours else (owner.st_uid, owner.st_gid)
        os.kill(pid, signal.SIGKILL)

        def start_again() -> None:
            log = subprocess.DEVNULL
            options = ("--innodb-flush-log-at-trx-commit=2",)
            process = subprocess.Popen(
                [*command, *options], cwd="/", stdout=log, stderr=log, user=user, group=group
            )
            self.started_again.append(process)
            deadline = time.monotonic() + 60
            while not database.answers():
                assert time.monotonic() < deadline, "MariaDB did not start again"
                time.sleep(0.1)

        return start_again

    def stop(self) -> None:
        """Stop the servers that run; their folders go with them."""
        for again in self.started_again:
            again.kill()
            again.wait()
        for process, _ in self.running.values():
            process.communicate(timeout=60)

    def _url(self, vendor: str) -> str:
        if vendor not in self.running:
            process, url = start_service(vendor, "TEST_DATABASE_URL")
            self.running[vendor] = process, _server_url(vendor, url)
        return self.running[vendor][1]


def start_service(name: str, variable: str) -> tuple[subprocess.Popen[str], str]:
    """Start a service; return what ``variable`` then says, too.

    The service lives until its input ends: also when this process is killed.
    """
    process = subprocess.Popen(
        [CI / "with", name, "sh", "-c", f'echo "READY ${variable}"; exec cat'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("READY "):
            return process, line.split()[1]
    raise AssertionError(f"{name} did not start.")


def _server_url(vendor: str, url: str) -> str:
    """Return the URL of a database that is there from the start."""
    return urlsplit(url)._replace(path="/mysql").geturl() if vendor == "mariadb" else url
