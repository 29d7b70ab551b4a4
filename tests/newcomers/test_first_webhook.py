"""A newcomer follows a page, block by block, in a fresh project and an empty environment."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks

pytestmark = pytest.mark.newcomers

DEADLINE_SECONDS = 30


class Newcomer:
    """A person with a folder, an empty environment and one page of the documentation."""

    def __init__(self, folder: Path, django: str) -> None:
        self.project = folder / "project"
        self.bin = folder / "environment" / "bin"
        self.environment = {
            "HOME": str(folder),
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        self._uv("venv", "--python", sys.executable, str(self.bin.parent))
        self._uv("pip", "install", "--python", str(self.bin / "python"), django)
        self.project.mkdir()
        self.run("django-admin", "startproject", "shop", str(self.project))

    def follow(self, page: str) -> None:
        """Install the app and write the files as the page says."""
        [install] = [
            block.code for block in blocks(page, "sh") if block.code.startswith("pip install ")
        ]
        assert install == "pip install /path/to/cellcast-django\n"
        self._uv("pip", "install", "--python", str(self.bin / "python"), str(ROOT))
        settings = self.project / "shop" / "settings.py"
        for block in blocks(page, "python"):
            name = block.first_line.removeprefix("# ").partition(",")[0]
            if name == "settings.py":
                settings.write_text(f"{settings.read_text()}\n{block.code}")
            elif name == "urls.py":
                (self.project / "shop" / name).write_text(block.code)
            else:
                (self.project / name).write_text(block.code)

    def manage(self, *arguments: str) -> str:
        return self.run("python", "manage.py", *arguments)

    def run(self, program: str, *arguments: str) -> str:
        result = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.project,
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
            (self.project / "server.log").open("w") as log,
            subprocess.Popen(
                [str(self.bin / "python"), "manage.py", "runserver", "--noreload", address],
                cwd=self.project,
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


@pytest.fixture
def newcomer(tmp_path: Path, django: str) -> Newcomer:
    return Newcomer(tmp_path, django)


@pytest.mark.parametrize(
    ("page", "django"),
    [
        ("README.md", "django>=5.2,<5.3"),
        ("README.md", "django>=6.1,<6.2"),
        ("docs/getting-started.md", "django>=6.1,<6.2"),
    ],
)
def test_first_webhook(newcomer: Newcomer, page: str) -> None:
    newcomer.follow(page)
    newcomer.manage("migrate")
    found = re.search(
        r"^ *(CELLCAST_WEBHOOK_SECRETS)=(\S+)$", newcomer.manage("cellcast_setup"), re.MULTILINE
    )
    assert found
    newcomer.environment[found[1]] = found[2]

    with newcomer.server() as url:
        output = newcomer.manage("cellcast_test_send", "receive", "--url", url)
    assert "stored" in output

    stored = newcomer.manage(
        "shell",
        "--verbosity=0",
        "--command",
        "from cellcast_django.models import Message; print(Message.objects.get().contact)",
    )
    assert stored.strip() == "+61400000000"
    if page == "docs/getting-started.md":
        assert "Reply 1 has 21 characters" in (newcomer.project / "server.log").read_text()
