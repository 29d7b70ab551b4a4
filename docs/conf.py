"""The documentation site: ``make docs`` builds it into docs/_build, with warnings as errors."""

import os
import re
import sys
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PYPROJECT["urls"]["Repository"]

sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from llms import llms_text, sections  # noqa: E402

import cellcast_django  # noqa: E402

project = PYPROJECT["name"]
author = "The cellcast-django contributors"
project_copyright = author
version = release = cellcast_django.__version__

extensions = [
    "myst_parser",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", PYPROJECT["urls"]["Documentation"])
pygments_dark_style = "github-dark"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["tables.js"]
html_theme_options = {
    "source_repository": f"{REPOSITORY}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_show_sphinx = False
html_copy_source = False

PICTURE = re.compile(
    r'<picture>\s*<source[^>]*srcset="([^"]+)">\s*<img alt="([^"]*)" src="([^"]+)">\s*</picture>'
)
LINK = re.compile(r"\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")


def link_to_the_repository(text: str, folder: Path) -> str:
    """Let links to files outside docs/ lead to the repository, and not nowhere."""

    def replace(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        if target.is_relative_to(ROOT / "docs") or not target.exists():
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        path = target.relative_to(ROOT).as_posix()
        return f"]({REPOSITORY}/{kind}/main/{path}{match[2] or ''})"

    return LINK.sub(replace, text)


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Prepare a page of docs/."""
    source[0] = link_to_the_repository(source[0], (Path(app.srcdir) / page).parent)
    source[0] = follow_the_theme(source[0])
    if page.rpartition("/")[2] == "index":
        source[0] += menus(source[0])


def read_included(app: Sphinx, path: Path, page: str, source: list[str]) -> None:
    """Prepare what a page includes, which lies at the top of the repository."""
    source[0] = link_to_the_repository(source[0], ROOT)


def follow_the_theme(text: str) -> str:
    """Let a picture for each colour scheme follow the switch of the theme, and not the system."""
    return PICTURE.sub(r"![\2](\3){.only-light}\n\n![\2](\1){.only-dark}", text)


def menus(index: str) -> str:
    """Return the menu of the site: the pages in each list of an index, below its heading."""
    return "".join(
        f"\n:::{{toctree}}\n:caption: {heading}\n:hidden:\n\n{pages}\n:::\n"
        for heading, rows in sections(index)
        if (pages := "\n".join(page for _, page, _ in rows))
    )


def write_llms(app: Sphinx, error: Exception | None) -> None:
    """Put llms.txt beside the pages."""
    if error is None and app.builder.format == "html":
        index = (Path(app.srcdir) / "index.md").read_text(encoding="utf-8")
        text = llms_text(index, lambda page: html_baseurl + app.builder.get_target_uri(page))
        (Path(app.outdir) / "llms.txt").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what this page of settings cannot say."""
    app.connect("build-finished", write_llms)
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
