"""The app's own pages, for the templates of Django's pages to link to."""

from django.contrib.admin.sites import all_sites
from django.http import HttpRequest
from django.template import Library, RequestContext

from cellcast_django.admin.pages.registry import pages_of

register = Library()


@register.simple_tag(takes_context=True)
def cellcast_pages(context: RequestContext) -> dict[str, str]:
    """Return the addresses of the pages of this admin site that this person may open, by name."""
    request: HttpRequest = context.request
    name = getattr(request, "current_app", None)
    site = next((site for site in all_sites if site.name == name), None)
    pages = pages_of(site) if site else None
    return pages.page_urls(request) if pages else {}
