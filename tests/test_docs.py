"""The documentation: its links lead somewhere, and each of its blocks is run or read."""

import ast
import configparser
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection
from django.test.utils import isolate_apps
from packaging.requirements import Requirement

from cellcast_django.models import (
    HandlerCall,
    WebhookEvent,
)
from tests.browser.conftest import POLICY
from tests.pages import (
    FENCE,
    PAGE_NAMES,
    PAGES,
    ROOT,
    Block,
    all_blocks,
    blocks,
    text_of,
)

pytestmark = pytest.mark.usefixtures("disconnected_afterwards")


# Links and blocks of all pages


def anchors(text: str) -> set[str]:
    """The ids that a forge gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


LINK = re.compile(r"""(?:\]\(|\bsrc(?:set)?=")([^)\s"]+)""")


def test_links_point_to_existing_files_and_headings() -> None:
    for name in PAGE_NAMES:
        for link in LINK.findall(FENCE.sub("", text_of(name))):
            if link.startswith("https://"):
                continue
            file, _, anchor = link.partition("#")
            target = ((ROOT / name).parent / file).resolve() if file else ROOT / name
            assert target.exists(), (name, link)
            if anchor:
                assert anchor in anchors(target.read_text(encoding="utf-8")), (name, link)


def test_files_named_in_sentences_exist() -> None:
    for name in PAGE_NAMES:
        for file in re.findall(r"`((?:tests|\.ci)/[\w./]+)`", text_of(name)):
            assert (ROOT / file).exists(), (name, file)


@pytest.mark.parametrize("folder", ["docs", "docs/decisions"])
def test_index_lists_every_page(folder: str) -> None:
    listed = re.findall(r"^- \[.+\]\(([\w/-]+\.md)\): ", text_of(f"{folder}/index.md"), re.M)
    paths = [path.relative_to(ROOT / folder) for path in PAGES if ROOT / folder in path.parents]
    pages = {str(path) for path in paths} - {"index.md"}
    if folder == "docs":
        pages = {page for page in pages if not re.match(r"decisions/(?!index)", page)}
    assert sorted(listed) == sorted(pages)


def test_code_blocks_are_closed() -> None:
    for name in PAGE_NAMES:
        fences = re.findall(r"^ *```", text_of(name), re.MULTILINE)
        assert len(fences) == 2 * len(all_blocks(name)), name


def test_json_and_toml_parse() -> None:
    for name in PAGE_NAMES:
        for block in blocks(name, "json"):
            json.loads(block.code)
        for block in blocks(name, "toml"):
            tomllib.loads(block.code)


# What a reader has: the project, what it installs, and what only some versions of Django have.
FOREIGN = ["celery", "django.tasks", "django_tasks", "shop", "unfold"]
if not apps.is_installed("cellcast_django.desk"):  # to import its admin is to show it on the site
    FOREIGN.append("cellcast_django.desk")


def stand_in_for_foreign_modules(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom | ast.Import):
            for name in [alias.name for alias in node.names] + [getattr(node, "module", "")]:
                if f"{name}.".startswith(tuple(f"{each}." for each in FOREIGN)):
                    monkeypatch.setitem(sys.modules, name, MagicMock())


@pytest.mark.django_db
@pytest.mark.usefixtures("what_commands_work_on")
@pytest.mark.parametrize("name", [name for name in PAGE_NAMES if blocks(name, "python")])
def test_python_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file of a page, block after block. What it does is for the tests of the page."""
    files: dict[str, dict[str, Any]] = {}
    there: dict[str, Any] = {"INSTALLED_APPS": [], "MIDDLEWARE": [], "urlpatterns": []}
    with isolate_apps(), patch.dict(admin.site._registry):  # which a page changes
        for block in blocks(name, "python"):
            file = block.first_line.partition(",")[0]
            # A model belongs to the app whose name its module's begins with.
            namespace = files.setdefault(file, {"__name__": "cellcast_django.shop", **there})
            with monkeypatch.context() as patched:
                stand_in_for_foreign_modules(block, patched)
                block.run(namespace)


# Commands in the shell

COMMAND_LINES = sorted(
    {
        line.partition("  #")[0].strip()
        for name in PAGE_NAMES
        for block in blocks(name, "sh")
        for line in block.code.splitlines()
        if re.match(r"python manage\.py (cellcast_(?!simulate)|check|migrate$)", line)
    }
)


