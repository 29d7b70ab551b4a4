"""HTML as a tree, so that tests look for ids and attributes, and not for markup."""

from datetime import datetime
from functools import lru_cache
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, TreeBuilder

VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source")
)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.builder = TreeBuilder()
        self.builder.start("document", {})
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self.builder.end(tag)
        else:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self.open:
            last = self.open.pop()
            self.builder.end(last)
            if last == tag:
                return

    def handle_data(self, data: str) -> None:
        self.builder.data(data)


@lru_cache(maxsize=4)
def parse(html: str) -> Element:
    """Return the root of the tree, which is for reading: the next caller gets the same."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    while reader.open:
        reader.builder.end(reader.open.pop())
    reader.builder.end("document")
    return reader.builder.close()


def only(within: Element | str, path: str) -> Element:
    """Return the one element at an ElementPath, such as ``ol[@class='cellcast-timeline']``."""
    [found] = every(within, path)
    return found


def every(within: Element | str, path: str) -> list[Element]:
    """Return all elements at the path, in their order."""
    root = parse(within) if isinstance(within, str) else within
    return root.findall(f".//{path}")


def section(within: Element | str, name: str) -> Element:
    """Return the section of a page of ours whose heading has this name."""
    return only(within, f"section[@aria-labelledby='cellcast-{name}-heading']")


def words(element: Element) -> str:
    """Return what is read there, without the markup."""
    return " ".join(" ".join(element.itertext()).split())


def tones(within: Element | str) -> list[str]:
    """Return the tone of each badge, such as ``good``, in their order."""
    classes = [
        name for each in every(within, "span[@class]") for name in each.get("class", "").split()
    ]
    prefix = "cellcast-badge-"
    return [name.removeprefix(prefix) for name in classes if name.startswith(prefix)]


def addresses(within: Element | str) -> list[str]:
    """Return where the links lead."""
    return [link.get("href", "") for link in every(within, "a[@href]")]


def hidden_fields(form: Element) -> dict[str, str]:
    """Return what a form sends that nobody types in."""
    fields = every(form, "input[@type='hidden']")
    return {field.get("name", ""): field.get("value", "") for field in fields}


def times_of(element: Element) -> list[datetime]:
    return [datetime.fromisoformat(each.get("datetime", "")) for each in every(element, "time")]
