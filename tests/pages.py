"""The pages of the documentation, read: their blocks of code and their tables."""

import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("tests/stress/*.md"),
        *ROOT.glob("docs/**/*.md"),
    ]
    if "_build" not in path.parts
)
PAGE_NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    code: str

    @property
    def first_line(self) -> str:
        return self.code.partition("\n")[0]

    def run(self, namespace: dict[str, Any]) -> None:
        _NAMESPACES.append(namespace)
        code = compile("\n" * self.line + self.code, self.page, "exec")
        exec(code, namespace)  # noqa: S102


_NAMESPACES: list[dict[str, Any]] = []
"""Kept, as a module is: signals hold handlers weakly, and garbage collection disconnects them."""


FENCE = re.compile(r"^( *)```([\w{}-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(name: str, language: str) -> list[Block]:
    return [block for block in all_blocks(name) if block.language == language]


def all_blocks(name: str) -> list[Block]:
    text = text_of(name)
    return [
        Block(name, text.count("\n", 0, m.start()) + 1, m[2], textwrap.dedent(m[3]))
        for m in FENCE.finditer(text)
    ]


def settings_of(name: str) -> dict[str, Any]:
    """What the page's settings blocks set, the last one of a name."""
    namespace: dict[str, Any] = {}
    for block in blocks(name, "python"):
        if block.first_line == "# settings.py":
            block.run(namespace)
    return {key: value for key, value in namespace.items() if key.isupper()}


def table(name: str, *heading: str) -> list[list[str]]:
    """Return the rows of the one table whose first columns have this heading."""
    tables = re.findall(r"(?:^\|.*\|\n)+", text_of(name), re.MULTILINE)
    parsed = [[cells(line) for line in each.splitlines()] for each in tables]
    [found] = [rows[2:] for rows in parsed if rows[0][: len(heading)] == list(heading)]
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def code_words(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)
