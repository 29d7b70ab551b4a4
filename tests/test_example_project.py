"""The example project, whose own tests are beside it, and its demo."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import Terminal

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("debug", "send_with"), [("true", "cellcast_django.testing.pretend_to_send"), ("false", "")]
)
def test_example_pretends_to_send_only_in_debug_mode(
    monkeypatch: pytest.MonkeyPatch, debug: str, send_with: str
) -> None:
    monkeypatch.setenv("DEBUG", debug)
    monkeypatch.delenv("CELLCAST_SEND_WITH", raising=False)
    assert runpy.run_path("example_project/settings.py")["CELLCAST_SEND_WITH"] == send_with


def test_example_asks_the_api_that_its_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCAST_API_URL", "http://127.0.0.1:8765")
    assert runpy.run_path("example_project/settings.py")["CELLCAST_API_URL"].endswith(":8765")


@pytest.mark.exhaustive
def test_demo_takes_replies_on_its_terminal_and_ends_with_ctrl_c() -> None:
    with Terminal("-m", "example_project.simulation") as screen:
        screen.read_until("Ctrl-C", seconds=60)
        screen.type("what\n0491572665 YES")
        assert "What becomes of an SMS" in screen.read_until("Receive URL: +61491572665 YES")
        screen.press_ctrl_c()
        assert screen.process.wait(3) == 0
    for name in re.findall(r"demo-\d+\.sqlite3", screen.text):
        (ROOT / name).unlink()


@pytest.mark.exhaustive
def test_demo_works_without_the_desk() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "example_project.simulation", "--check"],
        cwd=ROOT,
        env=os.environ | {"DESK": "false"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
