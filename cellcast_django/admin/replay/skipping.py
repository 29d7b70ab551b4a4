"""Skipping a handler that need not run for an event: a confirmation page, then the outcome."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.http import urlencode
from django.utils.translation import gettext

from cellcast_django import announcements
from cellcast_django.admin.audit import log_about
from cellcast_django.admin.display.handlers import Row, handler_rows
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.announcements.facts import handlers_of
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.models import WebhookEvent


class SkippingAdmin(ReadOnlyAdmin):
    """Events whose handlers can be skipped one by one."""

    def get_urls(self) -> list[URLPattern]:
        """Add the confirmation page."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_skip"
        view = outside_atomic_requests(self.admin_site.admin_view(self.skip_view))
        return [path("<int:pk>/skip/", view, name=name), *super().get_urls()]

    def handlers_of(self, request: HttpRequest, event: WebhookEvent) -> list[Row]:
        """Return each handler's outcome, with a link for those who may skip it."""
        rows = handler_rows(event, [callee.name for callee in handlers_of(event)])
        if event.is_unannounced and self.may(request, "announce"):
            address = self.url_of(WebhookEvent, "skip", event.pk)
            for row in rows:
                if not event.has_finished(row.name):
                    row.skip_url = f"{address}?{urlencode({'handler': row.name})}"
        return rows

    def skip_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for confirmation, then skip a handler."""
        if not self.has_view_permission(request) or not self.may(request, "announce"):
            raise PermissionDenied
        events: Any = self.get_queryset(request)
        event = events.select_related("message", "status_change").filter(pk=pk).first()
        name = request.GET.get("handler", "")
        if event is None or name not in {
            row.name for row in self.handlers_of(request, event) if row.skip_url
        }:
            raise Http404
        back_url = self.url_of(WebhookEvent, "change", pk)
        if request.method != "POST":
            return self._ask_whether_to_skip(request, name, back_url)
        if announcements.skip(pk, name):
            log_about(request, event, f"Skipped the handler {name}.")
            sentence = gettext("%(name)s is skipped.") % {"name": name}
            self.message_user(request, sentence, messages.SUCCESS)
        else:
            sentence = gettext("%(name)s was not skipped: it has run in the meantime.") % {
                "name": name
            }
            self.message_user(request, sentence, messages.WARNING)
        return HttpResponseRedirect(back_url)

    def _ask_whether_to_skip(self, request: HttpRequest, name: str, back_url: str) -> HttpResponse:
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Skip this handler"),
            "opts": self.opts,
            "media": self.media,
            "name": name,
            "back_url": back_url,
        }
        return TemplateResponse(request, "admin/cellcast_django/webhookevent/skip.html", context)
