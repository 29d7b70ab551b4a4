"""A PostgreSQL primary and its synchronous standby, which takes over when the primary is killed."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stress.databases import Database
from tests.stress.hosts import free_port, wait_for


@dataclass(frozen=True)
class Server:
    """One of the two servers."""

    folder: Path
    port: int

    @property
    def database(self) -> Database:
        return Database("postgresql", f"postgres://postgres@127.0.0.1:{self.port}/postgres")

    def start(self) -> None:
        """Start the server, and wait until it lets connections in."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
        options += f" -c unix_socket_directories={self.folder.parent}"
        log = self.folder.with_suffix(".log")
        run("pg_ctl", "start", "--wait", f"--log={log}", f"--options={options}", data=self.folder)

    def kill(self) -> None:
        """Kill every process of the server at once, as a machine does that loses its power."""
        [pid, *_] = (self.folder / "postmaster.pid").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *children):
            os.kill(int(each), signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if (self.folder / "postmaster.pid").exists():
            run("pg_ctl", "stop", "--mode=immediate", data=self.folder, check=False)


@dataclass(frozen=True)
class Cluster:
    """The primary, and the standby that has every commit before the client hears of it."""

    primary: Server
    standby: Server

    def settings(self, **options: Any) -> dict[str, Any]:
        """Return Django's settings: whichever of the two takes writes is connected to."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": "127.0.0.1,127.0.0.1",
            "PORT": f"{self.primary.port},{self.standby.port}",
            "OPTIONS": {"target_session_attrs": "read-write", "connect_timeout": 2, **options},
        }

    def promote(self) -> float:
        """Let the standby take over; return when it takes writes."""
        run("pg_ctl", "promote", "--wait", data=self.standby.folder)
        return time.time()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a pair that lives as long as the context."""
    folder = Path(tempfile.mkdtemp(prefix="failover-"))
    if os.geteuid() == 0:  # as which PostgreSQL refuses to run
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    primary = Server(folder / "primary", free_port())
    standby = Server(folder / "standby", free_port())
    try:
        run("initdb", "--username=postgres", "--auth=trust", "--no-sync", data=primary.folder)
        primary.start()
        source = f"--dbname=host=127.0.0.1 port={primary.port} user=postgres"
        copy = ("--write-recovery-conf", "--checkpoint=fast", f"--pgdata={standby.folder}")
        run("pg_basebackup", source, *copy)
        standby.start()
        primary.database.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.database.execute("SELECT pg_reload_conf()")
        state = "SELECT max(sync_state) FROM pg_stat_replication"
        wait_for(lambda: primary.database.value(state) == "sync", seconds=30)
        yield Cluster(primary, standby)
    finally:
        primary.stop()
        standby.stop()
        shutil.rmtree(folder, ignore_errors=True)


def run(program: str, *arguments: str, data: Path | None = None, check: bool = True) -> None:
    """Run one of PostgreSQL's programs as the user that it accepts."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:{debian_path()}")
    assert found, f"{program} is not installed"
    command = [found, *arguments, *([f"--pgdata={data}"] if data else [])]
    user = "postgres" if os.geteuid() == 0 else None
    log = subprocess.DEVNULL  # a server that stays would hold a pipe open
    subprocess.run(
        command, check=check, cwd="/", timeout=60, user=user, group=user, stdout=log, stderr=log
    )


def debian_path() -> str:
    """Return where Debian keeps the server's programs."""
    return ":".join(str(each) for each in Path("/usr/lib/postgresql").glob("*/bin"))
