"""Filters and a tag that format what the admin's pages show."""

from collections.abc import Callable

from django.template import Library
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext

from cellcast_django.admin.display.texts import (
    ago,
    exact_seconds,
    exact_time,
    grouped,
    machine_time,
    media_links,
    readable_number,
)

register = Library()
FILTERS: list[Callable[..., str]] = [
    *(ago, exact_seconds, exact_time, machine_time),
    *(grouped, media_links, readable_number),
]
for each in FILTERS:
    register.filter(each)


@register.simple_tag
def cellcast_language() -> SafeString:
    """Return the attributes of our texts where they are English on a page in another language.

    Otherwise a page that is written from right to left would scramble them.
    """
    is_translated = gettext("To answer") != "To answer"
    is_english = (get_language() or "en").partition("-")[0] == "en"
    return SafeString("" if is_translated or is_english else ' lang="en" dir="ltr"')
