"""Makes llms.txt, which tells language models what each page is for, from the index of the site.

The form is that of https://llmstxt.org: a title, a summary, and lists of links with their words.
"""

import re
from collections.abc import Callable

TITLE = re.compile(r"\A# (.+)\n\n((?:.+\n)+)")
ROW = re.compile(r"^\| \[([^\]]+)\]\(([\w/-]+)\.md\) \| (.+) \|$", re.MULTILINE)


def llms_text(index: str, address: Callable[[str], str]) -> str:
    """Return the text for an index page, whose tables have a page and its purpose in each row."""
    [(title, summary)] = TITLE.findall(index)
    parts = [f"# {title}", f"> {' '.join(summary.split())}"]
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        rows = [
            f"- [{name}]({address(page)}): {purpose}"
            for name, page, purpose in ROW.findall(section)
        ]
        if rows:
            parts += [f"## {section.partition(chr(10))[0]}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"