@pytest.fixture
def what_commands_work_on(
    db: None, fake_cellcast: Any, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event, which the list of forged ones names."""
    monkeypatch.chdir(tmp_path)  # where a file may be written
    Path("forged.csv").write_text("id\n17\n", encoding="utf-8")
    fake_cellcast.add_opt_out("400000000")  # otherwise nothing would be confirmed
    WebhookEvent.objects.create(
        pk=17,
        endpoint="opt_out",
        kind="opt_out",
        outcome="stored",
        body='{"contact": "1"}',
        contact="+61400000000",
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("what_commands_work_on")
@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_lines_run(line: str, live_server: Any, settings: Any) -> None:
    line = line.replace("http://127.0.0.1:8000", live_server.url)
    _, _, name, *arguments = shlex.split(line)
    settings.CELLCAST_PUBLIC_URL = live_server.url
    event = WebhookEvent.objects.filter(pk=17)
    if name == "cellcast_reprocess":
        event.update(outcome="invalid")
    if name in ("cellcast_status", "cellcast_prune"):
        HandlerCall.objects.update(state="done", next_attempt_at=None)
    if "--output" in arguments:
        Path("forged.csv").unlink()  # no file is overwritten
    call_command(name, *arguments, stdout=StringIO(), stderr=StringIO())


def test_documented_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE)
    for name in PAGE_NAMES:
        for block in blocks(name, "sh"):
            assert set(re.findall(r"^make (\w+)", block.code, re.MULTILINE)) <= set(targets)


def parser_of(command: str) -> CommandParser:
    app = get_commands()[command]
    found = app if isinstance(app, BaseCommand) else load_command_class(app, command)
    return found.create_parser("manage.py", command)


def test_command_lines_of_cron_and_systemd_are_parsed() -> None:
    lines = [
        line
        for name in PAGE_NAMES
        for block in blocks(name, "text") + blocks(name, "ini")
        for line in block.code.splitlines()
        if "manage.py" in line
    ]
    assert lines
    for line in lines:
        [words] = re.findall(r"cellcast_\w+[^>]*", line.partition("manage.py ")[2])
        command, *arguments = shlex.split(words)
        parser_of(command).parse_args(arguments)


def test_commands_within_sentences_have_the_options_that_they_name() -> None:
    """``cellcast_prune --contact``: what is left out is not looked for, what is there is."""
    found = {
        (name, code)
        for name in PAGE_NAMES
        for code in re.findall(r"`([^`]*)`", FENCE.sub("", text_of(name)).replace("\n", " "))
        if re.match(r"((python )?manage\.py [a-z_]+|cellcast_\w+) (.* )?-", code)
    }
    assert found
    for name, code in found:
        command, *words = code.replace("python ", "").replace("manage.py ", "").split()
        options = {
            string for action in parser_of(command)._actions for string in action.option_strings
        }
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= options, (name, code)


PYPROJECT = tomllib.loads(text_of("pyproject.toml"))
EXTRA = re.compile(r"\bextra\s+`(\w+)`")


def test_pip_installs_requirements_extras_and_groups_that_exist() -> None:
    """A name is right if one of our environments installs it."""
    installed = text_of("pyproject.toml") + text_of("tox.ini")
    found = [
        (name, word.removeprefix("/path/to/"))
        for name in PAGE_NAMES
        for line in re.findall(r"pip\s+(?:un)?install\s+([^`\n]+)", text_of(name))
        for word in shlex.split(line, comments=True)
    ]
    assert len(found) > 10
    for name, word in found:
        if word.startswith(("-", "pip")) or word.endswith(".whl"):
            continue
        if word in PYPROJECT["dependency-groups"]:
            continue
        requirement = Requirement(word.replace(".[", "cellcast-django["))
        if requirement.name == PYPROJECT["project"]["name"]:
            assert requirement.extras <= set(PYPROJECT["project"]["optional-dependencies"]), name
        else:
            assert re.search(rf"\b{requirement.name}\b", installed), (name, word)
    named = {extra for name in PAGE_NAMES for extra in EXTRA.findall(text_of(name))}
    assert named == set(PYPROJECT["project"]["optional-dependencies"])


def test_environments_and_modules_for_contributors_exist() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read_string(text_of("tox.ini"))
    for name in PAGE_NAMES:
        text = text_of(name)
        for environment in re.findall(r"tox run -e ([a-z]+)\b", text):
            assert any(each.startswith(f"testenv:{environment}") for each in tox.sections()), name
        assert "tox run -m" not in text, name  # there are no labels
        for module in re.findall(r"python3? -m ([\w.]+)", text):
            assert find_spec(module), (name, module)


@pytest.mark.exhaustive
def test_removal_leaves_no_table(tmp_path: Path) -> None:
    """By the block, where nothing of the host's depends on ours, and by the steps where it does.

    Nor a row of a migration: both apps can be installed again.
    """
    page, database = "docs/operations.md", tmp_path / "db.sqlite3"
    [zero] = [block.code for block in blocks(page, "sh") if "zero" in block.code]
    [dump] = re.findall(r"`(python manage\.py sqlmigrate [^`]+)`", text_of(page))
    [forget] = re.findall(r"`(DELETE FROM [^`]+)`", text_of(page))
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TEST_DATABASE_URL": f"sqlite:///{database}",
    }

    def run(line: str) -> None:
        line = line.replace("drop.sql", shlex.quote(f"{tmp_path}/drop.sql"))
        subprocess.run(line, shell=True, cwd=ROOT, env=environment, check=True)  # noqa: S602

    run("python manage.py migrate")
    run(dump)
    count = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'cellcast!_django!_%' ESCAPE '!'"
    applied = "SELECT app FROM django_migrations WHERE app IN ('cellcast_django', 'cellcast_desk')"
    with closing(sqlite3.connect(database)) as db, closing(sqlite3.connect(":memory:")) as copy:
        db.backup(copy)
        assert copy.execute(count).fetchone()[0] > 5
        copy.executescript((tmp_path / "drop.sql").read_text(encoding="utf-8"))
        copy.execute(forget)
        run(zero)
        for each in (copy, db):
            assert each.execute(count).fetchone() == (0,)
            assert each.execute(applied).fetchall() == []


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="a setting of PostgreSQL's roles")
def test_documented_statement_keeps_failed_ones_out_of_the_log() -> None:
    [code] = [block.code for block in blocks("docs/deployment.md", "sh") if "psql" in block.code]
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE shop")
        cursor.execute(shlex.split(code)[-1])
        cursor.execute("SELECT rolconfig FROM pg_roles WHERE rolname = 'shop'")
        assert cursor.fetchone() == (["log_min_error_statement=panic"],)


def test_documented_content_security_policy_equals_tested_one() -> None:
    [block] = blocks("docs/admin.md", "text")
    assert " ".join(block.code.split()) == f"Content-Security-Policy: {POLICY}"


# What runs or reads the blocks, by page, language and line: a test of this file, or another file.
TESTED = {
    r" python: ": "test_python_runs",
    r" (json|toml): ": "test_json_and_toml_parse",
    r" sh: python manage\.py (cellcast_(?!simulate)|check |migrate$)": "test_command_lines_run",
    r" sh: python manage\.py migrate cellcast_django zero$": "test_removal_leaves_no_table",
    r" sh: python manage\.py cellcast_simulate$": "tests/test_cellcast_simulate.py",
    r" sh: python manage\.py runserver$": "tests/newcomers/test_first_webhook.py",
    r" sh: make ": "test_documented_make_targets_exist",
    r" sh: \S*pip (un)?install ": "test_pip_installs_requirements_extras_and_groups_that_exist",
    r" sh: .*(tox run|python3? -m) ": "test_environments_and_modules_for_contributors_exist",
    r"docs/deployment.md sh: gunicorn ": "tests/hosts/test_configurations.py",
    r"docs/deployment.md sh: psql ": "test_documented_statement_keeps_failed_ones_out_of_the_log",
    r" text: .*manage\.py ": "test_command_lines_of_cron_and_systemd_are_parsed",
    r"docs/admin.md text: ": "test_documented_content_security_policy_equals_tested_one",
    r"docs/admin.md html: ": "tests/desk/test_links.py",
    r"docs/deployment.md (ini|yaml): ": "tests/hosts/test_configurations.py",
    r"docs/proxies.md (apache|nginx): ": "tests/hosts/test_configurations.py",
    r"docs/exporting-rows.md sql: ": "tests/test_reference.py",
}
UNTESTED = {
    r"CONTRIBUTING.md sh: git ": "signs and publishes",
    r"CONTRIBUTING.md sh: \.venv/bin/pytest ": "is what runs this test",
    r"docs/architecture.md text: ": "a drawing",
    r" sh: python manage\.py createsuperuser": "asks",
    r"docs/local-development.md text: ": "other people's programs",
    r"docs/operations.md text: ": "a line of the environment",
}


def test_every_block_is_run_or_read() -> None:
    lines = [
        f"{name} {block.language}: {line}"
        for name in PAGE_NAMES
        for block in all_blocks(name)
        for line in (block.code.splitlines() if block.language == "sh" else [block.first_line])
    ]
    patterns = [*TESTED, *UNTESTED]
    assert [line for line in lines if not any(re.search(each, line) for each in patterns)] == []
    assert [each for each in patterns if not any(re.search(each, line) for line in lines)] == []
    for test in TESTED.values():
        assert callable(globals().get(test)) or (ROOT / test).exists(), test
