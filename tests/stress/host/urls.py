"""The URLs of the host project: the webhooks, the admin, and what its own code would do."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path
from django.views.decorators.csrf import csrf_exempt

from cellcast_django.models import Message


@csrf_exempt
def record_sent(request: HttpRequest) -> HttpResponse:
    """Record a message as the code that sends does, right after the API's answer."""
    Message.objects.record_sent(
        request.GET["id"], receiver=request.GET["receiver"], body=request.GET["body"]
    )
    return HttpResponse("recorded")


urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("sms/", include("cellcast_django.urls")),
    path("record-sent", record_sent),
]
