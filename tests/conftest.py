"""What every test may ask for: a client that sends webhooks, and an ear for the signals."""

import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db.models.signals import post_migrate
from django.test import Client
from hypothesis import settings

from cellcast_django.admin.display.shown import Content
from cellcast_django.directory import Directory
from cellcast_django.testing import WebhookClient
from tests.admin_pages import Know, staff
from tests.fake_cellcast import KEY, FakeCellcast, serving

pytest_plugins = [
    "cellcast_django.pytest_plugin",
    "pytester",
    "tests.clock",
    "tests.disk",
    "tests.handlers",
    "tests.scripted_server",
]

settings.register_profile(
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=20,
    stateful_step_count=20,
)
# Other examples for each --hypothesis-seed.
settings.register_profile(
    "thorough",
    settings.get_profile("tests"),
    derandomize=False,
    max_examples=100,
    stateful_step_count=50,
)
settings.load_profile("tests")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import nothing from a folder whose marker, which has its name, is not selected."""
    is_excluded = re.search(rf"\bnot {collection_path.name}\b", config.option.markexpr)
    return True if is_excluded and collection_path.is_dir() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker waits for it at the end.

    What is exhaustive is not traced: it does often what plain tests have to reach once.
    """
    items.sort(key=lambda item: item.get_closest_marker("exhaustive") is None)
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker("no_cover")


def pytest_configure() -> None:
    """Look for garbage now and then, not after every 700 objects: that takes a tenth of all."""
    gc.set_threshold(20_000, 20, 20)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the collected tests, which never become garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Keep content types and permissions from each flush: to make them again would cost more.

    It leaves alone the tables of models that are not managed.
    """
    for model in (ContentType, Permission):
        model._meta.managed = False
    post_migrate.disconnect(create_contenttypes)
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")


@pytest.fixture(scope="session", autouse=True)
def leave_handler_errors_in_the_event() -> Iterator[None]:
    """Send webhooks as in production: a test says so if it wants what a handler raises."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(WebhookClient, "raise_handler_errors", False)
        yield


@pytest.fixture(scope="session", autouse=True)
def refuse_names_that_content_lacks() -> Iterator[None]:
    """Fail where a template would show nothing; ``{% if %}`` takes any ``Exception`` for false."""

    def fail(content: Content, name: str) -> None:
        pytest.fail(f"A template asks for {name!r}, and is given {', '.join(vars(content))}.")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Content, "__getattr__", fail, raising=False)
        yield


@pytest.fixture
def client() -> WebhookClient:
    """A Django test client that sends webhooks with the right password."""
    return WebhookClient()


@pytest.fixture
def reader() -> Client:
    """A member of staff who may view everything of this app, and do nothing."""
    return staff("view_message", "view_statuschange", "view_webhookevent")


@pytest.fixture
def operator() -> Client:
    """A member of staff who may also run the actions."""
    actions = ("rerun_webhookevent", "reprocess_webhookevent", "dismiss_webhookevent")
    return staff("view_webhookevent", *actions)


class Known(Directory):
    """What ``CELLCAST_DIRECTORY`` names in a test that has told it something."""


@pytest.fixture
def know(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Know:
    """Let the pages ask these functions instead of the ``Directory``'s methods of their names."""

    def tell(**functions: Callable[..., Any]) -> None:
        for name, function in functions.items():
            monkeypatch.setattr(Known, name, staticmethod(function))
        settings.CELLCAST_DIRECTORY = f"{__name__}.Known"

    return tell


@pytest.fixture
def fake_cellcast(settings: Any) -> Iterator[FakeCellcast]:
    """Cellcast's API on the loopback interface, and settings that name it and its key."""
    with serving() as server:
        settings.CELLCAST_API_URL = server.url
        settings.CELLCAST_API_KEY = KEY
        yield server
