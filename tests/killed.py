"""Processes that are killed before each statement that may write, in turn.

SQLite tells of its statements by itself. Between the process and a server stands a proxy, which
sees what goes to the server, COMMIT included, and kills the process before it passes that on.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from django.db import connection

import tests.disk  # noqa: F401 (the process and its children need not wait either)

ROOT = Path(__file__).resolve().parent.parent
READS = ("BEGIN", "SAVEPOINT", "SELECT")


def lines_of(module: str, *arguments: str) -> list[str]:
    """Run a program that kills its children, on the test's database; return what it prints."""
    environment = environment_of_test_database()
    program = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(
        program, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def environment_of_test_database() -> dict[str, str]:
    """Return what another process needs to work on the test's database."""
    server = os.environ.get("TEST_DATABASE_URL", "sqlite:///").rpartition("/")[0]
    return os.environ | {
        "TEST_DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}",
        "DJANGO_SETTINGS_MODULE": "tests.settings_without_admin",
    }


def kill(process: int) -> None:
    """End a process as if the machine had failed."""
    os.kill(process, signal.SIGKILL)


def act_and_be_killed(act: Callable[[], object], statements: int) -> int:
    """Act in another process, which dies before this many statements are executed.

    Returns how the process has ended.
    """
    connection.close()
    if connection.vendor == "sqlite":
        if not (child := os.fork()):
            kill_before(statements)
            act_and_end(act)
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            if not (child := os.fork()):
                host, port = listening.getsockname()
                connection.settings_dict |= {"HOST": host, "PORT": str(port)}
                act_and_end(act)
            pass_on(listening, child, statements)
    status = os.waitpid(child, 0)[1]
    assert status in {0, signal.SIGKILL}
    return status


def act_and_end(act: Callable[[], object]) -> None:
    """Act, and end the process."""
    try:
        act()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def kill_before(statements: int) -> None:
    """Let SQLite end this process when it has executed this many statements that may write.

    Killed before one that reads, it would leave what it leaves before the next one that writes.
    """
    left = iter(range(statements))

    def kill_at_last(statement: str) -> None:
        if not statement.startswith(READS) and next(left, None) is None:
            kill(os.getpid())

    connection.ensure_connection()
    connection.connection.set_trace_callback(kill_at_last)


def pass_on(listening: socket.socket, child: int, statements: int) -> None:
    """Connect a process with the server, and kill it when it has sent this many statements."""
    settings = connection.settings_dict
    server = socket.create_connection((settings["HOST"], int(settings["PORT"])))
    client, _ = listening.accept()
    left = iter(range(statements))
    with server, client:
        while True:
            for ready in select.select([server, client], [], [])[0]:
                data = ready.recv(1_000_000)
                if not data:
                    return
                if ready is client and next(left, None) is None:
                    kill(child)
                    return
                (server if ready is client else client).sendall(data)
