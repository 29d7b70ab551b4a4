"""The app's own pages on an admin site, and who may open them."""

from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse

from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.page import Page
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.desk.activity import ActivityLog
from cellcast_django.desk.figures import Figures
from cellcast_django.desk.overview import MODELS, Overview
from cellcast_django.desk.setup import Setup
from cellcast_django.desk.to_answer import Choice, messages_to_answer
from cellcast_django.models import Message

MAX_WAITING = 5  # customers on the app's index who wait for an answer


PAGES: list[type[Page]] = [Overview, Figures, ActivityLog, Setup]


class PagesAdmin(ReadOnlyAdmin):
    """Adds the app's own pages to a site once, whichever of the models are registered."""

    def get_urls(self) -> list[URLPattern]:
        """Add the pages, unless another model of the site does."""
        urls = super().get_urls()
        return [*map(self._pattern, PAGES), *urls] if pages_of(self.admin_site) is self else urls

    def _pattern(self, page: type[Page]) -> URLPattern:
        """Return the URL pattern of a page, exempt from a host project's ``ATOMIC_REQUESTS``.

        The setup page waits for another request, which could wait for a lock held by this one.
        """

        def view(request: HttpRequest) -> HttpResponse:
            shown = page(self, request)
            if not shown.is_allowed:
                raise PermissionDenied
            details = shown.details()
            if isinstance(details, HttpResponse):
                return details
            pages = self.page_urls(request)
            others = {name: url for name, url in pages.items() if name != page.name}
            context = {"title": page.title, "pages": pages, "other_pages": others, **details}
            return self.render_page(request, f"cellcast_desk/{page.name}.html", **context)

        wrapped = outside_atomic_requests(self.admin_site.admin_view(view))
        return path(f"{page.name}/", wrapped, name=f"{self.opts.app_label}_{page.name}")

    def summary(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the app's index shows: who waits for an answer, and webhook health."""
        messages = messages_to_answer(self, request)
        waiting = {}
        if messages:
            waiting = {
                "list": messages.waiting_rows(request, Choice(), MAX_WAITING),
                "waiting": messages.count_waiting(request),
                "undo": messages.pop_undo(request),
            }
        return waiting | {"events": Overview(self, request).events()}

    def page_urls(self, request: HttpRequest) -> dict[str, str]:
        """Return the URLs of the pages that this person may open, by name."""
        site = self.admin_site.name
        pages = {
            page.name: reverse(f"admin:{self.opts.app_label}_{page.name}", current_app=site)
            for page in PAGES
            if page(self, request).is_allowed
        }
        if messages_to_answer(self, request) is not None:
            pages["to_answer"] = self.url_of(Message, "to_answer")
        return pages


def pages_of(site: AdminSite) -> PagesAdmin | None:
    """Return the admin that adds the pages to a site; ``None`` if the site has none."""
    for model in MODELS:
        if site.is_registered(model):
            model_admin = site.get_model_admin(model)
            if isinstance(model_admin, PagesAdmin):
                return model_admin
    return None
