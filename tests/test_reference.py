"""The reference pages: each table has what the code has."""

import ast
import json
import logging
import re
import sys
import tomllib
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandParser
from django.test import Client, override_settings
from django.urls import resolve, reverse

import cellcast_django
from cellcast_django import opt_outs, signals
from cellcast_django.conf import Settings, conf
from cellcast_django.health import Health
from cellcast_django.models import WebhookEvent
from cellcast_django.signals import FactSignal
from cellcast_django.statuses import Status, is_final
from cellcast_django.testing import WebhookClient
from tests.database_faults import refusing
from tests.pages import blocks, code_words, table, text_of

PACKAGE = Path(cellcast_django.__file__).parent
COMMANDS = sorted(name for name, app in get_commands().items() if app == "cellcast_django")
MODELS = list(apps.get_app_config("cellcast_django").get_models())


def test_settings_and_their_defaults(settings: Any) -> None:
    properties = [name for name, each in vars(Settings).items() if isinstance(each, property)]
    for name in properties:
        if hasattr(settings, f"CELLCAST_{name.upper()}"):
            delattr(settings, f"CELLCAST_{name.upper()}")
    rows = table("docs/reference/settings.md", "setting", "default")
    documented = {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in rows}
    defaults = {f"CELLCAST_{name.upper()}": getattr(conf, name) for name in properties}
    assert documented == {
        name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()
    }


def test_ids_of_the_checks() -> None:
    source = (PACKAGE / "checks.py").read_text(encoding="utf-8")
    numbers = re.findall(r'"(?:cellcast_django\.)?([EWI]\d{3})"', source)
    ids = {f"cellcast_django.{number}" for number in numbers}
    rows = table("docs/reference/checks.md", "id")
    assert {row[0].strip("`") for row in rows} == ids
    assert len(rows) == len(ids)


def test_signals_and_their_arguments() -> None:
    rows = {
        row[0].strip("`"): code_words(row[2])
        for row in table("docs/reference/signals.md", "signal")
    }
    source = (PACKAGE / "signals.py").read_text(encoding="utf-8")
    for name, signal in vars(signals).items():
        if isinstance(signal, FactSignal):
            docstring = source.partition(f"{name} = FactSignal()")[2].split('"""')[1]
            assert set(rows[name]) >= set(re.findall(r"``([a-z_]+)`` \(", docstring))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_fields_of_the_models(model: Any) -> None:
    rows = table("docs/reference/models.md", f"field of `{model.__name__}`")
    documented = {name for row in rows for name in code_words(row[0])}
    assert {field.name for field in model._meta.fields} == documented


def test_health_page_has_every_figure() -> None:
    documented = re.findall(r"auto\w+:: Health\.(\w+)", text_of("docs/reference/health.md"))
    assert sorted(documented) == [name for name in dir(Health) if not name.startswith("_")]


def test_order_of_the_statuses() -> None:
    rows = table("docs/reference/statuses.md", "rank", "status", "final")
    known = [row for row in rows if row[1] != "any other word"]
    names = [row[1].strip("`") for row in known]
    assert names == Status.values
    assert [row[2] == "yes" for row in rows] == [is_final(row[1].strip("`")) for row in rows]


def test_commands() -> None:
    documented = {row[0].strip("`") for row in table("docs/reference/commands.md", "command")}
    assert set(COMMANDS) == documented


@pytest.mark.parametrize("name", COMMANDS)
def test_options_of_a_command(name: str) -> None:
    parser = CommandParser()
    load_command_class("cellcast_django", name).add_arguments(parser)
    inherited = {option.dest for option in BaseCommand().create_parser("", name)._actions}
    options = {
        string
        for option in parser._actions
        if option.dest not in inherited
        for string in option.option_strings
    }
    page = text_of("docs/reference/commands.md")
    section = page.partition(f"## {name}\n")[2].partition("## ")[0]
    assert options == set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))


def test_permissions() -> None:
    rows = table("docs/reference/permissions.md", "permission")
    documented = {row[0].strip("`").removeprefix("cellcast_django.") for row in rows}
    own = {codename for model in MODELS for codename, _ in model._meta.permissions}
    assert own <= documented
    defaults = {
        f"{action}_{model._meta.model_name}"
        for model in MODELS
        for action in model._meta.default_permissions
    }
    assert documented <= own | defaults


