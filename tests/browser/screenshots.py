"""Takes the pictures of docs/screenshots from the demo: ``make screenshots``.

An emoji font (Debian: fonts-noto-color-emoji) should be installed, because customers use them.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Literal, NamedTuple

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "docs" / "screenshots"
ADMIN = "/admin/cellcast_django"


class Picture(NamedTuple):
    """The colours, the address, the height in pixels; and which link there leads to what is shown.

    Pages about one row have its key in their address, and are found by a customer's name.
    """

    scheme: Literal["light", "dark"]
    address: str
    height: int
    link: str = ""


CONVERSATION = "#result_list a[href*='/conversation/']"
OPT_OUT = "#result_list a[href*='/optout/']"
OVERVIEW = f"{ADMIN}/webhookevent/overview/"
PICTURES = {
    "to-answer": Picture("light", f"{ADMIN}/message/to-answer/", 760),
    "overview": Picture("light", OVERVIEW, 1400),
    "overview-dark": Picture("dark", OVERVIEW, 1400),
    "conversation": Picture("light", f"{ADMIN}/message/?q=kim", 920, CONVERSATION),
    "opt-out": Picture("light", f"{ADMIN}/optout/?q=grace", 640, OPT_OUT),
    "figures": Picture("light", f"{ADMIN}/webhookevent/figures/", 900),
    "setup": Picture("light", f"{ADMIN}/webhookevent/setup/", 800),
}


def main() -> None:
    """Start the demo, log in as it says, and take the pictures."""
    command = [sys.executable, "-u", "-m", "example_project.simulation"]
    with subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=DEVNULL, text=True) as demo:
        try:
            url, user, password = (said_by(demo, word) for word in ("Admin", "User", "Password"))
            take_all(url, user, password)
        finally:
            demo.terminate()


def said_by(demo: "subprocess.Popen[str]", word: str) -> str:
    """Return what stands after the word at the beginning of a line of the demo's."""
    assert demo.stdout
    for line in demo.stdout:
        if found := re.match(rf"\W*{word}\s+(\S+)$", line.rstrip()):
            return found[1]
    raise SystemExit(f"The demo ended before it said {word}.")


def take_all(url: str, user: str, password: str) -> None:
    """Take the pictures into docs/screenshots."""
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        chromium = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.get_by_label("Username").fill(user)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        for name in PICTURES:
            take(page, url, name)
        browser.close()


def take(page: Page, url: str, name: str) -> None:
    """Take one picture."""
    picture = PICTURES[name]
    page.emulate_media(color_scheme=picture.scheme)
    page.set_viewport_size({"width": 1100, "height": picture.height})
    page.goto(url.removesuffix("/admin/") + picture.address)
    if picture.link:
        page.goto(page.locator(picture.link).first.evaluate("link => link.href"))
    page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
