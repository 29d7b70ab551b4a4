from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.stress.databases import start_service


@pytest.fixture
def port() -> Iterator[int]:
    """Where a PostgreSQL server listens."""
    server, url = start_service("postgresql", "DATABASE_URL")
    found = urlsplit(url).port
    assert found
    yield found
    server.communicate(timeout=60)
