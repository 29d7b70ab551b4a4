"""Makes llms.txt, which tells language models what each page is for, from the index of the site.

The form is that of https://llmstxt.org: a title, a summary, and lists of links with their words.
"""

import re
from collections.abc import Callable

TITLE = re.compile(r"\A# (.+)\n\n((?:.+\n)+)")
ROW = re.compile(r"^- \[([^\]]+)\]\(([\w/-]+)\.md\): (.+)$", re.MULTILINE)


Row = tuple[str, str, str]
"""A page's title, its address, and what it is for."""


def sections(index: str) -> list[tuple[str, list[Row]]]:
    """Return the headings of an index that have a list of pages, with its rows."""
    parts = re.split(r"^## ", index, flags=re.MULTILINE)[1:]
    found = [(part.partition("\n")[0], ROW.findall(part)) for part in parts]
    return [(heading, rows) for heading, rows in found if rows]


def llms_text(index: str, address: Callable[[str], str]) -> str:
    """Return the text for an index page, whose lists have a page and its purpose in each row."""
    [(title, summary)] = TITLE.findall(index)
    parts = [f"# {title}", f"> {' '.join(summary.split())}"]
    for heading, rows in sections(index):
        lines = [f"- [{name}]({address(page)}): {purpose}" for name, page, purpose in rows]
        parts += [f"## {heading}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"
