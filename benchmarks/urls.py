"""The measured URLs, and two more by which the harness looks inside the server."""

from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from benchmarks import bare, by_hand
from benchmarks.load import AUTHORIZATION, REPLY, REPORT
from benchmarks.models import BareEvent, HandMessage, HandStatus
from benchmarks.servers import VARIANTS
from cellcast_django import inbox
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.signals import in_order, message_received, status_changed


def handler(**kwargs: Any) -> None:
    """React to nothing: what is measured is the app, not the host project."""


if settings.VARIANT == "in-order":
    in_order(handler)
if settings.VARIANT in {"handler", "in-order", "task"}:
    message_received.connect(handler)
    status_changed.connect(handler)


if settings.VARIANT == "portable":  # as on a database for which there is no statement
    inbox.FAST_WAYS.clear()


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


def statements(request: HttpRequest) -> JsonResponse:
    """Send one webhook of each kind, and tell which SQL each costs."""
    prefix = request.GET["prefix"]
    _costs(f"{prefix}0000000000")  # a worker prepares its statements the first time
    return JsonResponse(_costs(f"{prefix}0000000001"))


def _costs(first_id: str) -> dict[str, Any]:
    variant = VARIANTS[settings.VARIANT]
    number = "+61400000009"
    report = REPORT % (first_id, number)
    webhooks = {
        "report": (variant.status_path, report),
        "duplicate": (variant.status_path, report),
        "later": (variant.status_path, report.replace("delivered", "failed")),
        "reply": (variant.reply_path, REPLY % (first_id, number)),
    }
    return {kind: _statements(*webhook) for kind, webhook in webhooks.items()}


def _statements(url: str, body: str) -> dict[str, Any]:
    questions = _questions()
    with CaptureQueriesContext(connection) as captured:
        response = Client().generic(
            "POST", url, body, "application/json", headers={"authorization": AUTHORIZATION}
        )
    sql = [query["sql"] for query in captured]
    round_trips = _questions() - questions - 1 if connection.vendor == "mysql" else len(sql)
    if response.status_code != HTTPStatus.OK:
        raise RuntimeError(f"{url} answered {response.status_code}")
    return {"round_trips": round_trips, "sql": sql}


def _questions() -> int:
    """MariaDB's own count, because MySQLdb's switching of autocommit is not in Django's log."""
    if connection.vendor != "mysql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        return int(cursor.fetchone()[1])


measured = {
    "null": path("null", bare.null),
    "bare": path("bare", bare.webhook),
    "by-hand": path("by-hand", by_hand.WebhookView.as_view()),
}
urlpatterns = [
    measured.get(settings.VARIANT) or path("", include("cellcast_django.urls")),
    path("counts", counts),
    path("statements", statements),
]
