"""A PostgreSQL server, brokers, and host projects whose queue is one of the documentation."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from pytest_django import DjangoDbBlocker

from tests.stress.conftest import servers
from tests.stress.databases import Database, Servers, start_service
from tests.workers.shop import (
    CELERY,
    CELERY_WITHOUT_A_PACKAGE,
    DATABASE_QUEUE,
    SCHEDULING_QUEUE,
    Shop,
    forget_everything,
)

__all__ = ["servers"]

LEASE = 5
# Brokers look the same to the page's own ten lines, which only Django 5.2 needs: one is enough.
BROKERS = ("redis", "rabbitmq") if django.VERSION >= (6, 0) else ("redis",)
IN_THE_DATABASE = {"django-tasks-db": DATABASE_QUEUE, "django-ox": SCHEDULING_QUEUE}
QUEUES = (*IN_THE_DATABASE, *BROKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.workers)


@pytest.fixture(scope="session")
def database(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Database:
    """A database with the tables of the app and of the queue."""
    with django_db_blocker.unblock():
        database = servers.new_database("postgresql")
    shop = Shop(tmp_path_factory.mktemp("migrated"), database)
    shop.write()
    (shop.folder / "shop" / "__init__.py").touch()
    shop.manage("migrate", "--verbosity=0")
    return database


@pytest.fixture
def stop_broker() -> list[Callable[[], Any]]:
    """Stops the broker of a shop, once one has been started."""
    return []


@pytest.fixture
def new_shop(
    database: Database,
    tmp_path: Path,
    django_db_blocker: DjangoDbBlocker,
    stop_broker: list[Callable[[], Any]],
) -> Iterator[Callable[[str], Shop]]:
    """Make a host project with this queue, on empty tables."""
    shops = []

    def make(queue: str) -> Shop:
        backends = IN_THE_DATABASE.get(queue, ())
        url = ""
        if not backends:
            backends = CELERY if django.VERSION >= (6, 0) else CELERY_WITHOUT_A_PACKAGE
            process, url = start_service(queue, "BROKER_URL")
            stop_broker.append(lambda: process.communicate(timeout=60))
        settings = {"CELLCAST_HANDLER_LEASE": LEASE}
        shop = Shop(tmp_path, database, settings, queue=backends, broker_url=url)
        shop.write()
        forget_everything(database)
        shops.append(shop)
        return shop

    with django_db_blocker.unblock():
        yield make
        for shop in shops:
            shop.stop_workers()
        for stop in stop_broker:
            stop()
