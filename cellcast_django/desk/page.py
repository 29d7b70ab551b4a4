"""What the desk's pages share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from django.db.models import Model
from django.http import HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import grouped, number_html
from cellcast_django.admin.extension import extension_of
from cellcast_django.admin.own_numbers import (
    OTHER,
    configured_own_numbers,
    recorded_own_numbers,
)
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.conf import conf
from cellcast_django.contacts import is_phone_number
from cellcast_django.desk.waiting import Choice, WaitingList

TO_ANSWER = "to_answer"  # the desk's door: conversations and forms lead back to it


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
        if not self.url:
            return grouped(self.count)
        link = '<a href="{}" data-count="{}">{}</a>'
        return format_html(link, self.url, str(self.count), grouped(self.count))


class Switch(NamedTuple):
    """Leads to the same page for another month, or for another of your numbers."""

    url: str
    label: SafeString | str
    is_chosen: bool


def own_numbers(messages: Any) -> list[str]:
    """Return your numbers to choose from, if there are several.

    Those of ``CELLCAST_OWN_NUMBERS``; without it the phone numbers that you have recorded messages
    from. What a webhook says that a customer wrote to is not among them.
    """
    region = conf.default_region
    numbers = configured_own_numbers() or [
        each for each in recorded_own_numbers(messages) if is_phone_number(each, region)
    ]
    return numbers if len(numbers) > 1 else []  # a single one need not be named


def number_switches(
    numbers: Sequence[str], chosen: str, url_of: Callable[[str], str]
) -> list[Switch]:
    """Return links to all your numbers together and to each; none if there is only one."""
    if len(numbers) < 2:
        return []
    switches = [Switch(url_of(""), gettext("All your numbers"), not chosen)]
    for number in numbers:
        label = gettext("Others")
        if number != OTHER:
            label = format_html(gettext("Only {number}"), number=number_html(number))
        switches.append(Switch(url_of(number), label, number == chosen))
    return switches


def tabs_of(waiting: WaitingList, current: str = "") -> Content:
    """Return what leads from the ``current`` page to the others that this person may open."""
    links = extension_of(waiting.viewer.site).links(waiting.viewer)
    url = next((link.url for link in links if link.name == TO_ANSWER), "")
    return Content(
        links=links,
        current=current,
        # Who waits, and how many of them may want to stop: for those who may open the list.
        waiting=waiting.count() if url else None,
        wishes=waiting.count_wishes() if url else 0,
        wishes_url=url + Choice(may_want_to_stop=True).query(),
    )


class DeskPage(Page):
    """A page with tabs that lead to the others of the desk."""

    is_below_list: ClassVar[bool] = False
    """Whether it is about one row of the model's list, to which it leads back."""

    @cached_property
    def waiting(self) -> WaitingList:
        return WaitingList(self.viewer)

    def render(self, shown: object, *, title: object = None, **more: object) -> HttpResponse:
        tabs = tabs_of(self.waiting, self.name)
        return super().render(shown, title=title, tabs=tabs, has_list=self.is_below_list, **more)
