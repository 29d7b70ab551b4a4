"""The two ways to store a webhook: the database's own statement, and the portable one."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from cellcast_django import inbox
from cellcast_django.database import vendors

OWN, PORTABLE = "own", "portable"


@contextmanager
def portable_way() -> Iterator[None]:
    """Take the way of a database that has no statement of its own."""
    with patch.object(inbox, "FAST_WAYS", {}):
        yield


@pytest.fixture
def unnamed_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Know nothing of the database, as if nobody had named its vendor."""
    monkeypatch.setattr(vendors, "VENDORS", {})
    with portable_way():
        yield


@pytest.fixture(params=[OWN, PORTABLE])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test twice: the database's own way, then the portable one."""
    if request.param == OWN:
        yield OWN
        return
    with portable_way():
        yield PORTABLE
