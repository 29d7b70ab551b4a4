"""Servers for the tests under fire."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from tests.stress.databases import Database, Servers
from tests.stress.hosts import Host


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.stress)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("databases"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def migrated() -> dict[str, Database]:
    """The databases that have been migrated in this run, by vendor."""
    return {}


@pytest.fixture
def new_host(
    servers: Servers,
    migrated: dict[str, Database],
    tmp_path: Path,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Callable[..., Host]]:
    """Make a host project on an empty database that has its tables."""

    def make(vendor: str, **settings: Any) -> Host:
        if vendor not in migrated:
            database = servers.new_database(vendor)
            host = Host(tmp_path, database)
            host.manage("migrate", "--verbosity=0")
            host.manage("createsuperuser", "--noinput")
            migrated[vendor] = database
        migrated[vendor].forget_everything()
        return Host(tmp_path, migrated[vendor], settings)

    with django_db_blocker.unblock():
        yield make
