"""What the desk's pages share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.db.models import Model
from django.http import HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from cellcast_django.admin.display.texts import grouped, number_html
from cellcast_django.admin.extension import extension_of
from cellcast_django.admin.own_numbers import OTHER
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer


def url_of_page(viewer: Viewer, name: str) -> str:
    """Return where a page of the desk is; ``""`` if this person may not open it."""
    links = extension_of(viewer.site).links(viewer)
    return next((link.url for link in links if link.name == name), "")


def views_all_of(viewer: Viewer, model: type[Model]) -> bool:
    """Whether this person may view all rows of a model: then figures may count them."""
    return viewer.may_view(model) and not viewer.is_restricted(model)


@dataclass(frozen=True, slots=True)
class LinkedCount:
    """A count, and the list of exactly what it counts."""

    count: int
    url: str = ""

    @classmethod
    def of(cls, count: int, url: str, query: str = "") -> "LinkedCount":
        """Return the figure with its link; there is none to nothing, or without a ``url``."""
        if not url or not count:
            return cls(count)
        return cls(count, f"{url}&{query}" if query else url)

    @property
    def html(self) -> str:
        """The count with grouped digits, as a link if there is one."""
        if not self.url:
            return grouped(self.count)
        link = '<a href="{}" data-count="{}">{}</a>'
        return format_html(link, self.url, str(self.count), grouped(self.count))


class Switch(NamedTuple):
    """Leads to the same page for another month, or for another of your numbers."""

    url: str
    label: SafeString | str
    is_chosen: bool


def number_switches(
    numbers: Sequence[str], chosen: str, url_of: Callable[[str], str]
) -> list[Switch]:
    """Return links to all your numbers together and to each; none if there is only one."""
    labels: dict[str, str | SafeString] = {
        "": gettext("All your numbers"),
        OTHER: gettext("Others"),
    }
    only = gettext("Only {number}")
    return [
        Switch(
            url_of(each),
            labels.get(each) or format_html(only, number=number_html(each)),
            each == chosen,
        )
        for each in (["", *numbers] if numbers else [])
    ]


class DeskPage(Page):
    """A page that leads to the others of the desk."""

    def render(self, shown: object, *, title: object = None, **more: object) -> HttpResponse:
        links = extension_of(self.viewer.site).links(self.viewer)
        others = [link for link in links if link.name != self.name]
        return super().render(shown, title=title, pages=others, **more)
