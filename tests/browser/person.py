"""Whoever uses the pages, with the clicks they have made."""

from typing import Any

RECEPTIONIST = ["view_message", "handle_message", "answer_message", "write_message"]
RECEPTIONIST += ["view_optout", "add_optout"]
ON_CALL = ["view_message", "view_statuschange", "view_webhookevent", "view_activity"]
ON_CALL += ["rerun_webhookevent", "reprocess_webhookevent", "dismiss_webhookevent"]
OWNER = ["view_message", "view_webhookevent", "view_optout", "view_activity"]
OFFICER = ["view_message", "view_statuschange", "view_webhookevent", "view_optout"]
OFFICER += ["export_message", "export_webhookevent", "export_optout", "view_activity"]


class Person:
    """Pressing Enter is a click, typing is none."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.clicks = 0

    def goes_to(self, path: str) -> None:
        self.page.goto(self.page.url.partition("/admin/")[0] + path)

    def click(self, role: str, name: str, within: str = "main", **options: Any) -> None:
        self.press(self.page.locator(within).get_by_role(role, name=name, **options).first)

    def press(self, found: Any) -> None:
        """Click on what a locator finds."""
        found.click()
        self.clicks += 1

    def search(self, words: str) -> None:
        self.page.get_by_role("textbox", name="Search").fill(words)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**q=*")  # the list before it may have such a row, too
        self.clicks += 1

    def reads(self, text: str) -> None:
        self.page.get_by_role("main").get_by_text(text).first.wait_for()
