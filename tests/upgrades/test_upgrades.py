"""Rows as each released version wrote them survive the migrations to the present schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model
from pytest_django import DjangoDbBlocker

APP = "cellcast_django"
FILES = sorted(Path(__file__).parent.glob("*.json"))


@pytest.fixture
def old_database(
    tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[BaseDatabaseWrapper]:
    """An empty database of its own, under the alias ``old``."""
    settings = connections["default"].settings_dict | {
        "NAME": str(tmp_path / "old.sqlite3"),
        "OPTIONS": {},
    }
    connections["old"] = DatabaseWrapper(settings, alias="old")
    with django_db_blocker.unblock():
        yield connections["old"]
        connections["old"].close()
    del connections["old"]


def values(model: type[Model], row: dict[str, Any]) -> dict[str, Any]:
    """Return the row's values by attribute; the columns that the model has no more are left out."""
    names = {field.name: field for field in model._meta.concrete_fields}
    return {
        names[name].attname: names[name].to_python(value)
        for name, value in row["fields"].items()
        if name in names
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_rows_of_a_released_version_survive(file: Path, old_database: BaseDatabaseWrapper) -> None:
    dump = json.loads(file.read_text(encoding="utf-8"))
    target = (APP, dump["migration"])
    executor = MigrationExecutor(old_database)
    old_apps = executor.migrate([target]).apps
    for row in dump["rows"]:
        model = old_apps.get_model(row["model"])
        model(pk=row["pk"], **values(model, row)).save(using="old", force_insert=True)

    executor = MigrationExecutor(old_database)
    executor.migrate(executor.loader.graph.leaf_nodes(APP))

    for row in dump["rows"]:
        model = apps.get_model(row["model"])
        found = model._base_manager.using("old").get(pk=row["pk"])
        expected = values(model, row)
        assert {name: getattr(found, name) for name in expected} == expected


def test_newest_release_dump_has_a_row_of_every_model() -> None:
    dump = json.loads(FILES[-1].read_text(encoding="utf-8"))
    stored = {row["model"] for row in dump["rows"]}
    assert stored == {model._meta.label_lower for model in apps.get_app_config(APP).get_models()}
