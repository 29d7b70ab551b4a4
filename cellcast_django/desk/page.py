"""What the desk's pages share."""

from django.http import HttpResponse

from cellcast_django.admin.extension import extension_of
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer


def url_of_page(viewer: Viewer, name: str) -> str:
    """Return where a page of the desk is; ``""`` if this person may not open it."""
    links = extension_of(viewer.site).links(viewer)
    return next((link.url for link in links if link.name == name), "")


class DeskPage(Page):
    """A page that leads to the others of the desk."""

    def render(self, shown: object, *, title: object = None, **more: object) -> HttpResponse:
        links = extension_of(self.viewer.site).links(self.viewer)
        others = [link for link in links if link.name != self.name]
        return super().render(shown, title=title, pages=others, **more)
