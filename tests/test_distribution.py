"""What the installed distribution says of itself, as the package index shows it."""

import re
from importlib import import_module, metadata

import pytest

import cellcast_django

pytestmark = pytest.mark.packaging


@pytest.fixture
def description() -> str:
    return metadata.metadata("cellcast-django")["Description"]


def test_readme_renders_with_absolute_links(description: str) -> None:
    page = import_module("readme_renderer.markdown").render(description)
    assert page
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert {"<h2", "<img", "<pre"} <= set(re.findall(r"<\w+", page))


def test_version_is_that_of_the_distribution() -> None:
    assert cellcast_django.__version__ == metadata.version("cellcast-django")
