"""The example project, whose own tests are beside it, and its demo."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

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
