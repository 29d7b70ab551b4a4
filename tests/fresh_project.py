"""A project as ``startproject`` makes it, in an empty environment of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_SECONDS = 120


class FreshProject:
    """The project ``shop``, and the environment that it runs in."""

    def __init__(self, folder: Path, *requirements: str) -> None:
        self.folder = folder / "project"
        self.bin = folder / "environment" / "bin"
        self.environment = {
            "HOME": str(folder),
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        self._uv("venv", "--python", sys.executable, str(self.bin.parent))
        self.install(*requirements)
        self.folder.mkdir()
        self.run("django-admin", "startproject", "shop", str(self.folder))

    def install(self, *requirements: str) -> None:
        self._uv("pip", "install", "--python", str(self.bin / "python"), *requirements)

    def append(self, file: str, code: str) -> None:
        path = self.folder / file
        path.write_text(f"{path.read_text()}\n{code}")

    def write(self, file: str, code: str) -> None:
        (self.folder / file).write_text(code)

    def manage(self, *arguments: str) -> str:
        return self.run("python", "manage.py", *arguments)

    def run(self, program: str, *arguments: str) -> str:
        result = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    @contextmanager
    def server(self) -> Iterator[str]:
        """Run the development server, and yield its URL. Its output is in ``server.log``."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with (
            (self.folder / "server.log").open("w") as log,
            subprocess.Popen(
                [str(self.bin / "python"), "manage.py", "runserver", "--noreload", address],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                wait_for(address, process)
                yield f"http://{address}"
            finally:
                process.kill()

    def _uv(self, *arguments: str) -> None:
        subprocess.run(["uv", *arguments, "--quiet"], timeout=4 * DEADLINE_SECONDS, check=True)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not start")
