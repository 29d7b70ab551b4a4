"""Skipping a handler that need not run for an event: a confirmation page, then the outcome."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern
from django.utils.http import urlencode
from django.utils.translation import gettext

from cellcast_django import handlers
from cellcast_django.admin.display.handlers import HandlerRow, handler_rows
from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.handlers.facts import handlers_of
from cellcast_django.models import WebhookEvent


class SkippingAdmin(ReadOnlyAdmin):
    """Events whose handlers can be skipped one by one."""

    def get_urls(self) -> list[URLPattern]:
        pattern = self.page_pattern("<int:pk>/skip/", self.skip_view, "skip")
        outside_atomic_requests(pattern.callback)
        return [pattern, *super().get_urls()]

    def handlers_of(self, request: HttpRequest, event: WebhookEvent) -> list[HandlerRow]:
        """Return each handler's outcome, with a link for those who may skip it."""
        rows = handler_rows(event, [callee.name for callee in handlers_of(event)])
        if event.is_unfinished and self.may(request, "rerun"):
            url = self.url_of(WebhookEvent, "skip", event.pk)
            for row in rows:
                if not event.has_finished(row.name):
                    row.skip_url = f"{url}?{urlencode({'handler': row.name})}"
        return rows

    def skip_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for confirmation, then skip a handler."""
        self.require(request, "rerun")
        events = self.get_queryset(request).select_related("message", "status_change")
        event = get_object_or_404(events, pk=pk)
        name = request.GET.get("handler", "")
        if name not in {row.name for row in self.handlers_of(request, event) if row.skip_url}:
            raise Http404
        back_url = self.url_of(WebhookEvent, "change", pk)
        if request.method != "POST":
            return self.render_page(
                request,
                "webhookevent/skip.html",
                title=gettext("Skip this handler"),
                name=name,
                back_url=back_url,
            )
        if handlers.skip(pk, name):
            self.log_change(request, event, f"Skipped the handler {name}.")
            level, sentence = messages.SUCCESS, gettext("%(name)s is skipped.")
        else:
            level = messages.WARNING
            sentence = gettext("%(name)s was not skipped: it has run in the meantime.")
        self.message_user(request, sentence % {"name": name}, level)
        return HttpResponseRedirect(back_url)
