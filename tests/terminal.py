"""A program of ours on a terminal of its own: what a person types, and sees."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]


class Terminal:
    """Runs Python, with these arguments, in a pseudo-terminal."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "example_project.settings"} | environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def press_ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def read_until(self, text: str, seconds: float = 20) -> str:
        """Return all that was shown so far, once it has this text."""
        until = time.monotonic() + seconds
        while text not in self.text and time.monotonic() < until:
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self._ours, 65_536).decode(errors="replace")
                except OSError:  # it has ended
                    break
        assert text in self.text, self.text
        return self.text

    def read_until_quiet(self, seconds: float) -> str:
        """Return all that was shown so far, once nothing more has come for so long."""
        with suppress(OSError):  # it has ended
            while select.select([self._ours], [], [], seconds)[0]:
                self.text += os.read(self._ours, 65_536).decode(errors="replace")
        return self.text
