"""Gives the desk to an admin site."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin import AdminSite, ListFilter
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext

from cellcast_django.admin.extension import Extension, Link, Panel, extend
from cellcast_django.admin.lists.filters import HandledFilter
from cellcast_django.admin.lists.read_only import ModelAdmin, home_of, is_ours
from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.desk.activity import ActivityPage
from cellcast_django.desk.conversation import ConversationPage, panel_content
from cellcast_django.desk.customer import CustomerData
from cellcast_django.desk.figures import Figures, ReasonFilter
from cellcast_django.desk.marking import Handle, Reopen, mark_done, mark_new, reopen_column
from cellcast_django.desk.models import ToAnswer
from cellcast_django.desk.new_conversation import NewConversation
from cellcast_django.desk.overview import Overview
from cellcast_django.desk.page import TO_ANSWER, url_of_page
from cellcast_django.desk.setup import Setup
from cellcast_django.desk.to_answer import BACK, News, ToAnswerPage
from cellcast_django.desk.waiting import Choice, WaitingList
from cellcast_django.models import Message

LINKED: list[type[Page]] = [ToAnswerPage, NewConversation, Overview, Figures, ActivityPage, Setup]
"""The pages that all lists lead to."""


class Desk(Extension):
    """The desk's pages, and what it adds to those of the admin."""

    pages = [*LINKED, News, Handle, Reopen, ConversationPage, CustomerData]
    css = ["cellcast_desk/desk.css"]

    def actions(self, viewer: Viewer, model: type[Model]) -> Sequence[Callable[..., Any]]:
        may_mark = model is Message and viewer.may("handle_message")
        return [mark_done, mark_new] if may_mark else []

    def filters(self, model: type[Model]) -> Sequence[type[ListFilter]]:
        return [ReasonFilter] if model is Message else []

    def columns(self, viewer: Viewer, model: type[Model]) -> Sequence[Callable[[Any], Any]]:
        """Let what is done be reopened where somebody looks for it."""
        is_sought = {SEARCH_VAR, HandledFilter.parameter_name} & viewer.request.GET.keys()
        may_mark = model is Message and viewer.may("handle_message")
        return [reopen_column(viewer)] if may_mark and is_sought else []

    def panels_of_message(self, viewer: Viewer, message: Message) -> Sequence[Panel]:
        shows = panel_content(viewer, message)
        return [
            Panel("summary", "admin/cellcast_desk/done.html", shows),
            Panel("end", "admin/cellcast_desk/done_forms.html", shows),
        ]

    def panels_of_empty_list(self, viewer: Viewer) -> Sequence[Panel]:
        setup = Link(url_of_page(viewer, Setup.name), Setup.title)
        return [Panel("empty", "admin/cellcast_desk/nothing_yet.html", setup)]

    def links(self, viewer: Viewer) -> Sequence[Link]:
        return [
            Link(page.url(viewer), page.title, page.name)
            for page in LINKED
            if is_on(viewer.site, page) and page(viewer).is_allowed
        ]

    def contact_link(self, viewer: Viewer, message: int) -> Link:
        if not is_on(viewer.site, ConversationPage):
            return super().contact_link(viewer, message)
        return Link(ConversationPage.url(viewer, message), gettext("Open conversation"))

    def url_after_opt_out(self, viewer: Viewer, message: Message) -> str:
        """Return to the place in the list, or to the conversation, as it was narrowed."""
        choice = Choice.of(viewer.request)
        if viewer.request.GET.get(BACK) == TO_ANSWER and is_on(viewer.site, ToAnswerPage):
            neighbours = WaitingList(viewer).neighbours(choice, message)
            return ToAnswerPage.url_at(viewer, choice, neighbours.closest)
        url = super().url_after_opt_out(viewer, message)
        return url + choice.query() if is_on(viewer.site, ConversationPage) else url


class Door(ModelAdmin):
    """Puts *To answer* on the admin's front page and into its side bar."""

    def get_urls(self) -> list[URLPattern]:
        info = self.opts.app_label, self.opts.model_name
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="{}_{}_changelist".format(*info))]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(ToAnswerPage.url(Viewer.of(self.admin_site, request)))

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        viewer = Viewer.of(self.admin_site, request)
        return is_on(viewer.site, ToAnswerPage) and ToAnswerPage(viewer).is_allowed

    has_module_permission = has_view_permission

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        return {"view": self.has_view_permission(request)}


def is_on(site: AdminSite, page: type[Page]) -> bool:
    """Whether a site has the page: a host project's own class for its model has other pages."""
    return is_ours(site, page.model) if page.model else home_of(site) is not None


def register(site: AdminSite) -> None:
    """Show the desk on a site, whether or not its models have been registered yet."""
    extend(site, Desk())
    if not site.is_registered(ToAnswer):
        site.register(ToAnswer, Door)


register(admin.site)
