"""The files around the package agree with each other."""

import re
import tomllib

from tests.pages import text_of

PYPROJECT = tomllib.loads(text_of("pyproject.toml"))


def test_hooks_pin_packages_with_floor_and_ceiling() -> None:
    named = re.findall(r"^          - (.+)", text_of(".pre-commit-config.yaml"), re.MULTILINE)
    assert named
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", each) for each in named)


def test_actions_are_pinned_by_commit() -> None:
    for name in ("tests", "release"):
        uses = re.findall(r"uses: (.+)", text_of(f".github/workflows/{name}.yml"))
        assert uses
        assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", each) for each in uses)


def test_workflow_runs_only_existing_tox_environments() -> None:
    lists = re.findall(r"environment: ([\w-]+|\[.*\])", text_of(".github/workflows/tests.yml"))
    named = set(re.findall(r"[\w-]+", " ".join(lists)))
    sections = set(re.findall(r"^\[testenv:([\w-]+)\]", text_of("tox.ini"), re.MULTILINE))
    generated = re.compile(
        r"(py31\d|browser|workers)(-django(52|60|61|main))?(-postgresql|-mariadb|-lite)?|floors"
    )
    assert {name for name in named if not generated.fullmatch(name)} <= sections


def test_project_urls_match_documented_links() -> None:
    repository = PYPROJECT["project"]["urls"]["Repository"]
    substitutions = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for each in substitutions["substitutions"]:
        assert repository.removeprefix("https://github.com/") in each["replacement"]
    assert f"{repository}/security/" in text_of(".github/ISSUE_TEMPLATE/config.yml")
