"""The files around the package agree with each other."""

import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.pages import ROOT, text_of

PYPROJECT = tomllib.loads(text_of("pyproject.toml"))
WORKFLOW = text_of(".github/workflows/tests.yml")


def test_dependencies_have_a_floor_and_tox_tests_it() -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    for requirement in project["dependencies"] + extras["api"] + extras["tasks"]:
        [(name, floor)] = re.findall(r"^([\w-]+)>=([\d.]+)$", requirement)
        if os.environ.get("TOX_ENV_NAME") == "floors":
            assert re.sub(r"(\.0)+$", "", version(name)) == floor, requirement


def test_classifiers_name_exactly_what_the_workflow_proves() -> None:
    classifiers = "\n".join(PYPROJECT["project"]["classifiers"])
    rows = [row for row in re.findall(r"- (\{ python: .+\})", WORKFLOW) if "may-fail" not in row]
    proven = "\n".join(rows)
    pythons = set(re.findall(r'python: "(3\.\d+)"', proven))
    djangos = {".".join(digits) for digits in re.findall(r"django(\d)(\d)", proven)}
    assert set(re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE)) == pythons
    assert set(re.findall(r"Django :: (\d\.\d)$", classifiers, re.MULTILINE)) == djangos


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_takes_no_variable_that_changes_what_pip_installs_or_where() -> None:
    harmful = "USER TARGET PREFIX ROOT DRY_RUN PYTHON REQUIRE_HASHES NO_DEPS REQUIRE_VIRTUALENV"
    needed = {"PIP_INDEX_URL": "https://index.example", "PIP_CERT": "/ca.pem"}
    environment = os.environ | {f"PIP_{each}": "1" for each in harmful.split()} | needed
    made = subprocess.run(
        ["make", "--file=-", "probe"],
        input="include Makefile\nprobe:\n\t@env\n",
        env=environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    kept = dict(line.split("=", 1) for line in made.stdout.splitlines() if line[:4] == "PIP_")
    assert {name: kept.get(name) for name in needed} == needed
    assert not kept.keys() & {f"PIP_{each}" for each in harmful.split()}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_old_code_is_run_on_the_new_schema_from_the_first_tag_on(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    script = ROOT / ".ci" / "last-release"
    finished = subprocess.run([script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert finished.stdout == "Nothing has been released yet.\n"
    assert "run: .ci/with postgresql .ci/last-release" in WORKFLOW
