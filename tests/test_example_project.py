"""The example project, whose own tests are beside it, and its demo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
