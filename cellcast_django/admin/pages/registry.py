"""The app's own pages on an admin site, and who may open them."""

from collections.abc import Callable
from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.pages import activity, overview, setup
from cellcast_django.admin.pages.figures import Figures
from cellcast_django.admin.pages.overview import Overview
from cellcast_django.admin.pages.to_answer import Choice, ToAnswerAdmin
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.models import Message

MAX_WAITING = 5  # customers on the app's index who wait for an answer


class PagesAdmin(ReadOnlyAdmin):
    """Adds the app's own pages to a site once, whichever of the models are registered."""

    def get_urls(self) -> list[URLPattern]:
        """Add the pages, unless another model of the site does."""
        urls = super().get_urls()
        if pages_of(self.admin_site) is not self:
            return urls
        return [
            self._page("overview", self.overview_view),
            self._page("figures", self.figures_view),
            self._page("activity", self.activity_view),
            self._page("setup", self.setup_view),
            *urls,
        ]

    def _page(self, name: str, view: Callable[[HttpRequest], HttpResponse]) -> URLPattern:
        """Return the URL pattern of a page, exempt from a host project's ``ATOMIC_REQUESTS``.

        The setup page waits for another request, which could wait for a lock held by this one.
        """
        wrapped = outside_atomic_requests(self.admin_site.admin_view(view))
        return path(f"{name}/", wrapped, name=f"{self.opts.app_label}_{name}")

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        if not self.may_see_overview(request):
            raise PermissionDenied
        shown = Overview(self, request)
        messages = self.messages_to_answer(request)
        return self._render(
            request,
            "overview",
            _("Overview"),
            {
                "events": shown.events(),
                "recovery": shown.recovery(),
                "although_opted_out": shown.although_opted_out(),
                "to_answer": messages.waiting(request) if messages else None,
            },
        )

    def figures_view(self, request: HttpRequest) -> HttpResponse:
        if not self.may_see_figures(request):
            raise PermissionDenied
        shown = Figures(self, request)
        if request.GET.get("format") == "csv":
            self.log_list(request, Message, f"Exported the figures of {shown.choice.key}.")
            return shown.as_csv()
        return self._render(request, "figures", _("Figures"), shown.details())

    def activity_view(self, request: HttpRequest) -> HttpResponse:
        """Show who did what, or return it as a file."""
        if not self.may_see_activity(request):
            raise PermissionDenied
        if request.GET.get("format") == "csv":
            return activity.as_csv(self, request)
        shown = {"page": activity.details(self, request)}
        return self._render(request, "activity", _("Activity"), shown)

    def summary(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the app's index shows: who waits for an answer, and webhook health."""
        messages = self.messages_to_answer(request)
        waiting = {}
        if messages:
            waiting = {
                "list": messages.waiting_rows(request, Choice(), MAX_WAITING),
                "waiting": messages.count_waiting(request),
                "undo": messages.pop_undo(request),
            }
        return waiting | {"events": Overview(self, request).events()}

    def setup_view(self, request: HttpRequest) -> HttpResponse:
        """Show how to set up webhooks, and send one as a test."""
        if not self.may_set_up(request):
            raise PermissionDenied
        return self._render(request, "setup", _("Setup"), setup.details(self, request))

    def may_see_overview(self, request: HttpRequest) -> bool:
        return any(self.may_view(request, model) for model in overview.MODELS)

    def may_see_figures(self, request: HttpRequest) -> bool:
        """Whether this person may view messages, and the host shows them all of these."""
        is_restricted = Overview(self, request).is_restricted
        return self.may_view(request, Message) and not is_restricted(Message)

    def may_see_activity(self, request: HttpRequest) -> bool:
        return request.user.has_perm(activity.PERMISSION)

    def may_set_up(self, request: HttpRequest) -> bool:
        """Whether this person may open the setup page and send tests."""
        return request.user.has_perm(setup.PERMISSION)

    def page_urls(self, request: HttpRequest) -> dict[str, str]:
        """Return the URLs of the pages that this person may open, by name."""
        allowed = {
            "overview": self.may_see_overview(request),
            "figures": self.may_see_figures(request),
            "activity": self.may_see_activity(request),
            "setup": self.may_set_up(request),
        }
        site = self.admin_site.name
        pages = {
            name: reverse(f"admin:{self.opts.app_label}_{name}", current_app=site)
            for name, is_allowed in allowed.items()
            if is_allowed
        }
        if self.messages_to_answer(request) is not None:
            pages["to_answer"] = self.url_of(Message, "to_answer")
        return pages

    def messages_to_answer(self, request: HttpRequest) -> ToAnswerAdmin | None:
        """Return the admin with the page *To answer*; ``None`` if this person may not view it."""
        if not self.may_view(request, Message):
            return None
        messages = self.admin_site.get_model_admin(Message)
        return messages if isinstance(messages, ToAnswerAdmin) else None

    def _render(
        self, request: HttpRequest, name: str, title: Promise, details: dict[str, Any]
    ) -> HttpResponse:
        pages = self.page_urls(request)
        others = {other: url for other, url in pages.items() if other != name}
        return self.render_page(
            request, f"{name}.html", title=title, pages=pages, other_pages=others, **details
        )


def pages_of(site: AdminSite) -> PagesAdmin | None:
    """Return the admin that adds the pages to a site; ``None`` if the site has none."""
    for model in overview.MODELS:
        if site.is_registered(model):
            model_admin = site.get_model_admin(model)
            if isinstance(model_admin, PagesAdmin):
                return model_admin
    return None
