from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import browser, page
from tests.stress.databases import start_service

__all__ = ["browser", "page", "port"]


@pytest.fixture
def port() -> Iterator[int]:
    """Where a PostgreSQL server listens."""
    server, url = start_service("postgresql", "TEST_DATABASE_URL")
    found = urlsplit(url).port
    assert found
    yield found
    server.communicate(timeout=60)
