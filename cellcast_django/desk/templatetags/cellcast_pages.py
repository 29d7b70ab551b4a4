"""Template tags: where the desk's pages are on an admin site, and what the app's index shows."""

from django.contrib.admin.sites import all_sites
from django.http import HttpRequest
from django.template import Library, RequestContext
from phonenumbers import PhoneNumber

from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.extension import extension_of
from cellcast_django.admin.lists.read_only import home_of
from cellcast_django.admin.viewer import Viewer
from cellcast_django.desk.admin import Desk
from cellcast_django.desk.links import conversation_url
from cellcast_django.desk.overview import events_part
from cellcast_django.desk.page import tabs_of, url_of_page
from cellcast_django.desk.waiting import WaitingList
from cellcast_django.error_reports import hides_variables

register = Library()


@register.simple_tag(takes_context=True)
@hides_variables
def cellcast_summary(context: RequestContext) -> Content | None:
    """Return what the app's index says to this user."""
    viewer = _viewer(context.request)
    if viewer is None:
        return None
    return Content(
        tabs=tabs_of(WaitingList(viewer)),
        events=events_part(viewer),
        setup_url=url_of_page(viewer, "setup"),
    )


@register.simple_tag(takes_context=True)
@hides_variables
def cellcast_conversation_url(context: RequestContext, number: str | PhoneNumber | None) -> str:
    """Return where the conversation with a number is; empty where this user may view none."""
    return (number and conversation_url(number, request=context.request)) or ""


def _viewer(request: HttpRequest) -> Viewer | None:
    name = getattr(request, "current_app", None)
    # A project that replaces the default site has two of that name, and uses the second.
    for site in all_sites:
        if site.name == name and home_of(site) and isinstance(extension_of(site), Desk):
            return Viewer.of(site, request)
    return None
