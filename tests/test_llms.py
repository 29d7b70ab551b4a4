"""llms.txt has every page that the index of the documentation has, with the same words."""

import re

from docs.llms import llms_text
from tests.pages import text_of

INDEX = text_of("docs/index.md")


def test_every_page_of_the_index_is_listed_with_its_purpose() -> None:
    text = llms_text(INDEX, lambda page: f"https://docs.example/{page}.html")
    listed = re.findall(r"^- \[(.+)\]\(https://docs\.example/(.+)\.html\): (.+)$", text, re.M)
    toctrees = re.findall(r"^:::\{toctree\}.*?\n\n(.*?)^:::", INDEX, re.DOTALL | re.MULTILINE)
    pages = {page for toctree in toctrees for page in toctree.split()} - {"genindex"}
    assert {page for _, page, _ in listed} == pages
    assert all(f"| [{name}]({page}.md) | {purpose} |" in INDEX for name, page, purpose in listed)


def test_sections_are_those_of_the_index_that_list_pages() -> None:
    text = llms_text(INDEX, str)
    sections = re.findall(r"^## (.+)$", text, re.M)
    assert sections
    assert [each for each in re.findall(r"^## (.+)$", INDEX, re.M) if each in sections] == sections
    assert "Words" not in sections
    assert re.match(r"# cellcast-django\n\n> For Django teams .+\.\n\n## ", text)
