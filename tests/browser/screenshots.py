"""Takes the pictures of docs/screenshots from the demo: ``make screenshots``.

An emoji font (Debian: fonts-noto-color-emoji) should be installed, because customers use them.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

from playwright.sync_api import Page, sync_playwright

from tests.browser.inspection import dress

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "docs" / "screenshots"
CUSTOMER = "0491570157"
ADMIN = "/admin/cellcast_django"

PICTURES = {
    "to-answer": ("light", f"{ADMIN}/message/to-answer/", 760),
    "overview": ("light", f"{ADMIN}/webhookevent/overview/", 1400),
    "overview-dark": ("dark", f"{ADMIN}/webhookevent/overview/", 1400),
    "conversation": ("light", f"{ADMIN}/message/?q={CUSTOMER}", 760),
    "setup": ("light", f"{ADMIN}/webhookevent/setup/", 800),
}
"""The look, the address, and the height in pixels, by the name of the picture.

The conversation is that of the customer who is found there: its address has a message's key."""


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
    look, address, height = PICTURES[name]
    dress(page, look)
    page.set_viewport_size({"width": 1100, "height": height})
    page.goto(url.removesuffix("/admin/") + address)
    if name == "conversation":
        page.locator("#result_list a[href*='/conversation/']").first.click()
        page.wait_for_url("**/conversation/")
    page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
