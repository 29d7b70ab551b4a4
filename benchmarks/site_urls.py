"""The admin as the app makes it, and beside it as Django makes it from one line a model."""

from typing import Any

from django.contrib import admin
from django.urls import include, path

from cellcast_django.models import Message, StatusChange, WebhookEvent

plain = admin.AdminSite(name="plain")


@admin.register(Message, site=plain)
class PlainMessageAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What one writes at first."""

    list_display = ["created_at", "direction", "contact", "body", "status"]
    list_filter = ["direction", "status", "created_at"]
    search_fields = ["contact", "cellcast_id", "body"]
    date_hierarchy = "created_at"


@admin.register(StatusChange, site=plain)
class PlainStatusChangeAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What one writes at first."""

    list_display = ["recorded_at", "message", "status", "previous_status", "applied"]
    list_filter = ["status", "applied", "recorded_at"]
    search_fields = ["message__contact", "message__cellcast_id"]
    date_hierarchy = "recorded_at"
    raw_id_fields = ["message", "event"]


@admin.register(WebhookEvent, site=plain)
class PlainWebhookEventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What one writes at first."""

    list_display = ["received_at", "kind", "outcome", "contact", "message"]
    list_filter = ["outcome", "kind", "endpoint", "received_at"]
    search_fields = ["contact", "cellcast_id", "body"]
    date_hierarchy = "received_at"
    raw_id_fields = ["message"]


urlpatterns: list[Any] = [
    path("admin/", admin.site.urls),
    path("plain/", plain.urls),
    path("", include("cellcast_django.urls")),
]
