"""The measured URLs, and one more by which the harness counts the rows."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from benchmarks import bare, by_hand
from benchmarks.models import BareEvent, HandMessage, HandStatus
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.signals import in_order, message_received, status_changed


def handler(**kwargs: Any) -> None:
    """React to nothing: what is measured is the app, not the host project."""


if settings.VARIANT == "in-order":
    in_order(handler)
if settings.VARIANT in {"handler", "in-order", "task"}:
    message_received.connect(handler)
    status_changed.connect(handler)


def counts(_request: HttpRequest) -> JsonResponse:
    """Tell what the tables hold; ``webhooks`` grows by one with each webhook that is stored."""
    if settings.VARIANT == "null":
        return JsonResponse({"webhooks": 0})
    if settings.VARIANT == "bare":
        return JsonResponse({"webhooks": BareEvent.objects.count()})
    if settings.VARIANT == "by-hand":
        return JsonResponse(
            {"webhooks": HandStatus.objects.count(), "messages": HandMessage.objects.count()}
        )
    return JsonResponse(
        {
            "webhooks": WebhookEvent.objects.count(),
            "messages": Message.objects.count(),
            "history": StatusChange.objects.count(),
            "duplicates": WebhookEvent.objects.filter(outcome="duplicate").count(),
            "waiting": WebhookEvent.objects.pending().count(),
        }
    )


measured = {
    "null": path("null", bare.null),
    "bare": path("bare", bare.webhook),
    "by-hand": path("by-hand", by_hand.WebhookView.as_view()),
}
urlpatterns = [
    measured.get(settings.VARIANT) or path("", include("cellcast_django.urls")),
    path("counts", counts),
]
