"""Template tags: links to the app's own admin pages, and filters that format what they show."""

from collections.abc import Callable
from typing import Any

from django.contrib.admin.sites import all_sites
from django.http import HttpRequest
from django.template import Library, RequestContext
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext

from cellcast_django.admin.display.badges import reason_html
from cellcast_django.admin.display.texts import (
    ago,
    brief_ago,
    day_words,
    exact_seconds,
    exact_time,
    grouped,
    machine_time,
    media_links,
    readable_number,
)
from cellcast_django.desk.admin import PagesAdmin, pages_of

register = Library()
FILTERS: list[Callable[..., str]] = [
    *(ago, brief_ago, day_words, exact_seconds, exact_time, machine_time),
    *(grouped, media_links, readable_number, reason_html),
]
for each in FILTERS:
    register.filter(each)


@register.simple_tag(takes_context=True)
def cellcast_pages(context: RequestContext) -> dict[str, str]:
    """Return the URLs, by name, of this admin site's pages that the user may open."""
    pages = _pages(context.request)
    return pages.page_urls(context.request) if pages else {}


@register.simple_tag(takes_context=True)
def cellcast_summary(context: RequestContext) -> dict[str, Any]:
    """Return what the app's index says of replies and webhooks to this user."""
    pages = _pages(context.request)
    return pages.summary(context.request) if pages else {}


@register.simple_tag(takes_context=True)
def cellcast_url(context: RequestContext, page: str) -> str:
    """Return the URL of one of the pages of messages, on this admin site."""
    current_app = getattr(context.request, "current_app", None)
    return reverse(f"admin:cellcast_django_message_{page}", current_app=current_app)


@register.simple_tag
def cellcast_language() -> SafeString:
    """Return the attributes of our texts where they are English on a page in another language.

    Otherwise a page that is written from right to left would scramble them.
    """
    is_translated = gettext("To answer") != "To answer"
    is_english = (get_language() or "en").partition("-")[0] == "en"
    return SafeString("" if is_translated or is_english else ' lang="en" dir="ltr"')


def _pages(request: HttpRequest) -> PagesAdmin | None:
    name = getattr(request, "current_app", None)
    # A project that replaces the default site has two of that name, and uses the second.
    candidates = (pages_of(site) for site in all_sites if site.name == name)
    return next((pages for pages in candidates if pages is not None), None)