def test_functions_for_opt_outs() -> None:
    rows = table("docs/reference/opt-outs.md", "function", "does")
    public = {
        name
        for name, value in vars(opt_outs).items()
        if isfunction(value) and value.__module__ == opt_outs.__name__ and name[0] != "_"
    }
    assert {row[0].strip("`").partition("(")[0] for row in rows} == public


def test_urls() -> None:
    namespace: dict[str, Any] = {}
    for block in blocks("docs/getting-started.md", "python"):
        if block.first_line == "# urls.py":
            block.run(namespace)
    urls = ModuleType("urls")
    vars(urls)["urlpatterns"] = namespace["urlpatterns"]
    rows = table("docs/reference/urls.md", "name")
    with override_settings(ROOT_URLCONF=urls):
        for name, path, *_ in rows:
            assert reverse(name.strip("`")) == f"/sms/{path.strip('`')}"
            for slash in ("", "/"):
                assert resolve(f"/sms/{path.strip('`')}{slash}").view_name == name.strip("`")
    pattern_names = {pattern.name for pattern in sys.modules["cellcast_django.urls"].urlpatterns}
    assert {path.strip("`") for _, path, *_ in rows} == pattern_names


@pytest.mark.django_db
def test_responses(client: WebhookClient, settings: Any) -> None:
    stored, invalid = client.reply(), client.send("webhook-receiver", b"{")
    unauthenticated = Client().post("/sms/webhook-receiver")
    wrong_method = client.put("/sms/webhook-receiver")
    settings.CELLCAST_MAX_BODY_BYTES = 10
    too_large = client.reply()
    settings.CELLCAST_MAX_BODY_BYTES = 1_000
    with refusing("INSERT"):
        unavailable = client.reply()
    responses = [stored, invalid, unauthenticated, wrong_method, too_large, unavailable]
    documented = [int(row[0]) for row in table("docs/reference/urls.md", "status")]
    assert [each.status_code for each in responses] == [each for each in documented if each != 411]
    assert unavailable["Retry-After"]
    [example] = blocks("docs/reference/urls.md", "json")
    assert stored.json() == json.loads(example.code) | {
        "events": [{"id": WebhookEvent.objects.earliest("pk").pk, "outcome": "stored"}]
    }
    assert client.get("/sms/webhook-receiver").json() == {}


def logged_lines() -> set[tuple[str, str]]:
    """Each call of a logger in the package: its level, and its sentence with … for what varies."""
    lines = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "logger"
                and isinstance(node.args[0], ast.Constant)
            ):
                sentence = re.sub(r"%[sd]", "…", str(node.args[0].value))
                lines.add((node.func.attr.upper(), sentence))
    return {line for line in lines if line[0] in logging.getLevelNamesMapping()}


def test_log_lines() -> None:
    rows = table("docs/reference/logging.md", "level", "line")
    assert {(level, line) for level, line in rows} == logged_lines()


@pytest.mark.django_db
def test_attributes_of_a_log_line(client: WebhookClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "cellcast_django")
    client.reply()
    [record] = caplog.records
    attributes = {name for name in vars(record) if name.startswith("cellcast_")}
    documented = re.findall(r"`(cellcast_\w+)`", text_of("docs/reference/logging.md"))
    assert attributes == set(documented) - {"cellcast_django", "cellcast_run_handlers"}


def test_logging_settings_name_a_level_and_a_handler() -> None:
    namespace: dict[str, Any] = {}
    [block] = blocks("docs/reference/logging.md", "python")
    block.run(namespace)
    config = namespace["LOGGING"]
    logger = config["loggers"]["cellcast_django"]
    assert logger["level"] in logging.getLevelNamesMapping()
    assert set(logger["handlers"]) == set(config["handlers"])


def test_versions() -> None:
    classifiers = tomllib.loads(text_of("pyproject.toml"))["project"]["classifiers"]
    declared = set()
    for classifier in classifiers:
        if found := re.fullmatch(r".*:: (Python|Django) :: (\d\.\d+)", classifier):
            declared.add(found.groups())
    rows = table("docs/versions.md", "", "supported")
    assert {(row[0], row[1].split()[0]) for row in rows} == declared
